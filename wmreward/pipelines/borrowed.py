"""Objects whose methods do something else for a while, without a line of their library being changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def borrowed(owner: Any, **methods: Callable[..., Any]) -> Iterator[None]:
    """Within the context, ``owner`` is of a subclass of its class that has these methods.

    Its name, ``isinstance`` and its state stay. Copies that are made meanwhile (some pipelines copy their
    scheduler for the sound) are plain ones. A method that calls the original does so by its class.
    """
    plain = type(owner)

    def copied(self: Any, memo: dict[int, Any]) -> Any:
        new = memo[id(self)] = object.__new__(plain)
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    kept = {"__deepcopy__": copied, "__module__": plain.__module__, "__doc__": plain.__doc__}
    owner.__class__ = type(plain.__name__, (plain,), kept | methods)
    try:
        yield
    finally:
        owner.__class__ = plain
