"""The one error that users of this package see."""


class WeightsError(RuntimeError):
    """Weights are missing, damaged or of another model; the message is one line that says what to do."""
