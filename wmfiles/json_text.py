"""JSON that others wrote, within limits: time grows with its length and nothing else.

Python's own reader takes what is not JSON (NaN), keeps the last of two equal names, reads a number of a
million digits, and gives up on deep nesting with an error about its own stack.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from wmfiles.opening import Refusal
from wmfiles.text import MOST_BYTES, read_text, short, split_lines

MOST_LEVELS = 64
"""Of nesting; what people and programs write here has five."""
MOST_DIGITS = 40
"""Of a whole number."""

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_NO_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))


class JSONError(ValueError):
    """What is wrong with JSON text, in words that follow the name of a file and a line."""


class _BadNumber(JSONError):
    def __init__(self, digits: str, reason: str) -> None:
        super().__init__(digits, reason)
        self.digits, self.reason = digits, reason


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Every text in it can be written as UTF-8, but for bytes of file names that are not UTF-8, which Python
    writes as U+DC80 to U+DCFF.

    Raises:
        JSONError: it is not JSON, has a name twice in an object, a number that is not finite or of absurd
            length, half a character, or is nested deeper than ``MOST_LEVELS``.
    """
    if text.count("[") + text.count("{") > MOST_LEVELS and _is_deep(text):
        raise JSONError(f"nested deeper than {MOST_LEVELS} levels")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JSONError("not JSON (there is nothing)") from None
        what = error.msg.removesuffix(" at")
        raise JSONError(f"not JSON ({what} at {_place(text, error.pos)})") from None
    except _BadNumber as error:
        raise JSONError(f"{error.reason} at {_place(text, text.find(error.digits))}") from None
    except RecursionError:
        raise JSONError(f"nested deeper than {MOST_LEVELS} levels") from None
    if _HALF_CHARACTER.search(text):
        _check_characters(value)
    return value


def read_json(path: str | os.PathLike[str], *, refuse: Refusal, most: int = MOST_BYTES) -> Any:
    """The value of a JSON file that a user named; raises what ``refuse`` makes."""
    path = Path(path)
    text = read_text(path, refuse=refuse, most=most)
    try:
        return parse_json(text)
    except JSONError as error:
        raise refuse(path, str(error)) from None


def json_lines(
    path: str | os.PathLike[str], *, refuse: Refusal
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers of lines, counted from 1, and their objects; blank lines are passed over.

    Args:
        path: The file.
        refuse: Makes the error; where a line is wrong, the path it gets ends in ``, line N``.
    """
    path = Path(path)
    for number, line in enumerate(split_lines(read_text(path, refuse=refuse)), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
            if not isinstance(value, dict):
                raise JSONError(f"not a JSON object: {short(value)}")
        except JSONError as error:
            raise refuse(line_of(path, number), str(error)) from None
        yield number, value


def line_of(path: Path, number: int) -> Path:
    """A line of a file, as messages name it: ``list.jsonl, line 3``."""
    return path.with_name(f"{path.name}, line {number}")


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column}" if "\n" in text.strip() else f"column {column}"


def _is_deep(text: str) -> bool:
    """Whether brackets outside of strings are nested too deeply; takes off the innermost level each time."""
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data:
        data = re.sub(rb"\\.", b"", data, flags=re.DOTALL)
    left = re.sub(rb'"[^"]*"', b"", data.translate(None, _NO_STRUCTURE))
    for _ in range(MOST_LEVELS):
        before = len(left)
        left = left.replace(b"[]", b"").replace(b"{}", b"")
        if len(left) == before:
            # Nothing, or unbalanced: the reader says where, unless all are opened only.
            return len(left) > MOST_LEVELS and not set(left) & set(b"]}")
    return b"[]" in left or b"{}" in left


def _check_characters(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, str):
            try:
                item.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                raise JSONError(
                    f"{short(item)} holds half a character (an unpaired surrogate)"
                ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JSONError(f"{short(name)} is given twice")
            seen.add(name)
    return found


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _BadNumber(digits, f"a number of {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _BadNumber(digits, f"{short(digits)} is no finite number")
    return value


def _constant(name: str) -> NoReturn:
    raise _BadNumber(name, f"{name} is no finite number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
)
