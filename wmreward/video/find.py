"""From command-line arguments to a list of videos."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wmfiles import printable, read_text, split_lines
from wmreward.errors import UsageError
from wmreward.files import misused, user_path
from wmreward.video.images import images_in, is_image, is_still, natural_key

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts"),
        *(".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp", ".y4m"),
    }
)

TABLES = (".csv", ".jsonl")
"""Of videos with their prompts, or of scores: never a video."""

MAP_ENDING = "map.mp4"
"""Of the videos with heat maps that `wmreward score --map` draws, behind a hash."""

_MAP = re.compile(rf"-[0-9a-f]{{8}}-{re.escape(MAP_ENDING)}$")

_A_FEW = 2
"""Images of a folder that may be a video; a single one is a picture."""


class Found(NamedTuple):
    """What is behind some arguments, each once.

    Attributes:
        videos: In order.
        left_out: What was passed over: folders, though they hold videos or images that may be one, and heat
            maps that `wmreward score --map` has drawn of other videos.
    """

    videos: list[Path]
    left_out: list[Path]

    def is_new_to(self, videos: Sequence[Path]) -> bool:
        """Whether it holds videos, none of which is among these."""
        return bool(self.videos) and not set(self.videos) & set(videos)


def notes_on(
    videos: Sequence[Path], left_out: Sequence[Path], image_fps: float | None
) -> tuple[str, ...]:
    """What is to be known of what was found, a line each.

    Args:
        videos, left_out: See :class:`Found`.
        image_fps: At which folders of images are read, where nobody has stated it; else None.
    """
    rate = _image_rate_note(videos, image_fps)
    maps = [path for path in left_out if _is_map(path)]
    folders = [path for path in left_out if path not in maps]
    return tuple(note for note in (_left_out_note(folders), _maps_note(maps), rate) if note)


def _left_out_note(folders: Sequence[Path]) -> str | None:
    if not folders:
        return None
    first, more = printable(str(folders[0])), len(folders) - 1
    if not more:
        return f"note: {first} was left out, as there are videos beside it: name it to have it taken, too"
    others = f"{more} more {'folder' if more == 1 else 'folders'}"
    return (
        f"note: {first} and {others} were left out, as there are videos beside them: name them to have them "
        "taken, too"
    )


def _maps_note(maps: Sequence[Path]) -> str | None:
    if not maps:
        return None
    first, more = printable(str(maps[0])), len(maps) - 1
    what = f"{first} was" if not more else f"{first} and {more} more were"
    return f"note: {what} left out, as heat maps that --map has drawn: name them to have them taken, too"


def _image_rate_note(videos: Sequence[Path], rate: float | None) -> str | None:
    folders = [video for video in videos if video.is_dir()]
    if rate is None:
        vain = "note: --image_fps is without effect: no video here is a folder of images"
        return None if folders else vain
    if not folders:
        return None
    first = printable(str(folders[0]))
    who = f"{first} is a folder" if len(folders) == 1 else f"{len(folders)} videos are folders"
    return (
        f"note: {who} of images without a frame rate: taken as {rate:g} frames a second; --image_fps F "
        "says another"
    )


def list_videos(arguments: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The videos that :func:`find_videos` finds."""
    return find_videos(arguments).videos


def find_videos(arguments: Iterable[str | os.PathLike[str]]) -> Found:
    """Resolve files, folders, glob patterns and list files to videos, in order, each once.

    - A file is taken whatever it is called.
    - A folder stands for all videos in it and below it, in natural order. If there are none,
      each folder of images in it, or itself, is one video. If there are some, folders of images
      below are left out, and so are heat maps that `wmreward score --map` has drawn.
    - A pattern such as `runs/**/*.mp4` stands for the videos and folders it matches.
    - A `.txt` file lists one of these per line, looked up beside the list first and then in the
      working directory; blank lines and lines starting with # are skipped.

    Raises:
        UsageError: naming the argument that is missing or holds no video.
    """
    found: dict[str, Path] = {}
    left: dict[str, Path] = {}
    for argument in arguments:
        if not str(argument).strip():
            raise UsageError(
                "a path to videos is empty: perhaps a shell variable in quotes is not set"
            )
        for part in _resolve_argument(str(argument)):
            for path in part.videos:
                found.setdefault(os.path.realpath(path), path)
            for path in part.left_out:
                left.setdefault(os.path.realpath(path), path)
    if not found:
        raise UsageError("no videos given: name files, folders, patterns or a .txt list")
    _refuse_pictures(list(found.values()))
    return Found(list(found.values()), [path for real, path in left.items() if real not in found])


def _refuse_pictures(videos: Sequence[Path]) -> None:
    """Raise ``UsageError`` if all of several videos are pictures: they were meant as one."""
    if len(videos) < _A_FEW or not all(map(is_image, videos)):
        return
    if any(path.is_dir() for path in videos) or not is_still(videos[0]):
        return
    folders = sorted({printable(str(path.parent)) for path in videos})
    more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    raise UsageError(
        f"these are {len(videos)} pictures, and no video among them: pictures that make one are named by "
        f"their folder, {folders[0]}{more} (--image_fps says how many make a second)"
    )


def _resolve_argument(argument: str) -> list[Found]:
    path = user_path(argument)
    if path.suffix.lower() == ".txt" and path.is_file():
        return _from_list(path)
    return [_resolve(argument, [Path()], where="")]


def _from_list(list_file: Path) -> list[Found]:
    lines = split_lines(read_text(list_file, refuse=misused))
    entries = [(n, line.strip()) for n, line in enumerate(lines, 1)]
    entries = [(n, entry) for n, entry in entries if entry and not entry.startswith("#")]
    if not entries:
        raise UsageError(f"{list_file}: lists no video; write one path per line")
    return [
        _resolve(entry, [list_file.parent, Path()], f"{list_file}, line {number}: ")
        for number, entry in entries
    ]


def _resolve(entry: str, bases: list[Path], where: str) -> Found:
    """The videos behind one entry, looked up in the first of `bases` that has it."""
    try:
        named = user_path(entry)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None
    for base in bases:
        path = base / named
        if path.is_dir():
            return _in_folder(path, where)
        if path.exists():
            _refuse_table(path, where)
            return Found([path], [])
    for base in bases:
        if (matches := _matches(base, entry)).videos:
            return matches
    if glob.has_magic(entry):
        raise UsageError(f"{where}no video matches {printable(entry)}")
    if "://" in entry:
        raise UsageError(f"{where}{printable(entry)} is a web address: download it first")
    raise UsageError(f"{where}no such file or folder: {printable(entry)}")


def _refuse_table(path: Path, where: str) -> None:
    if path.suffix.lower() in TABLES:
        raise UsageError(
            f"{where}{path} is a table, not a video: wmreward select takes tables of videos and prompts; "
            "other commands take a list of videos, a .txt file with one on each line"
        )


def _matches(base: Path, pattern: str) -> Found:
    """The videos that a pattern matches, or else those of the folders that it matches."""
    if not glob.has_magic(pattern):
        return Found([], [])
    # Path.glob refuses absolute patterns.
    names = glob.glob(str(base / user_path(pattern)), recursive=True)  # noqa: PTH207
    paths = sorted((Path(name) for name in names), key=natural_key)
    videos = [path for path in paths if _is_video(path)]
    folders = [(path, _videos_below(path)) for path in paths if path.is_dir()]
    if videos:  # a folder that they are in is not left out
        return Found(videos, [path for path, own in folders if own.is_new_to(videos)])
    every = [own for _, own in folders]
    return Found(
        [v for own in every for v in own.videos], [f for own in every for f in own.left_out]
    )


def _in_folder(folder: Path, where: str) -> Found:
    found = _videos_below(folder)
    if not found.videos:
        raise UsageError(f"{where}no videos and no images in folder {folder}")
    return found


def _videos_below(folder: Path) -> Found:
    """All videos at and below a folder, or else all folders of images, in natural order."""
    videos, image_folders, left_out = [], [], []
    for current in _walk(folder):
        own, images = [p for p in current.iterdir() if _is_video(p)], images_in(current)
        videos += own
        if images:
            image_folders.append(current)
        if len(images) >= _A_FEW and not own:  # pictures beside videos are pictures of these
            left_out.append(current)
    maps = [path for path in videos if _is_map(path)]
    if len(maps) < len(videos):  # else they are what is meant
        left_out += maps
        videos = [path for path in videos if path not in maps]
    if videos:
        return Found(sorted(videos, key=natural_key), sorted(left_out, key=natural_key))
    return Found(sorted(image_folders, key=natural_key), [])


def _walk(folder: Path) -> Iterator[Path]:
    """Folders at and below `folder`, through symbolic links but never in circles."""
    seen = set()
    for name, subfolders, _ in os.walk(folder, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [sub for sub in subfolders if not sub.startswith(".")]
        yield Path(name)


def _is_map(path: Path) -> bool:
    return _MAP.search(path.name) is not None


def _is_video(path: Path) -> bool:
    hidden = path.name.startswith(".")  # such as the ._ files that macOS leaves behind
    return path.suffix.lower() in VIDEO_SUFFIXES and not hidden and path.is_file()
