"""How much memory there is: asked before something large is begun, as the system kills without a word."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of the container or job that the process runs in."""


def available_memory() -> int | None:
    """Bytes that a process may still take, as far as the system says; None where it does not.

    From the limit of a container nothing is taken off: much of what it has in use are files that were read,
    which give way.
    """
    found = [int(text) for place in _LIMITS if (text := _read(place).strip()).isdecimal()]
    if told := re.search(r"^MemAvailable: *(\d+) kB", _read("/proc/meminfo"), re.MULTILINE):
        found.append(int(told[1]) * 1024)
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _read(place: str) -> str:
    try:
        return Path(place).read_text()
    except OSError:
        return ""
