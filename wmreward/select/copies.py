"""Copies of the winners, each under a name of its own."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from wmfiles import fitted
from wmfiles.names import cut
from wmreward.files import atomic_path
from wmreward.select.made import called
from wmreward.video.content import video_sha256

_LONGEST = 100


def copy_winners(winners: Mapping[str, Path], folder: Path) -> Iterator[Path]:
    """Copy the winner of each group into a folder; gives where each is.

    They keep their names; candidates that our commands have left are called by job or video and seed. Where
    two have the same name, that of their group stands before it, and if it is still taken, by another group's
    winner or by a file that was there, a number behind it. What is there with the same content is left alone.

    Raises:
        WMRewardError: one cannot be written.
    """
    own = {group: called(winner) for group, winner in winners.items()}
    names = Counter(name.casefold() for name in own.values())
    short = _short_groups(winners)
    taken: set[str] = set()
    for group, winner in winners.items():
        shared = names[own[group].casefold()] > 1
        wanted = f"{slug(short[group])}-{own[group]}" if shared else own[group]
        places = (
            folder / name for name in _numbered(wanted, "" if winner.is_dir() else winner.suffix)
        )
        # File systems may not tell upper case from lower.
        free = (place for place in places if place.name.casefold() not in taken)
        target = next(place for place in free if not place.exists() or _is_copy(place, winner))
        taken.add(target.name.casefold())
        if not target.exists():
            with atomic_path(target) as temporary:
                (shutil.copytree if winner.is_dir() else shutil.copyfile)(winner, temporary)
        yield target


def _short_groups(winners: Mapping[str, Path]) -> dict[str, str]:
    """Groups that are folders by what tells them apart, others as they are."""
    are_folders = all(group == str(winner.parent) for group, winner in winners.items())
    if not are_folders or len(winners) < 2:
        return {group: group for group in winners}
    common = os.path.commonpath([os.path.abspath(group) for group in winners])  # noqa: PTH100
    return {group: os.path.relpath(group, common) for group in winners}


def _numbered(name: str, suffix: str) -> Iterator[str]:
    stem = name.removesuffix(suffix)
    yield fitted(stem, suffix)
    for number in count(2):
        yield fitted(stem, f"-{number}{suffix}")


def _is_copy(place: Path, winner: Path) -> bool:
    same_kind = place.is_dir() if winner.is_dir() else place.is_file()
    return same_kind and video_sha256(place) == video_sha256(winner)


def slug(group: str) -> str:
    """A group as part of a file name."""
    return cut(re.sub(r"[^\w.-]+", "-", group).strip("-"), _LONGEST) or "all"
