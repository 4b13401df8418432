"""What is timed of a command: functions of the project, wrapped from outside, the GPU idle at both ends."""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

FUNCTIONS = {
    "wmreward.generation.job:job_from": "checks",
    "wmreward.generation.batch.setup:Setup.check": "checks",
    "wmreward.scoring.settings:job_from": "checks",
    "magi1.text.features:PromptFeatures.read": "text",
    "magi1.pipeline:load_dit": "weights",
    "magi1.pipeline:load_vae": "weights",
    "wmreward.surprise.models.loading:load_model": "weights",
    "magi1.pipeline:Pipeline._encode_given": "given frames",
    "magi1.sampling.velocity:MagiVelocity.__call__": "step",
    "wmreward.steering.guidance:Guidance.__call__": "guidance",
    "magi1.pipeline:Pipeline.decode": "decode",
    "wmreward.generation.output:write_video": "writing",
    "wmreward.search.best_of_n:FileJudge.__call__": "judging",
    "wmreward.surprise.video_scorer:VideoScorer.score_clips": "score",
}
"""Where each is found, and the phase that it is. Of calls within each other the outermost counts."""

SAMPLING = ("step", "guidance")
"""Phases in which a video is made."""


@dataclass
class Watched:
    """What was seen of one process.

    Attributes:
        rank: Its number.
        seconds: By phase; ``imports`` from the start of the process on.
        steps: Seconds of each velocity, in order.
        guided: Seconds that guidance added, of the steps where it acted.
        first_step_at: Seconds from the start of the process to the first step; None: there was none.
        last_step_at: The same to the end of the last one, guided or not.
        total: Seconds from the start of the process to its end.
        peaks: Most bytes on the GPU, by phase.
        peak_host: Most bytes of the host, weights files that are mapped included.
    """

    rank: int
    seconds: dict[str, float] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)
    guided: list[float] = field(default_factory=list)
    first_step_at: float | None = None
    last_step_at: float | None = None
    total: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)
    peak_host: int = 0


def watch(folder: Path) -> None:
    """Import the project, wrap its functions, and write what was seen into ``folder`` at the end."""
    begun = time.monotonic() - _age()
    found = Watched(int(os.environ.get("RANK", "0")))
    for place, phase in FUNCTIONS.items():
        _wrap(place, phase, found, begun)
    found.seconds["imports"] = time.monotonic() - begun

    def write() -> None:
        found.total = time.monotonic() - begun
        found.peak_host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (folder / f"rank{found.rank}.json").write_text(json.dumps(asdict(found)))

    atexit.register(write)


def _wrap(place: str, phase: str, found: Watched, begun: float) -> None:
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *above, name = path.split(".")
    for part in above:
        holder = getattr(holder, part)
    setattr(holder, name, _timed(getattr(holder, name), phase, found, begun))


_inside = threading.local()


def _timed(function: Any, phase: str, found: Watched, begun: float) -> Any:
    @functools.wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        if (
            getattr(_inside, "phase", None)
            or threading.current_thread() is not threading.main_thread()
        ):
            return function(*args, **options)
        _idle()
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        start, acted = time.monotonic(), _guided_steps(args) if phase == "guidance" else 0
        _inside.phase = phase
        try:
            return function(*args, **options)
        finally:
            _inside.phase = None
            _idle()
            end = time.monotonic()
            seconds = end - start
            found.seconds[phase] = found.seconds.get(phase, 0.0) + seconds
            if phase == "step":
                found.first_step_at = found.first_step_at or start - begun
                found.steps.append(seconds)
            if phase in SAMPLING:
                found.last_step_at = end - begun
            if phase == "guidance" and _guided_steps(args) > acted:
                found.guided.append(seconds)
            if torch.cuda.is_initialized():
                peak = torch.cuda.max_memory_allocated()
                found.peaks[phase] = max(found.peaks.get(phase, 0), peak)

    return timed


def _guided_steps(args: tuple[Any, ...]) -> int:
    return len(args[0].records)


def _idle() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _age() -> float:
    """Seconds since this process was started."""
    if sys.platform != "linux":
        return time.process_time()
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
