"""Versions that belong beside every result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import av
import torch

try:
    __version__ = version("wmreward")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Of this package and of what its numbers depend on."""
    return {
        "wmreward": __version__,
        "torch": torch.__version__,
        "av": av.__version__,
        "python": platform.python_version(),
    }
