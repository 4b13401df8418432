"""Lists of videos to generate: one job per line of JSON, as `prompt/README.md` describes.

    {"id": "0001", "mode": "i2v", "prompt": "A ball falls.", "init_image": "first.png", "seeds": [1, 2, 3]}

Files are named relative to the list. Ids and output names become names of files, so they are plain ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from wmfiles import json_lines, short
from wmreward.commands.kinds import MOST_SEEDS
from wmreward.errors import UsageError
from wmreward.files import misused, user_path, write_text

Mode = Literal["t2v", "i2v", "v2v"]
GIVEN = {"i2v": "init_image", "v2v": "init_video"}
"""The field that a mode needs and the others may not have."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 150
_LARGEST_SEED = 2**63 - 1
MOST_TEXT = 100_000
"""Characters of one field; no text encoder reads a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One video to generate, as often as there are seeds.

    Attributes:
        id: Unique in its list; letters, digits, dot, dash and underscore.
        mode: ``t2v`` (from text), ``i2v`` (an image opens it) or ``v2v`` (a video is continued).
        prompt: What the video shows.
        negative_prompt: What to guide away from.
        init_image: The image, for ``i2v``.
        init_video: The video, for ``v2v``.
        output_name: What the chosen video is called in the end; unique in its list.
        category: For tables; any text.
        seeds: Of the noise, one for each candidate.
    """

    id: str
    mode: Mode
    prompt: str
    negative_prompt: str = ""
    init_image: Path | None = None
    init_video: Path | None = None
    output_name: str = ""
    category: str | None = None
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.output_name:
            object.__setattr__(self, "output_name", f"{self.id}.mp4")

    @property
    def given(self) -> Path | None:
        """The image or video that it starts from."""
        return self.init_image or self.init_video

    def to_json(self) -> dict[str, Any]:
        """As in a list, without what is left at its default."""
        values = {
            "id": self.id,
            "mode": self.mode,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt or None,
            "init_image": self.init_image and str(self.init_image),
            "init_video": self.init_video and str(self.init_video),
            "output_name": self.output_name,
            "category": self.category,
            "seeds": list(self.seeds),
        }
        return {name: value for name, value in values.items() if value is not None}


def read_jobs(path: Path) -> list[BatchJob]:
    """Read a list; files in it are found relative to it, and need not exist.

    Raises:
        UsageError: naming the file and the line that is wrong.
    """
    jobs: list[BatchJob] = []
    seen: dict[str, int] = {}
    for number, entry in json_lines(path, refuse=misused):
        try:
            job = _job(entry, path.parent)
            # File systems may not tell upper case from lower.
            for name in (f"id {job.id!r}", f"output_name {job.output_name!r}"):
                if (first := seen.setdefault(name.casefold(), number)) != number:
                    raise ValueError(f"{name} is taken by line {first} already")
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
        jobs.append(job)
    if not jobs:
        raise UsageError(f"{path}: no jobs in it")
    return jobs


def write_jobs(path: Path, jobs: Iterable[BatchJob]) -> None:
    """Write a list that :func:`read_jobs` reads, at once."""
    write_text(path, "".join(f"{_line(job)}\n" for job in jobs))


def _line(job: BatchJob) -> str:
    text = json.dumps(job.to_json(), ensure_ascii=False)
    return text if _is_text(text) else json.dumps(job.to_json())


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: names of files need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _job(entry: Mapping[str, Any], folder: Path) -> BatchJob:
    known = {field.name for field in fields(BatchJob)}
    if unknown := sorted(entry.keys() - known):
        raise ValueError(f"unknown field {short(unknown[0])}; known are {', '.join(sorted(known))}")
    for name in ("id", "mode", "prompt"):
        if name not in entry:
            raise ValueError(f"{name!r} is missing")
    for name in sorted(entry.keys() - {"seeds"}):
        _check_text(name, entry[name])
    if entry["mode"] not in get_args(Mode):
        raise ValueError(f"mode {short(entry['mode'])} must be one of {', '.join(get_args(Mode))}")
    _check_given(entry)
    values = dict(entry)
    for name in GIVEN.values():
        if name in entry:
            values[name] = folder / user_path(entry[name])
    if "seeds" in entry:
        values["seeds"] = _seeds(entry["seeds"])
    job = BatchJob(**values)
    _check_name("id", job.id)
    _check_name("output_name", job.output_name)
    if not job.output_name.endswith(".mp4") or job.output_name == ".mp4":
        raise ValueError(f"output_name {job.output_name!r} must end in .mp4")
    return job


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be text, got {short(value)}")
    if len(value) > MOST_TEXT:
        raise ValueError(f"{name!r} has {len(value)} characters, more than {MOST_TEXT}")
    if name not in GIVEN.values() and not _is_text(value):
        raise ValueError(f"{name!r} holds half a character (an unpaired surrogate): {short(value)}")


def _check_given(entry: Mapping[str, Any]) -> None:
    mode = entry["mode"]
    for of_mode, name in GIVEN.items():
        if mode == of_mode and not entry.get(name):
            raise ValueError(f"mode {mode} needs {name!r}")
        if mode != of_mode and name in entry:
            raise ValueError(f"{name!r} has no meaning with mode {mode}")
    if mode == "t2v" and not entry["prompt"].strip():
        raise ValueError("mode t2v needs a 'prompt' that is not empty")


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"{field} {short(name)} is to name a file: up to {_LONGEST_NAME} letters, digits, '.', '-' "
            "and '_', the first one a letter or digit"
        )


def _seeds(value: Any) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(seed) is int for seed in value)
    if not whole or not value or not all(0 <= seed <= _LARGEST_SEED for seed in value):
        raise ValueError(f"'seeds' must be a list of whole numbers from 0 on, got {short(value)}")
    if len(value) > MOST_SEEDS:
        raise ValueError(f"'seeds' names {len(value)} seeds, more than {MOST_SEEDS}")
    if len(set(value)) < len(value):
        raise ValueError(f"'seeds' has a number twice: {short(value)}")
    return tuple(value)
