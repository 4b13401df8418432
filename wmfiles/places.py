"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(*below: str) -> Path:
    """`~/.cache/wmreward`, or below `XDG_CACHE_HOME`; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache").joinpath("wmreward", *below)
