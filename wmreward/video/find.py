"""From command-line arguments to a list of videos."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wmfiles import printable, read_text, split_lines
from wmreward.errors import UsageError
from wmreward.files import misused, user_path
from wmreward.video.images import images_in, natural_key

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts"),
        *(".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp", ".y4m"),
    }
)


def list_videos(arguments: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Resolve files, folders, glob patterns and list files to videos, in order, each once.

    - A file is taken whatever it is called.
    - A folder stands for all videos in it and below it, in natural order. If there are none,
      each folder of images in it, or itself, is one video.
    - A pattern such as `runs/**/*.mp4` stands for the videos and folders it matches.
    - A `.txt` file lists one of these per line, looked up beside the list first and then in the
      working directory; blank lines and lines starting with # are skipped.

    Raises:
        UsageError: naming the argument that is missing or holds no video.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        if not str(argument).strip():
            raise UsageError(
                "a path to videos is empty: perhaps a shell variable in quotes is not set"
            )
        for path in _resolve_argument(str(argument)):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise UsageError("no videos given: name files, folders, patterns or a .txt list")
    return list(found.values())


def _resolve_argument(argument: str) -> Iterator[Path]:
    path = user_path(argument)
    if path.suffix.lower() == ".txt" and path.is_file():
        yield from _from_list(path)
    else:
        yield from _resolve(argument, [Path()], where="")


def _from_list(list_file: Path) -> Iterator[Path]:
    lines = split_lines(read_text(list_file, refuse=misused))
    entries = [(n, line.strip()) for n, line in enumerate(lines, 1)]
    entries = [(n, entry) for n, entry in entries if entry and not entry.startswith("#")]
    if not entries:
        raise UsageError(f"{list_file}: lists no video; write one path per line")
    for number, entry in entries:
        where = f"{list_file}, line {number}: "
        yield from _resolve(entry, [list_file.parent, Path()], where)


def _resolve(entry: str, bases: list[Path], where: str) -> Iterator[Path]:
    """The videos behind one entry, looked up in the first of `bases` that has it."""
    try:
        named = user_path(entry)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None
    for base in bases:
        path = base / named
        if path.is_dir():
            yield from _in_folder(path, where)
            return
        if path.exists():
            yield path
            return
    for base in bases:
        if matches := _matches(base, entry):
            for match in matches:
                yield from _in_folder(match, where) if match.is_dir() else [match]
            return
    if glob.has_magic(entry):
        raise UsageError(f"{where}no video matches {printable(entry)}")
    raise UsageError(f"{where}no such file or folder: {printable(entry)}")


def _matches(base: Path, pattern: str) -> list[Path]:
    """Videos and folders that a pattern matches; a folder within a matched folder is left out."""
    if not glob.has_magic(pattern):
        return []
    # Path.glob refuses absolute patterns.
    names = glob.glob(str(base / user_path(pattern)), recursive=True)  # noqa: PTH207
    paths = [Path(name) for name in names]
    videos = [path for path in paths if _is_video(path)]
    if not videos:
        videos = [path for path in paths if path.is_dir() and _videos_below(path)]
    return sorted(videos, key=natural_key)


def _in_folder(folder: Path, where: str) -> list[Path]:
    found = _videos_below(folder)
    if not found:
        raise UsageError(f"{where}no videos and no images in folder {folder}")
    return found


def _videos_below(folder: Path) -> list[Path]:
    """All videos at and below a folder, or else all folders of images, in natural order."""
    videos, image_folders = [], []
    for current in _walk(folder):
        videos += [p for p in current.iterdir() if _is_video(p)]
        if images_in(current):
            image_folders.append(current)
    return sorted(videos or image_folders, key=natural_key)


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


def _is_video(path: Path) -> bool:
    hidden = path.name.startswith(".")  # such as the ._ files that macOS leaves behind
    return path.suffix.lower() in VIDEO_SUFFIXES and not hidden and path.is_file()
