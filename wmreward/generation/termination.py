"""SIGTERM ends a run as Ctrl-C does: what was begun is left in order, above all no lock stays behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""As shells have it."""


class Terminated(BaseException):
    """SIGTERM came. No error of the work, so nothing but the command line catches it."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within the context SIGTERM raises `Terminated`; a second one ends the process at once.

    Only in the main thread, and where nobody else answers the signal.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated
