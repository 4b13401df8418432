"""Real clips as they are compared, kept on disk: pictures and masks at the target size, and their headers.

One zip file per clip and setting. Pictures are stored as differences to the one before (the camera is
static, so they pack well: 10 to 20 MB for 5 s of 4K), masks as single bits. Nothing of a generated clip
is ever kept, so a folder of the same name with new clips cannot return old scores.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

from wmfiles import read_json, user_cache
from wmreward.errors import FileError, WMRewardError
from wmreward.files import atomic_path, write_text
from wmreward.physics_iq.clips import Take, read_take
from wmreward.physics_iq.measures.metrics import Look
from wmreward.video.container import check_file
from wmreward.video.types import UInt8Array

_FORMAT = 2
_EDGE_BYTES = 1 << 16


def default_folder() -> Path:
    """`~/.cache/wmreward/physics_iq`, or below `XDG_CACHE_HOME`."""
    return user_cache("physics_iq")


def fingerprint(path: Path) -> str:
    """Tells a file from any other: size, time of change, and a hash of its beginning and end."""
    facts = path.stat()
    digest = hashlib.sha256(f"{facts.st_size} {facts.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        file.seek(max(0, facts.st_size - _EDGE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:32]


def cache_name(settings: Mapping[str, Any]) -> str:
    """The file for a clip (by `fingerprint`) and all that decides what is seen of it."""
    # Another FFmpeg may turn YUV to RGB with other roundings.
    text = json.dumps({"format": _FORMAT, "av": av.__version__, **settings}, sort_keys=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.zip"


def known_take(folder: Path, path: Path) -> Take:
    """`read_take` of a clip, kept in `folder`: FFmpeg decodes some frames to tell what a file holds.

    Raises:
        VideoError: as `read_take`.
    """
    check_file(path)
    name = cache_name({"take": fingerprint(path)})
    file = (folder / name).with_suffix(".json")
    with suppress(FileError, TypeError):  # not there, or damaged
        return Take(**read_json(file, refuse=FileError))
    take = read_take(path)
    with suppress(WMRewardError):  # a cache that can only be read serves as well
        write_text(file, json.dumps(asdict(take)))
    return take


def write_looks(path: Path, looks: Iterable[Look]) -> None:
    """Store what is seen of a clip, frame by frame; the file appears only when it is complete.

    Raises:
        WMRewardError: if it cannot be written: disk full, no permission.
    """
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        previous: UInt8Array | np.uint8 = np.uint8(0)
        index = -1
        for index, (picture, moving) in enumerate(looks):
            file.writestr(f"{index:06d}.picture", (picture - previous).tobytes())
            file.writestr(f"{index:06d}.mask", np.packbits(moving).tobytes())
            previous = picture
        height, width = moving.shape
        file.writestr("size.json", json.dumps([index + 1, height, width]))


def read_looks(path: Path) -> Iterator[Look]:
    """What `write_looks` stored.

    Raises:
        WMRewardError: if the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            num_frames, height, width = json.loads(file.read("size.json"))
            picture = np.zeros((height, width, 3), np.uint8)
            for index in range(num_frames):
                change = np.frombuffer(file.read(f"{index:06d}.picture"), np.uint8)
                picture = picture + change.reshape(picture.shape)
                bits = np.frombuffer(file.read(f"{index:06d}.mask"), np.uint8)
                moving = np.unpackbits(bits, count=height * width).reshape(height, width)
                yield Look(picture, moving.view(np.bool_))
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise WMRewardError(f"{path}: this cached clip is damaged; delete it ({error})") from error
