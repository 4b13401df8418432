"""Devices by the names that users give them."""

from __future__ import annotations

import torch

from wmreward.errors import UsageError, named


def find_device(name: str) -> torch.device:
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: it is no device, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{named('device', name)} is not a device; try cpu or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"{named('device', name)} is not there: {torch.cuda.device_count()} GPUs found; use cpu"
        )
    return device


def slow_to_compile(wanted: bool, device: str) -> list[str]:
    """A note for who waits: on a GPU the compiler takes half a minute, on a CPU it may take several.

    Args:
        wanted: Whether anything is compiled (``--compile``).
        device: Name of the device that works.
    """
    if not wanted or find_device(device).type != "cpu":
        return []
    return [
        f"{named('compile')} on a CPU may take minutes before it gains anything, and nothing is told then"
    ]
