"""What a measurement was made on, and how to time."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wmreward.version import versions


def describe(device: torch.device) -> dict[str, Any]:
    """Machine and versions, for the head of a table and its JSON."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return {"machine": name, "cuda": torch.version.cuda, **versions()}


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def seconds(function: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall time of each of ``repeats`` runs, after one warm-up, with the device idle at both ends."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    function()
    wait()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - begun)
    return times


def median_and_peak(
    function: Callable[[], object], device: torch.device, repeats: int
) -> tuple[float, float | None]:
    """Median seconds, and peak GiB of device memory (``None`` on a CPU)."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    median = statistics.median(seconds(function, device, repeats))
    if device.type != "cuda":
        return median, None
    return median, torch.cuda.max_memory_allocated(device) / 2**30


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product on random data: the ceiling that models are held against."""
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    repeats = 10 if device.type == "cuda" else 3
    return 2 * size**3 / statistics.median(seconds(lambda: a @ b, device, repeats))
