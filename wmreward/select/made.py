"""Videos that our own commands left as candidates: of what, and what they are called.

RUN/candidates/JOB.VARIANT.SEED/video.mp4    of `wmreward batch`, with a record.json
NAME.candidates/HASH-seedSEED.mp4            of `wmreward generate --best_of`, for the video NAME
"""

from __future__ import annotations

import re
from pathlib import Path

from wmfiles import read_json
from wmreward.errors import FileError

_CANDIDATES = "candidates"
_OF_SEARCH = re.compile(r"[0-9a-f]{8}-(seed\d+\.\w+)")


def job_of(video: Path) -> Path | None:
    """The job of a batch run that a video is a candidate of, as a path below the run; None for others."""
    folder = video.absolute().parent
    if folder.parent.name != _CANDIDATES:
        return None
    try:
        job = read_json(folder / "record.json", refuse=FileError)["job"]
    except (FileError, KeyError, TypeError):
        return None
    return video.parent.parent.parent / job if isinstance(job, str) else None


def called(video: Path) -> str:
    """A name for a copy of a video that says which it is: mostly its own."""
    if job_of(video) is not None:
        return video.absolute().parent.name + video.suffix
    of_search = _OF_SEARCH.fullmatch(video.name)
    folder = video.absolute().parent
    if of_search and folder.suffix == f".{_CANDIDATES}":
        return f"{folder.stem}-{of_search[1]}"
    return video.name
