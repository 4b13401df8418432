"""What the embedded world models can judge: simulated balls and boxes, as they were trained on nothing else.

Whether a clip is simulated cannot be seen for certain, but that it is ours can be known: it comes along, or a
record of the small generator stands beside it. Of all other clips it is said that the verdict means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from vjepa2.files.sources import EMBEDDED, EMBEDDED_SOURCE
from wmfiles import read_json
from wmreward.errors import FileError, named, one_line
from wmreward.surprise.models.choice import ModelChoice
from wmreward.video.content import video_sha256

_GENERATOR = "tiny"
"""The small generator, which makes nothing but simulated scenes."""

SHIPPED = frozenset(
    {
        "ba871528146eed57839f22adf40f7e17ae0a1633a25cb946777aa09808a28a2d",  # example/balls_impossible.mp4
        "d2c2bd716128011d2f02de221d6d1de60428ba00df6548834ecab1f40a691932",  # example/balls_possible.mp4
        "3691309699f4c8f23c5cd9376ec56ba35564e4d35c3a2fed6c47f6ffdea1a4ff",  # prompt/embedded/blue_box.mp4
        "ae05f79164dc984a85c35ce3e250063cc7a247cdb7ad5cd219f43d31e5220936",  # …/checkered_ball.mp4
        "d2ea175936558705e2c5e694a1267707bc41be232de301892a71385cda3faf5f",  # …/pendulum.mp4
        "cb36ec8d79ad8f2925147f844f6e7d036619abbd74e4b745f7306ded93293357",  # …/ramp.mp4
        "dbc1277b44842b0c41f2e9b3434fb685c0375b159e0d1b82ba03b1d40b7a877c",  # …/red_box.mp4
        "3f786a522e207aa47cebe5478cb58529d1c129ac10c0e7b60bdfa2bb21e4a7c3",  # …/triangle.mp4
    }
)
"""Hashes of the simulated clips that come along."""

_LONGEST_RECORD = 2**24


def meaningless(model: str, weights: str | None, videos: Mapping[Path, str]) -> str | None:
    """One line if videos are judged by a model that never saw their like; None: nothing is known against it.

    Args:
        model: Name of the world model.
        weights: Others than its own, of which nothing is known.
        videos: Their hashes by path.
    """
    foreign = unlike(model, weights, videos)
    if not foreign:
        return None
    who = f"{len(foreign)} of {len(videos)} videos"
    if len(foreign) == 1:
        who = one_line(foreign[0].name)
    return (
        f"{model} knows simulated balls and boxes only. For anything else its numbers mean nothing, and "
        f"{who} may be such ({named('model', 'vitg')} or vitl for real videos)"
    )


def meaningless_of(choice: ModelChoice, videos: Iterable[Any]) -> str | None:
    """The same of what is given to a function: files are read for their hashes where it matters.

    What an array shows is known to who made it.
    """
    if not choice.is_embedded:
        return None
    files = [video for video in videos if isinstance(video, Path)]
    return meaningless(choice.name, None, {file: video_sha256(file) for file in files})


def embedded(record: Mapping[str, Any]) -> str | None:
    """The embedded model that gave the score of a record; None: another, or one with other weights."""
    # A table has all in one row, and does not say the source.
    settings = record.get("settings") or record
    name, source = settings.get("model"), settings.get("weights_source", EMBEDDED_SOURCE)
    return str(name) if name in EMBEDDED and source == EMBEDDED_SOURCE else None


def unlike(model: str, weights: str | None, videos: Mapping[Path, str]) -> list[Path]:
    """Those of ``videos`` of which it is not known that the model has seen their like; see `meaningless`."""
    if model not in EMBEDDED or weights is not None:
        return []
    return [path for path, sha256 in videos.items() if not _is_ours(path, sha256)]


def _is_ours(path: Path, sha256: str) -> bool:
    return sha256 in SHIPPED or _generator(path) == _GENERATOR


def _generator(path: Path) -> str | None:
    """Of a video that `wmreward generate` wrote, as the record beside it says, if it speaks of this video."""
    record = path.with_suffix(".json")
    try:
        said = read_json(record, refuse=FileError, most=_LONGEST_RECORD)
        if PurePath(said.get("output", path)).suffix != path.suffix:
            return None  # of another video of the same name, as a.mp4 beside a.webm
        return str(said["settings"]["model_config"]["model_name"])
    except (FileError, KeyError, TypeError, AttributeError):
        return None
