"""What is recorded of a scored video, and which records answer which question."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmreward.video_io import Faults

if TYPE_CHECKING:
    from wmreward.surprise.result import SurpriseResult

Record = dict[str, Any]

NOT_DECISIVE = frozenset({"versions", "device", "weights_source"})
"""Settings that do not decide a score: it is the same wherever it was computed and the weights lay."""


def settings_id(settings: Mapping[str, Any]) -> str:
    """Short hash of all settings that decide a score."""
    decisive = {key: value for key, value in settings.items() if key not in NOT_DECISIVE}
    if decisive.get("frame_strides") == [1]:
        del decisive["frame_strides"]  # records from before there was a choice have the same id
    sampling = dict(settings["sampling"])
    if sampling["fps"] is not None:
        del sampling["max_frames"]  # has no part in sampling at a true rate
    text = json.dumps(decisive | {"sampling": sampling}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_record(
    path: Path,
    sha256: str,
    result: SurpriseResult,
    settings: Mapping[str, Any],
    seconds: float,
    pictures: Iterable[Path] = (),
) -> Record:
    """Everything about one score. ``settings`` are those of the run, of which the result knows a part."""
    record = {
        "path": str(path),
        "surprise": float(result),
        "reward": result.reward,
        "score": settings["score"],
        "num_windows": len(result.windows),
        "num_frames": result.num_frames,
        "unused_tail_frames": result.unused_tail_frames,
        "effective_fps": result.effective_fps,
        "source_fps": result.source_fps,
        "faults": result.faults.to_json(),
        "video_sha256": sha256,
        "settings_id": settings_id(settings),
        "seconds": round(seconds, 3),
        "per_window": result.per_window.tolist(),
        "windows": [window._asdict() for window in result.windows],
    }
    if drawn := [str(picture) for picture in pictures]:
        record["pictures"] = drawn
    record["settings"] = dict(settings)
    return record


def faults_of(record: Mapping[str, Any]) -> Faults | None:
    """What was doubtful about the video of a record; None where the record does not tell."""
    try:
        return Faults(**record["faults"])
    except (KeyError, TypeError):
        return None


def to_json(record: Mapping[str, Any]) -> str:
    """One line of strict JSON; what is not a number becomes null."""
    try:
        return json.dumps(record, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(record), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Two records with this in common are the same result."""
    return record["path"], record.get("video_sha256"), record.get("settings_id")


class Finished:
    """Records of earlier runs with the same settings, found by the content of the video."""

    def __init__(self, records: Iterable[Record], settings: str) -> None:
        usable = [
            record
            for record in records
            if record.get("settings_id") == settings and record.get("surprise") is not None
        ]
        self._known = {identity(record) for record in usable}
        self._by_content = {record.get("video_sha256"): record for record in usable}
        self._by_path = {identity(record)[:2]: record for record in usable}

    def find(self, path: Path, sha256: str) -> Record | None:
        """The record of this video, or of a copy of it under another name (then under this name)."""
        record = self._by_path.get((str(path), sha256)) or self._by_content.get(sha256)
        return None if record is None else {**record, "path": str(path)}

    def __contains__(self, record: Record) -> bool:
        """Whether exactly this record, name included, is in the file."""
        return identity(record) in self._known


def in_input_order(
    records: Iterable[Record], videos: Iterable[Path], settings: str
) -> list[Record]:
    """Records of other videos and settings first, as they were; then those of this run in its order."""
    position = {str(path): index for index, path in enumerate(videos)}

    def place(record: Record) -> int:
        ours = record.get("settings_id") == settings
        return position.get(record["path"], -1) if ours else -1

    return sorted(records, key=place)


def without_repeats(records: Iterable[Record]) -> list[Record]:
    """The first of each."""
    kept: dict[tuple[Any, ...], Record] = {}
    for record in records:
        kept.setdefault(identity(record), record)
    return list(kept.values())
