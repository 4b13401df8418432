"""The one error that users of this package see."""

from weightfiles.errors import WeightsError

__all__ = ["WeightsError"]
