"""The project's commands at real size with random weights, phase by phase: before anything is downloaded.

    python -m benchmarks.rehearsal --generator 4.5B
    python -m benchmarks.rehearsal --generator 24B --processes 4
    python -m benchmarks.rehearsal --generator nano --world_model tiny --device cpu

Without an install, set PYTHONPATH=MAGI-1.

First the machine is checked: versions, disk, memory of host and GPUs, NCCL, ports. Then come the commands,
each in a process of its own, with the flags of the README and few steps:

    score    a video, twice
    plain    a video from an image
    guided   the same with another seed, guided by the world model: its text is known by then
    batch    two jobs for each group of processes (--batch_jobs)

The weights are random. Usually they are not even written: their files are hollow, and what is read of them is
made up on the GPU, so that all is measured but reading. --write writes them (30 GB for the 4.5B with T5-XXL
and ViT-g); their reading then counts under "weights" and "text".

For each command and process it is said how long each phase took, and the most memory. "Full run" is
extrapolated to the steps and frames of the configuration: velocities by their arithmetic, guidance by the
chunks it is applied to.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_generate.workload import MODELS
from benchmarks.rehearsal.machine import GIB, checks, launcher
from benchmarks.rehearsal.machine import table as table_of_checks
from benchmarks.rehearsal.phases import SAMPLING
from benchmarks.rehearsal.weights import Stage
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from magi1.config import MagiConfig
from magi1.planning.plan import plan
from magi1.sampling.schedule import plan_calls, time_steps
from wmreward.generation.steering_flags import GUIDANCE_RANGE, GUIDANCE_SCALE
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.video_io import read_frames, write_png

ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "example" / "balls_possible.mp4"
PROMPT = "A red ball falls from the table onto the floor and bounces"
PARTS = ("score", "plain", "guided", "batch")
LONGEST_S = 3600

SCORE, GENERATE, BATCH = (
    "wmreward.scoring.cli",
    "wmreward.generation.cli",
    "wmreward.generation.batch.cli",
)


@dataclass(frozen=True)
class Ran:
    """A command that ended well.

    Attributes:
        name: Of it.
        seconds: Until it had ended.
        ranks: What was seen of each of its processes (:class:`.phases.Watched`).
    """

    name: str
    seconds: float
    ranks: list[dict[str, Any]]

    def step(self) -> float | None:
        """Median seconds of a plain step after the first one."""
        later = self.ranks[0]["steps"][1:]
        return statistics.median(later) if later else None

    def guided_step(self) -> float | None:
        """Median seconds of a step where guidance acts, velocity included."""
        guided, step = self.ranks[0]["guided"], self.step()
        return None if step is None or not guided else step + statistics.median(guided)

    def busy(self) -> float | None:
        """Part of the time from the first step of all processes to their last one that they sampled."""
        ranks = [rank for rank in self.ranks if rank["steps"]]
        if not ranks:
            return None
        begun = min(rank["first_step_at"] for rank in ranks)
        span = max(rank["last_step_at"] for rank in ranks) - begun
        return float(
            sum(sum(rank["steps"]) + sum(rank["guided"]) for rank in ranks) / (span * len(ranks))
        )

    def rows(self) -> list[str]:
        """For people, a row for each process."""
        rows = []
        for rank in self.ranks:
            seconds = {k: v for k, v in rank["seconds"].items() if k not in ("step", "guidance")}
            shown = [f"{phase} {value:.1f}" for phase, value in seconds.items()]
            if rank["steps"]:
                shown.append(f"first step {rank['steps'][0]:.2f}")
                shown.append(f"sampling {sum(rank['steps']) + sum(rank['guided']):.1f}")
            peaks = rank["peaks"]
            memory = f"host {rank['peak_host'] / GIB:.1f} GiB"
            if peaks:
                memory = f"GPU {max(peaks.values()) / GIB:.1f}, {memory}"
            if sampled := [peaks[phase] for phase in SAMPLING if phase in peaks]:
                memory += f" (GPU while sampling {max(sampled) / GIB:.1f})"
            rows.append(f"  rank {rank['rank']}: {', '.join(shown)} s; {memory}")
        if (busy := self.busy()) is not None:
            rows.append(f"  sampling {busy:.1%} of the time from the first step to the last")
        return rows


class Rehearsal:
    """All commands of a rehearsal.

    Args:
        stage: The weights, written.
        device: ``cuda`` or ``cpu``.
        processes: A GPU each.
        steps: Of the sampler.
        frames: Of each video.
        jobs: Of a batch, for each group of processes that share a video.
        more: Flags of all commands that generate.
    """

    def __init__(
        self,
        stage: Stage,
        device: str,
        processes: int,
        steps: int,
        frames: int,
        jobs: int = 2,
        more: Sequence[str] = (),
    ) -> None:
        self.stage, self.device, self.processes = stage, device, processes
        self.steps, self.frames, self.jobs, self.more = steps, frames, jobs, more
        self.image = stage.root / "first.png"
        self.outputs = stage.root / "outputs"
        self.ran: list[Ran] = []

    @property
    def sharing(self) -> int:
        """Processes that share a video."""
        return self.stage.config.engine_config.cp_size

    def run(self, parts: Sequence[str]) -> None:
        """Each command of ``parts``, in order.

        Raises:
            RehearsalError: one failed.
        """
        write_png(self.image, read_frames(VIDEO, range(1))[0])
        flags = [
            *("--config_file", str(self.stage.config_file), "--device", self.device),
            *("--num_frames", str(self.frames), "--num_steps", str(self.steps)),
            *("--model", self.stage.world_model, "--cp_size", str(self.sharing)),
            *self.more,
        ]
        if "score" in parts:
            of_video = ["--video_path", str(VIDEO), "--model", self.stage.world_model]
            for name in ("score, first time", "score"):
                self._run(name, SCORE, [*of_video, "--device", self.device, "--json"], 1)
        one = [*flags, "--mode", "i2v", "--init_image", str(self.image), "--prompt", PROMPT]
        for seed, (name, scale) in enumerate((("plain", 0.0), ("guided", GUIDANCE_SCALE))):
            if name in parts:
                where = ["--output", str(self.outputs / f"{name}.mp4"), "--seed", str(seed)]
                more = [*where, "--guidance_scale", str(scale), "--overwrite"]
                self._run(name, GENERATE, [*one, *more], self.sharing)
        if "batch" in parts:
            jobs = self.stage.root / "jobs.jsonl"
            jobs.write_text("".join(f"{json.dumps(job)}\n" for job in self._jobs()))
            own = ["--jobs", str(jobs), "--runs", str(self.outputs), "--no_progress"]
            more = [*own, "--guidance_scale", str(GUIDANCE_SCALE)]
            self._run("batch", BATCH, [*flags, *more], self.processes)

    def _jobs(self) -> list[dict[str, Any]]:
        count = self.jobs * self.processes // self.sharing
        image = str(self.image)
        return [
            {"id": f"job{i}", "mode": "i2v", "prompt": f"{PROMPT} {i} times", "init_image": image}
            for i in range(count)
        ]

    def _run(self, name: str, module: str, flags: list[str], processes: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            watched = ["-m", "benchmarks.rehearsal.command", folder, module]
            begun = time.monotonic()
            done = subprocess.run(
                [*launcher(processes), *watched, *flags],
                cwd=self.stage.root,
                env=environment(self.stage),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
            seconds = time.monotonic() - begun
            if done.returncode:
                raise RehearsalError(f"{name}: exit code {done.returncode}\n{done.stderr[-3000:]}")
            files = sorted(Path(folder).glob("rank*.json"))
            self.ran.append(Ran(name, seconds, [json.loads(file.read_text()) for file in files]))
        print(f"{name}: {seconds:.1f} s", *self.ran[-1].rows(), sep="\n", flush=True)

    # --- what it means ----------------------------------------------------------------------------------

    def full_run(self) -> dict[str, float]:
        """Seconds of sampling with all steps and frames, extrapolated."""
        found = {ran.name: ran for ran in self.ran}
        full = self.stage.config
        runtime = replace(full.runtime_config, num_steps=self.steps, num_frames=self.frames)
        short = replace(full, runtime_config=runtime)
        seconds: dict[str, float] = {}
        if (plain := found.get("plain")) and (step := plain.step()) is not None:
            sampled = sum(plain.ranks[0]["steps"][1:]) + step
            seconds["plain"] = sampled * self._flop(full) / self._flop(short)
        guided = found.get("guided")
        if "plain" in seconds and guided and (took := guided.ranks[0]["guided"]):
            chunks = _guided_chunks(short)
            warm = slice(1 if len(took) > 1 else 0, None)  # the first one warms up
            each = sum(took[warm]) / sum(chunks[warm])
            seconds["guided"] = seconds["plain"] + each * sum(_guided_chunks(full))
        return seconds

    def _flop(self, config: MagiConfig) -> float:
        return plan(config, "i2v", world_size=self.sharing, vae=self.stage.vae).work.flop


class RehearsalError(RuntimeError):
    """A command failed."""


def _guided_chunks(config: MagiConfig) -> list[int]:
    """How many chunks guidance is applied to, for each step where it acts."""
    runtime = config.runtime_config
    _, calls = plan_calls(config, 1)
    schedule = GuidanceSchedule.make(runtime.num_steps, scale=GUIDANCE_SCALE, times=GUIDANCE_RANGE)
    times = time_steps(runtime.num_steps, shortcut_mode=config.engine_config.shortcut_mode)
    scales = (schedule.of(call.steps, times[list(call.steps)].tolist()) for call in calls)
    counts = (sum(scale > 0 for scale in of_call) for of_call in scales)
    return [count for count in counts if count]


def environment(stage: Stage) -> dict[str, str]:
    """Of processes that are started."""
    paths = [str(ROOT), str(ROOT / "MAGI-1"), os.environ.get("PYTHONPATH", "")]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",  # as the commands have it before PyTorch is loaded
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "VJEPA_CHECKPOINT_DIR": str(stage.checkpoints),
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rehearsal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add("--generator", "--model", choices=MODELS, default="4.5B", help="the generator")
    add(
        "--world_model",
        default="vitg",
        help="what scores and guides; one that comes along is not written",
    )
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--processes", type=int, default=1, help="a GPU each")
    add("--cp_size", type=int, help="processes that share a video; all for a 24B, else 1")
    add("--num_steps", "--steps", type=int, default=8, help="of the sampler")
    add("--num_frames", "--frames", type=int, default=24, help="of each video")
    add("--batch_jobs", type=int, default=2, help="of the batch, for each group of processes")
    add("--compile", action="store_true", help="generate with a compiled transformer")
    add("--parts", nargs="+", choices=PARTS, default=PARTS)
    add("--write", action="store_true", help="write the weights, so that reading counts, too")
    add("--folder", type=Path, help="where files go, and stay; else a temporary one")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit code is 1 where the machine lacks something or a command failed."""
    flags = parse(argv)
    folder = flags.folder or Path(tempfile.mkdtemp(prefix="rehearsal."))
    try:
        return _rehearse(flags, folder.absolute())
    except RehearsalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if flags.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def _rehearse(flags: argparse.Namespace, folder: Path) -> int:
    made_on = torch.device(flags.device) if flags.write else None
    stage = Stage(folder, flags.generator, flags.world_model, made_on)
    sharing = flags.cp_size or (flags.processes if flags.generator.startswith("24B") else 1)
    strategy = "cp_ulysses" if sharing > 1 else "none"
    engine = replace(stage.config.engine_config, cp_size=sharing, cp_strategy=strategy)
    stage.config = replace(stage.config, engine_config=engine)
    found = list(checks(stage, flags.device, flags.processes, environment(stage)))
    print(table_of_checks(found), flush=True)
    if not all(check.ok for check in found):
        return 1
    begun = time.monotonic()
    stage.write()
    how = "written" if flags.write else "hollow"
    print(f"weights: {how} in {time.monotonic() - begun:.1f} s", flush=True)
    if flags.device == "cuda":
        torch.cuda.empty_cache()
    rehearsal = Rehearsal(
        stage,
        flags.device,
        flags.processes,
        flags.num_steps,
        flags.num_frames,
        flags.batch_jobs,
        ["--compile"] if flags.compile else [],
    )
    rehearsal.run(flags.parts)
    full = rehearsal.full_run()
    runtime = stage.config.runtime_config
    for name, seconds in full.items():
        print(
            f"full run, {name}: about {seconds:.0f} s of sampling for {runtime.num_frames} frames in "
            f"{runtime.num_steps} steps"
        )
    result = {
        "benchmark": "rehearsal",
        **describe(torch.device(flags.device)),
        "model": flags.generator,
        "world_model": flags.world_model,
        "processes": flags.processes,
        "steps": flags.num_steps,
        "frames": flags.num_frames,
        "compile": flags.compile,
        "weights": how,
        "commands": [
            {
                "name": ran.name,
                "seconds": ran.seconds,
                "step": ran.step(),
                "guided_step": ran.guided_step(),
                "busy": ran.busy(),
                "ranks": ran.ranks,
            }
            for ran in rehearsal.ran
        ],
        "full_run": full,
    }
    print(json.dumps(result))
    return 0
