"""What the batch runner costs: per candidate, on opening a large run, and in idle processes at the end.

    python -m benchmarks.bench_batch                                  # a stand-in that sleeps, on any machine
    python -m benchmarks.bench_batch --work clips                     # the embedded generator, on 2 GPUs
    python -m benchmarks.bench_batch --work steps --generator 4.5B    # MAGI-1 with random weights, on 2 GPUs

Without an install, set PYTHONPATH=MAGI-1.

    overhead     runner's time per candidate when making one takes none: drawing, files, hash, fsync, record
    resume       time until a run of 100 000 finished candidates is found to be finished
    scaling      candidates of uneven cost (log-normal, the longest ten times the shortest) on 1 and on 2
                 processes, one GPU each where there are GPUs, models loaded before; efficiency is
                 t₁ / (2 t₂), where t₁ is the mean of a run before and one after, as speeds drift

"steps" makes a candidate of so many guided sampler steps of a window of four chunks, "clips" of so many
clips of 24 frames from text.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from wmreward.batch.candidates import Candidate, Maker, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.batch.processes.team import Team
from wmreward.batch.runner import BatchOptions, run_batch
from wmreward.batch.status import Status
from wmreward.prompts.jobs import BatchJob

SETTINGS = {"benchmark": "batch"}
_SPREAD = 0.55


def jobs_of(count: int) -> list[BatchJob]:
    """Jobs of 16 candidates each."""
    prompt = "A ball rolls down the ramp and falls. Static shot with no camera movement."
    return [
        BatchJob(id=f"{i:05d}", mode="t2v", prompt=prompt, seeds=tuple(range(16)))
        for i in range(-(-count // 16))
    ]


def cost(candidate: Candidate) -> float:
    """Log-normal around 1, by name."""
    return random.Random(candidate.name).lognormvariate(0, _SPREAD)


# --- makers -------------------------------------------------------------------------------------------


def sleeping(seconds: float) -> Maker:
    """A candidate takes ``seconds`` times its cost."""

    def make(candidate: Candidate, folder: Path) -> dict[str, Any]:
        time.sleep(seconds * cost(candidate))
        (folder / "video.mp4").write_bytes(bytes(1000))
        return {"score": 0.0}

    return make


def stepping(model: str, size: str, steps: int, device: torch.device) -> Maker:
    """A candidate is ``steps`` times its cost steps of MAGI-1's sampler."""
    from benchmarks.bench_generate.workload import Scene, bench_config, random_dit

    config = bench_config(model, size, 1)
    scene = Scene(config, random_dit(config.model_config, device), device)

    def make(candidate: Candidate, folder: Path) -> dict[str, Any]:
        for _ in range(max(1, round(steps * cost(candidate)))):
            velocity = scene.step()
        (folder / "video.mp4").write_bytes(velocity.float().cpu().numpy().tobytes())
        return {"score": 0.0}

    return warm(make)


def clipping(clips: int, device: torch.device) -> Maker:
    """A candidate is ``clips`` times its cost clips of the embedded generator, one after the other."""
    from benchmarks.shared.magi_generator import tiny

    generator = tiny(device=device)

    def make(candidate: Candidate, folder: Path) -> dict[str, Any]:
        for seed in range(max(1, round(clips * cost(candidate)))):
            video = generator.from_text([candidate.job.prompt], 24, [seed])
        (folder / "video.mp4").write_bytes((255 * video).byte().cpu().numpy().tobytes())
        return {"score": 0.0}

    return warm(make)


def warm(make: Maker) -> Maker:
    """After a first candidate: it chooses kernels."""
    first = candidates_of(jobs_of(1), ["plain"])[0]
    with tempfile.TemporaryDirectory() as folder:
        make(first, Path(folder))
    return make


# --- measurements -------------------------------------------------------------------------------------


def overhead(folder: Path, count: int) -> float:
    """Seconds per candidate of one process whose maker does nothing."""
    jobs = jobs_of(count)
    run, options = RunFolder(folder, SETTINGS), BatchOptions(progress=False)
    begun = time.perf_counter()
    run_batch(run, jobs, ["plain"], lambda: sleeping(0.0), team=Team(), options=options)
    return (time.perf_counter() - begun) / (16 * len(jobs))


def resume(folder: Path, count: int) -> dict[str, float]:
    """Seconds to find a finished run finished, and to tell its state."""
    jobs = jobs_of(count)
    run = RunFolder(folder, SETTINGS)
    run.begin(jobs, ["plain"])
    facts = {"scores": {"surprise": -0.2}, "guidance": {"effect": dict.fromkeys("abcdef", 0.1)}}
    record = {"at": "2026-01-01T00:00:00+0000", "files": {"video.mp4": "0" * 64}, **facts}
    records = []
    for candidate in candidates_of(jobs, ["plain"]):
        run.candidate_folder(candidate).mkdir()
        path = f"candidates/{candidate.name}"
        records.append({"path": path, "settings_id": run.settings_id, "seconds": 1.0, **record})
    run.manifest.part(0).rewrite(records)

    def seconds() -> float:
        begun = time.perf_counter()
        options = BatchOptions(progress=False)
        run_batch(run, jobs, ["plain"], lambda: sleeping(0.0), team=Team(), options=options)
        return time.perf_counter() - begun

    times = {"after_kill_s": seconds(), "resume_s": seconds()}
    begun = time.perf_counter()
    Status.of(folder).text()
    return times | {"status_s": time.perf_counter() - begun}


def scaling(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds on one and on two processes, and the efficiency of two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_process, args=(rank, port, folder, args)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    before, together, after = json.loads((folder / "seconds.json").read_text())
    alone = (before + after) / 2
    efficiency = alone / (2 * together)
    return {"t1_before_s": before, "t1_after_s": after, "t2_s": together, "efficiency": efficiency}


def _process(rank: int, port: int, folder: Path, args: argparse.Namespace) -> None:
    """One of two: the first works through a run alone, both through another, the first through a third."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    maker = _maker(rank, args)
    team = Team.joined()
    team.tell(f"ready/{rank}", "")
    for other in range(2):
        team.await_told(f"ready/{other}")
    if team.is_first:
        before = _seconds(folder / "before", Team(), maker, args)
        team.tell("before", "")
    team.await_told("before")
    together = _seconds(folder / "together", team, maker, args)
    if team.is_first:
        after = _seconds(folder / "after", Team(), maker, args)
        (folder / "seconds.json").write_text(json.dumps([before, together, after]))


def _maker(rank: int, args: argparse.Namespace) -> Maker:
    if args.work == "sleep":
        return sleeping(args.task_s)
    device = torch.device(f"cuda:{rank}" if args.device == "cuda" else "cpu")
    if args.work == "clips":
        return clipping(args.num_steps, device)
    return stepping(args.generator, args.size, args.num_steps, device)


def _seconds(folder: Path, team: Team, maker: Maker, args: argparse.Namespace) -> float:
    run, options = RunFolder(folder, SETTINGS), BatchOptions(cost=cost, progress=False)
    begun = time.perf_counter()
    run_batch(run, jobs_of(args.candidates), ["plain"], lambda: maker, team=team, options=options)
    return time.perf_counter() - begun


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for; lines for people go to standard error."""
    head = describe(torch.device("cpu" if args.work == "sleep" else args.device))
    print("  ".join(f"{key} {value}" for key, value in head.items()), file=sys.stderr)
    result: dict[str, Any] = {"benchmark": "batch", "work": args.work, **head}
    folder = Path(tempfile.mkdtemp(prefix="bench_batch_", dir=args.runs))
    try:
        if "overhead" in args.parts:
            result["overhead_ms"] = 1000 * overhead(folder / "overhead", args.count)
            print(f"overhead  {result['overhead_ms']:.2f} ms per candidate", file=sys.stderr)
        if "resume" in args.parts:
            found = resume(folder / "resume", args.records)
            result |= {"records": args.records, **found}
            print(
                f"resume    {args.records} candidates: opens in {found['after_kill_s']:.2f} s after a kill, "
                f"then in {found['resume_s']:.2f} s; status in {found['status_s']:.2f} s",
                file=sys.stderr,
            )
        if "scaling" in args.parts:
            measured = scaling(folder, args)
            model = {"model": args.generator} if args.work == "steps" else {}
            result |= {"candidates": args.candidates, **model, **measured}
            print(
                f"scaling   {args.candidates} candidates: {measured['t1_before_s']:.2f} and "
                f"{measured['t1_after_s']:.2f} s on one process, {measured['t2_s']:.2f} s on two: "
                f"{measured['efficiency']:.1%}",
                file=sys.stderr,
            )
    finally:
        shutil.rmtree(folder)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = adding(parser)
    parts = ("overhead", "resume", "scaling")
    add("--parts", nargs="+", choices=parts, default=parts)
    add("--work", choices=("sleep", "clips", "steps"), default="sleep")
    add("--candidates", type=int, default=64, help="of scaling")
    add("--task_s", "--seconds", type=float, default=0.3, help="of a typical one (sleep)")
    add(
        "--num_steps",
        "--steps",
        type=int,
        default=8,
        help="sampler steps, or clips, of a typical one",
    )
    add("--generator", "--model", choices=("nano", "4.5B", "24B"), default="4.5B")
    add("--size", default="480x480", help="of videos (steps)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="for clips and steps")
    add("--count", type=int, default=512, help="candidates of overhead")
    add("--records", type=int, default=100_000, help="candidates of resume")
    add("--runs", "--folder", type=Path, help="where runs are written, such as a file server")
    result = run(parser.parse_args(argv))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
