"""Single pictures, and folders of pictures that stand for a video."""

from __future__ import annotations

import re
from collections.abc import Generator
from fractions import Fraction
from functools import partial
from pathlib import Path

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.container import (
    check_size,
    describe,
    explain,
    opened,
    probe_file,
    refuse_animated_webp,
)
from wmreward.video.integrity.structure import walk
from wmreward.video.messages import Messages
from wmreward.video.rgb import RgbConverter
from wmreward.video.sampling import exact_rate
from wmreward.video.types import SourceFrame, UInt8Array, VideoInfo

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts frame 2 before frame 10, folder by folder, ignoring case."""
    pieces = re.split(r"(\d+)", path.as_posix().casefold())
    keys = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces]
    return keys, path.as_posix()


def images_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order, without hidden files."""
    found = (p for p in folder.iterdir() if is_image(p))
    return sorted(found, key=natural_key)


def is_image(path: Path) -> bool:
    """Does the name say picture? Names starting with a dot do not count."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_still(path: Path) -> bool:
    """Is a picture a single one, and no animation?"""
    try:
        return probe_file(path).num_frames == 1
    except VideoError:
        return True


class ImageFolder:
    """A folder of equally sized pictures read as a video at `fps`, in natural order of names.

    Gaps in the numbering are ignored: exports of every second frame, or of hand-picked frames,
    are common, and names without numbers are fine too. Only pictures that are used get opened.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        self.path = folder
        self.rate = exact_rate(fps)
        self.images = images_in(folder)
        if not self.images:
            raise VideoError(folder, "is a folder without images; give a video or a frame folder")
        self.info = self._probe()

    def _probe(self) -> VideoInfo:
        first = probe_image(self.images[0])
        return VideoInfo(
            path=self.path,
            width=first.width,
            height=first.height,
            fps=float(self.rate),
            duration_s=float(len(self.images) / self.rate),
            num_frames=len(self.images),
            codec=first.codec,
            pix_fmt=first.pix_fmt,
        )

    def __iter__(self) -> Generator[SourceFrame, None, None]:
        for index, image in enumerate(self.images):
            yield SourceFrame(index, Fraction(index) / self.rate, partial(self._read, image))

    def _read(self, image: Path) -> UInt8Array:
        picture = read_image(image)
        height, width = picture.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise VideoError(
                self.path,
                f"holds images of different sizes: {self.images[0].name} has {self.info.width} x "
                f"{self.info.height} pixels, {image.name} has {width} x {height}",
            )
        return picture


def read_image(path: Path) -> UInt8Array:
    """A picture as uint8 [H, W, 3], turned as its EXIF orientation says, on black."""
    return _open_image(path)[1]


def probe_image(path: Path) -> VideoInfo:
    """Facts about a picture."""
    return _open_image(path)[0]


def _open_image(path: Path) -> tuple[VideoInfo, UInt8Array]:
    problem, advice = "is not an image that FFmpeg can read", "remove it or copy it again"
    messages = Messages()
    # A file object instead of the name: FFmpeg takes a % in an image's name for a pattern.
    with open_regular(path, refuse=VideoError) as file:
        refuse_animated_webp(path, file)
        with (
            explain(path, problem, advice),
            opened(path, file, messages, problem, advice) as container,
            messages.heard(),
        ):
            stream = container.streams.video[0] if container.streams.video else None
            frame = next(container.decode(stream), None) if stream else None
            if stream is None or frame is None:
                raise VideoError(path, f"{problem}; {advice}")
            check_size(path, frame.width, frame.height)
            info, picture = describe(path, container, stream, frame), RgbConverter()(frame)
    found = walk(path)
    if found.cut or found.damage or messages.count or frame.is_corrupt:
        reason = "is cut off" if found.cut else f"is damaged ({found.damage or messages.first})"
        raise VideoError(path, f"{reason}; {advice}")
    return info, picture
