"""What a path of a configuration means. PyTorch is not imported here: commands ask before anything heavy."""

from __future__ import annotations

from pathlib import Path

from magi1.errors import MagiUsageError
from wmfiles import NameProblem, short, user_path

EMBEDDED = "magi1:"
"""A path that begins so lies in this package: ``magi1:weights/tiny/vae``."""
TINY_CONFIG = "magi1:configs/tiny_config.json"
"""The configuration of the small generator that comes along."""


def located(folder: str | Path) -> Path:
    """A path of a configuration: as given, from the home folder (``~``), or in this package."""
    text = str(folder)
    if text.startswith(EMBEDDED):
        return Path(__file__).parents[1] / text.removeprefix(EMBEDDED)
    try:
        return user_path(text)
    except NameProblem as error:
        raise MagiUsageError(f"folder {short(text)}: {error}") from None
