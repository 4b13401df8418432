"""Which videos are candidates of one: tables of prompts, folders, names."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wmfiles import csv_rows, json_lines, printable, short
from wmreward.errors import UsageError
from wmreward.files import misused, user_path
from wmreward.select.made import job_of
from wmreward.video.find import TABLES, find_videos

LONGEST_SEARCH_S = 1.0
"""Of a regular expression in one name."""


def grouped(arguments: Sequence[str], group_by: str | None) -> dict[str, list[Path]]:
    """Resolve arguments to videos, each once, in groups; see :func:`videos_of` and :func:`in_groups`."""
    return in_groups(videos_of(arguments)[0], group_by)


def videos_of(arguments: Sequence[str]) -> tuple[dict[Path, str | None], list[Path]]:
    """Resolve files, folders, patterns, lists and tables to videos, each once, with their prompts.

    Returns:
        The videos, and the folders that were left out; see :class:`wmreward.video.find.Found`.

    Raises:
        UsageError: what is missing, a table without the columns.
    """
    found: dict[Path, str | None] = {}
    left_out: list[Path] = []
    for argument in arguments:
        if Path(argument).suffix.lower() in TABLES:
            for path, prompt in _of_table(user_path(argument)):
                found.setdefault(path, prompt)
        else:
            videos, left = find_videos([argument])
            found |= {path: None for path in videos if path not in found}
            left_out += left
    return found, [folder for folder in left_out if folder not in found]


def in_groups(found: Mapping[Path, str | None], group_by: str | None) -> dict[str, list[Path]]:
    """Videos with their prompts, in groups; both in the order given.

    Args:
        found: From :func:`videos_of`.
        group_by: ``prompt``, ``folder``, a regular expression, or None: prompts where there are any.

    Raises:
        UsageError: a name that does not match, a prompt that is not there.
    """
    groups: dict[str, list[Path]] = {}
    for path, prompt in found.items():
        groups.setdefault(group_of(path, prompt, group_by), []).append(path)
    return groups


def group_of(path: Path, prompt: str | None, group_by: str | None) -> str:
    """The group of one video; see :func:`in_groups`."""
    if group_by is None:
        return prompt or ""
    if group_by == "prompt":
        if prompt is None:
            raise UsageError(f"--group_by prompt: no table gives a prompt for {path}")
        return prompt
    if group_by == "folder":  # each candidate of a batch run has one: they belong together by job
        return str(job_of(path) or path.parent)
    try:
        with _bounded(group_by, path):
            match = re.search(group_by, path.name)
    except re.error as error:
        raise UsageError(f"--group_by {group_by!r} is no regular expression: {error}") from None
    if match is None:
        raise UsageError(f"--group_by {group_by!r} does not match {path.name}")
    parts = [part for part in match.groups() if part is not None]
    return " ".join(parts) if parts else match[0]


@contextmanager
def _bounded(pattern: str, path: Path) -> Iterator[None]:
    """Within the context a search ends after a second: ``(a+)+$`` takes years for a name of 50 letters.

    Only the main thread can set an alarm; elsewhere a search takes the time that it takes.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def stop(*_: object) -> None:
        raise UsageError(
            f"--group_by {pattern!r} takes more than a second for {path.name}: nested repetitions, as in "
            "(a+)+, take for ever; write it without them"
        )

    before = signal.signal(signal.SIGALRM, stop)
    left, again = signal.setitimer(signal.ITIMER_REAL, LONGEST_SEARCH_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, again)
        signal.signal(signal.SIGALRM, before)


def _of_table(table: Path) -> Iterator[tuple[Path, str | None]]:
    """Videos and prompts of a table; files are looked for beside it first."""
    is_csv = table.suffix.lower() == ".csv"
    rows: Iterable[tuple[int, Mapping[str, Any]]] = (
        csv_rows(table, needs=("video",), refuse=misused)
        if is_csv
        else json_lines(table, refuse=misused)
    )
    for number, row in rows:
        video = row.get("video")
        if not isinstance(video, str) or not video:
            raise UsageError(f"{table}, line {number}: there is no 'video'")
        try:
            named = user_path(video)
        except UsageError as error:
            raise UsageError(f"{table}, line {number}: {error}") from None
        beside = table.parent / named
        path = beside if beside.exists() else named
        if not path.exists():
            raise UsageError(f"{table}, line {number}: no such file or folder: {printable(video)}")
        prompt = row.get("prompt")
        if prompt is not None and not isinstance(prompt, str):
            raise UsageError(f"{table}, line {number}: 'prompt' must be text, got {short(prompt)}")
        yield path, prompt
