"""The one error that users of this package see."""

from wmweights.errors import WeightsError

__all__ = ["WeightsError"]
