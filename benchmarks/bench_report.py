"""Time of the report page of a batch run whose candidates have scores and curves already.

    python -m benchmarks.bench_report                     # 198 jobs, 4 candidates each, 5 s at 720p

Makes the run's folder (a few films, each under many names) and runs `wmreward report` as users do. What
takes the time is a still of every shown video; their baseline is one thread in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_physics_iq import scene
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from wmreward.batch.candidates import Candidate, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.prompts.jobs import BatchJob
from wmreward.report.cli import main as report
from wmreward.report.page_data import POSTER_BYTES, gallery
from wmreward.report.posters import posters
from wmreward.report.run_data import read_run
from wmreward.video.content import video_sha256
from wmreward.video_io import write_video

_FPS = 24
_FILMS = 6
_WINDOWS = 40
_OF_THE_BASELINE = 24
"""Stills; enough for a mean."""


def make_run(folder: Path, jobs: int, height: int, frames: int) -> RunFolder:
    """A finished run of ``jobs`` jobs with two seeds each, plain and guided."""
    films = [folder / f"film-{number}.mp4" for number in range(_FILMS)]
    for number, film in enumerate(films):
        write_video(film, scene(height, height * 16 // 9, frames, number), _FPS)
    run = RunFolder(folder / "run", {"generator": {}, "reward": {"rewards": {"surprise": 1.0}}})
    listed = [
        BatchJob(id=f"{number:04d}", mode="t2v", prompt="discs", seeds=(0, 1))
        for number in range(jobs)
    ]
    variants = ("plain", "guided")
    run.begin(listed, variants)
    candidates = candidates_of(listed, variants)
    sha256 = [video_sha256(film) for film in films]
    for number, candidate in enumerate(candidates):
        video = run.candidate_folder(candidate) / "video.mp4"
        video.parent.mkdir(parents=True)
        os.link(films[number % _FILMS], video)
    run.manifest.rewrite(
        _record(candidate, run.settings_id, number, sha256[number % _FILMS])
        for number, candidate in enumerate(candidates)
    )
    return run


def _record(candidate: Candidate, settings_id: str, number: int, sha256: str) -> dict[str, Any]:
    score = -0.1 - number % 17 / 100
    times = [index / 8 for index in range(_WINDOWS)]
    return {
        "path": f"candidates/{candidate.name}",
        "job": candidate.job.id,
        "variant": candidate.variant,
        "seed": candidate.seed,
        "settings_id": settings_id,
        "files": {"video.mp4": sha256},
        "score": score,
        "scores": {"surprise": score},
        "seconds": 100.0,
        "per_window": [-score + index / 1000 for index in range(_WINDOWS)],
        "windows": [{"start_s": t, "target_s": t + 1 / 3, "end_s": t + 2 / 3} for t in times],
    }


def measure(folder: Path, jobs: int, height: int, frames: int) -> dict[str, Any]:
    """Seconds of the command, and of a still by one thread."""
    path = make_run(folder, jobs, height, frames).path
    shown = [entry for row in gallery(read_run(path)).values() for _, entry in row]
    videos = list(dict.fromkeys(path / entry.video for entry in shown if entry.video))
    begun, cpu = time.perf_counter(), time.process_time()
    if code := report([str(path), "--no_maps"]):
        raise SystemExit(code)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    alone = videos[:_OF_THE_BASELINE]
    begun = time.perf_counter()
    posters(alone, POSTER_BYTES, workers=1)
    still = (time.perf_counter() - begun) / len(alone)
    return {
        "candidates": jobs * 4,
        "stills": len(videos),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "page_mb": round((path / "report.html").stat().st_size / 1e6, 1),
        "still_by_one_thread_s": round(still, 3),
        "ratio": round(still * len(videos) / wall, 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = adding(parser)
    add("--count", type=int, default=198, help="jobs, of four candidates each")
    add("--video_size_h", "--height", type=int, default=720, help="of the videos, 16:9")
    add("--num_frames", type=int, default=5 * _FPS, help="of a video, at 24 fps")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="bench_report_") as name:
        result = measure(Path(name), args.count, args.video_size_h, args.num_frames)
    place = {"cores": os.cpu_count(), **describe(torch.device("cpu"))}
    print(f"{place['machine']}, {place['cores']} cores")
    print(
        f"{result['candidates']} candidates, {result['stills']} stills: {result['wall_s']} s "
        f"({result['cpu_s']} s of processors), {result['ratio']} times one thread"
    )
    print(json.dumps({**place, "height": args.video_size_h, "frames": args.num_frames, **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
