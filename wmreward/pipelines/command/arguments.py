"""``--pipeline_call``: words as arguments of a pipeline's call, of the types that its signature says."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from wmfiles import JSONError, parse_json
from wmreward.errors import UsageError

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list, as [1, 2]",
    tuple: "a list, as [1, 2]",
    dict: 'names with values, as {"a": 1}',
}
"""Types that can be written, and how they are called."""


def arguments_of(entries: Sequence[str], kind: Any, rates: Collection[str]) -> dict[str, Any]:
    """Values by name.

    Args:
        entries: Words ``NAME=VALUE``.
        kind: The pipeline's class.
        rates: Names of arguments that may be any number, whatever is said of them.

    Raises:
        UsageError: a value that is of none of the types that the argument may have.
    """
    hints = _hints(kind)
    found: dict[str, Any] = {}
    for entry in entries:
        name, _, word = entry.partition("=")
        hint = float if name in rates else hints.get(name, Any)
        value = _value(word)
        if not _fits(value, hint):
            if not _fits(word, hint):
                raise UsageError(
                    f"--pipeline_call {entry}: {name} of {kind.__name__} must be {_told(hint)}"
                )
            value = word
        found[name] = value
    return found


def _value(word: str) -> Any:
    """A number, true, false, null, a list, names with values; else the word itself."""
    try:
        return parse_json(word)
    except JSONError:
        return word


def _hints(kind: Any) -> Mapping[str, Any]:
    """Types of the arguments, as far as they can be told."""
    try:
        return get_type_hints(kind.__call__)
    except (NameError, TypeError, AttributeError):
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; of types that we do not know, nothing is refused but by name."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if hint is Any or isinstance(hint, str):
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if (origin or hint) in (list, Sequence, tuple):
        of = (get_args(hint) or (Any,))[0]
        return isinstance(value, list) and all(_fits(one, of) for one in value)
    if isinstance(kind := origin or hint, type):
        return isinstance(value, kind)
    return True


def _told(hint: Any) -> str:
    """The types that can be written."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    words = [word for one in options if (word := _WORDS.get(get_origin(one) or one))]
    if type(None) in options:
        words.append("null")
    if words in ([], ["null"]):
        return "left out: no word of a command line is one"
    return " or ".join(words)
