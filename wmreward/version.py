"""Versions that belong beside every result."""

from __future__ import annotations

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Of this package and of what its numbers depend on."""
    import platform

    import av
    import torch

    return {
        "wmreward": __version__,
        "torch": torch.__version__,
        "av": av.__version__,
        "python": platform.python_version(),
    }
