"""What users bring along, by import path: ``package.module:factory``, and where it came from."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wmreward.errors import UsageError, WMRewardError


def is_import_path(name: str) -> bool:
    """Whether it is ``package.module:factory`` instead of a name of ours."""
    return ":" in name


def find_factory(path: str, what: str) -> Any:
    """Import what ``path`` names, from the working directory too, but do not call it.

    Raises:
        UsageError: it cannot be imported; ``what`` says what it was to be, such as a reward.
    """
    module, _, name = path.partition(":")
    try:
        with _working_directory_importable():
            return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise _failed(path, what, error) from error


def takes_one(found: Any) -> bool:
    """Whether it is a function that must be given one argument: no factory, which takes none."""
    if not inspect.isfunction(found):
        return False
    needed = [
        parameter
        for parameter in inspect.signature(found).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    return len(needed) == 1 and needed[0].kind is not inspect.Parameter.KEYWORD_ONLY


def make(path: str, what: str) -> Any:
    """What the factory of ``path`` returns; it takes no arguments.

    Raises:
        UsageError: it cannot be imported or called.
    """
    factory = find_factory(path, what)
    try:
        return factory()
    except WMRewardError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(path, what, error) from error


def _failed(path: str, what: str, error: BaseException) -> UsageError:
    """Of what a user's module or factory raised; the name of an error says more to who wrote the code."""
    says_all = isinstance(error, (ImportError, AttributeError, TypeError))
    told = str(error) if says_all else f"{type(error).__name__}: {error or 'no message'}"
    return UsageError(f"{what} {path!r} cannot be made: {told}")


def origin(thing: Any) -> dict[str, str]:
    """Where something of a user's comes from, for records.

    Returns:
        ``module``, its module and name (of an object: of its class); and ``module_sha256``, the hash of its
        source file, or of its own source where that was written in a notebook; absent in a shell.
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    found = {"module": f"{named.__module__}:{named.__qualname__}"}
    if (source := _source(named)) is not None:
        found["module_sha256"] = hashlib.sha256(source).hexdigest()
    return found


def _source(named: Any) -> bytes | None:
    try:
        file = inspect.getsourcefile(sys.modules[named.__module__])
        if file is not None and Path(file).is_file():
            return Path(file).read_bytes()
    except (KeyError, TypeError):  # no file
        pass
    try:
        return inspect.getsource(named).encode()
    except (OSError, TypeError):
        return None


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """As ``python -m`` has it: a user's code lies where they work."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
