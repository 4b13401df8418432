"""Which videos are candidates of one: tables of prompts, folders, names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wmreward.errors import UsageError
from wmreward.video_io import list_videos

TABLES = (".csv", ".jsonl")


def grouped(arguments: Sequence[str], group_by: str | None) -> dict[str, list[Path]]:
    """Resolve arguments to videos, each once, in groups; both in the order given.

    Args:
        arguments: Files, folders, patterns, lists and tables.
        group_by: ``prompt``, ``folder``, a regular expression, or None: prompts where there are any.

    Raises:
        UsageError: what is missing, a table without the columns, a name that does not match.
    """
    found: dict[Path, str | None] = {}
    for argument in arguments:
        if Path(argument).suffix.lower() in TABLES:
            for path, prompt in _of_table(Path(argument).expanduser()):
                found.setdefault(path, prompt)
        else:
            for path in list_videos([argument]):
                found.setdefault(path, None)
    groups: dict[str, list[Path]] = {}
    for path, prompt in found.items():
        groups.setdefault(_group(path, prompt, group_by), []).append(path)
    return groups


def _group(path: Path, prompt: str | None, group_by: str | None) -> str:
    if group_by is None:
        return prompt or ""
    if group_by == "prompt":
        if prompt is None:
            raise UsageError(f"--group_by prompt: no table gives a prompt for {path}")
        return prompt
    if group_by == "folder":
        return str(path.parent)
    try:
        match = re.search(group_by, path.name)
    except re.error as error:
        raise UsageError(f"--group_by {group_by!r} is no regular expression: {error}") from None
    if match is None:
        raise UsageError(f"--group_by {group_by!r} does not match {path.name}")
    parts = [part for part in match.groups() if part is not None]
    return " ".join(parts) if parts else match[0]


def _of_table(table: Path) -> Iterator[tuple[Path, str | None]]:
    """Videos and prompts of a table; files are looked for beside it first."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{table}: cannot be read as a UTF-8 table of videos") from error
    rows = _csv_rows(table, text) if table.suffix.lower() == ".csv" else _json_rows(table, text)
    for number, row in rows:
        video = row.get("video")
        if not isinstance(video, str) or not video:
            raise UsageError(f"{table}, line {number}: there is no 'video'")
        beside = table.parent / Path(video).expanduser()
        path = beside if beside.exists() else Path(video).expanduser()
        if not path.exists():
            raise UsageError(f"{table}, line {number}: no such file or folder: {video}")
        prompt = row.get("prompt")
        yield path, None if prompt is None else str(prompt)


def _csv_rows(table: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    if "video" not in (reader.fieldnames or ()):
        raise UsageError(f"{table}: its head must name a column 'video' (and 'prompt')")
    for row in reader:
        yield reader.line_num, row


def _json_rows(table: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UsageError(f"{table}, line {number}: is not a JSON object")
        yield number, row
