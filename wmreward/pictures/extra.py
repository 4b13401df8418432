"""Pictures with text need the extra `plot`: Matplotlib draws, Pillow writes, DejaVu is the font."""

from __future__ import annotations

from wmreward.errors import UsageError


def has_pictures() -> bool:
    """Whether the extra is there."""
    try:
        check_pictures("a picture")
    except UsageError:
        return False
    return True


def check_pictures(what: str) -> None:
    """Raise ``UsageError`` unless the extra is there; ``what`` needs it, such as ``--plot``."""
    try:
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{what} needs {error.name or 'matplotlib'}, which is not installed: "
            "pip install -e '.[plot]' in the clone"
        ) from error
