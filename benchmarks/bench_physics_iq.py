"""Time and memory of the Physics-IQ evaluation of one scenario, real clips new to it and known to it.

    python -m benchmarks.bench_physics_iq                      # 1080p real clips, 720p generated
    python -m benchmarks.bench_physics_iq --video_size_h 2160

Makes three views of a static textured scene with moving discs and sensor noise (30 fps, 5 s, H.264), then
runs the command line twice: cold, and with the real side in its cache. For comparison, the published
evaluator took 31 s and 1.8 GiB for such a scenario at 1080p on 2 cores, and 107 s and 6.7 GB at 4K.
Processor time is reported beside wall time, since other work on the machine hardly changes it. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.flags import adding
from wmreward.video.types import UInt8Array
from wmreward.video_io import write_video

_VIEWS = ("left", "center", "right")
_FPS = 30

# Waits for all descendants, also those whose parent went first (PR_SET_CHILD_SUBREAPER), and says what
# they took: processor seconds, and the peak of the largest in KiB.
_MEASURE = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
try:
    while True:
        os.wait()
except ChildProcessError:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def scene(height: int, width: int, num_frames: int, take: int) -> Iterator[UInt8Array]:
    """Frames uint8 [H, W, 3]: a smooth texture, noise of 1.5 grey levels, three discs on their way."""
    rng = np.random.default_rng(take)
    coarse = np.random.default_rng(9).integers(60, 190, (height // 40 + 1, width // 40 + 1, 3))
    still = coarse.repeat(40, 0).repeat(40, 1)[:height, :width].astype(np.int16)
    noise = [rng.normal(0, 1.5, (height, width, 1)).round().astype(np.int16) for _ in range(4)]
    rows, columns = np.ogrid[:height, :width]
    for t in range(num_frames):
        frame = still + noise[t % 4]
        for disc in range(3):
            across = (0.15 + 0.3 * disc + 0.6 * t / num_frames + 0.01 * take) % 1
            inside = (rows - height * (0.25 + 0.25 * disc)) ** 2 + (
                columns - width * across
            ) ** 2 < (height / 14) ** 2
            frame[inside] = (220, 80 * disc, 40)
        yield frame.clip(0, 255).astype(np.uint8)


def make_clips(folder: Path, height: int, width: int, num_frames: int) -> None:
    """One scenario in `folder`/real and `folder`/generated; the views are copies of one film."""
    small = (height * 2 // 3) // 2 * 2, (width * 2 // 3) // 2 * 2
    sizes = {"real-1": (height, width), "real-2": (height, width), "generated": small}
    for index, (name, size) in enumerate(sizes.items()):
        film = folder / f"{name}.mp4"
        write_video(film, scene(*size, num_frames, index), _FPS, crf=20)
        data = film.read_bytes()
        film.unlink()
        for number, view in enumerate(_VIEWS, 1):
            _copy_path(folder, name, number, view).write_bytes(data)


def _copy_path(folder: Path, name: str, number: int, view: str) -> Path:
    kind, _, take = name.partition("-")
    (folder / kind).mkdir(exist_ok=True)
    if kind == "generated":
        return folder / kind / f"{number:04d}_perspective-{view}_trimmed-discs.mp4"
    number += len(_VIEWS) * (int(take) - 1)
    return (
        folder
        / kind
        / f"{number:04d}_testing-videos_{_FPS}FPS_perspective-{view}_take-{take}_trimmed-discs.mp4"
    )


def evaluate(folder: Path, workers: int | None) -> dict[str, Any]:
    """Run the command line; wall and processor seconds, and the largest process in MiB."""
    command = [sys.executable, "-m", "wmreward.physics_iq"]
    command += ["--workers", str(workers)] if workers else []
    command += ["--real", str(folder / "real"), "--generated", str(folder / "generated")]
    command += ["--cache", str(folder / "cache"), "--output", str(folder / "scores.json")]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    cpu, largest = map(float, done.stdout.split())
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]["all"]
    return {
        "wall_s": round(seconds, 2),
        "cpu_s": round(cpu, 2),
        "largest_process_mib": round(largest / 1024),
        "original": scores["original"]["score"],
        "verified": round(100 * scores["verified"]["score"], 2),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Cold, then with the real side known."""
    with tempfile.TemporaryDirectory(prefix="bench_physics_iq_") as name:
        folder = Path(name)
        make_clips(folder, args.video_size_h, args.video_size_h * 16 // 9, args.num_frames)
        load = round(os.getloadavg()[0], 1)
        runs = {what: evaluate(folder, args.workers) for what in ("cold", "known")}
        cached = sum(path.stat().st_size for path in (folder / "cache").iterdir())
    return {
        "height": args.video_size_h,
        "frames": args.num_frames,
        "workers": args.workers,
        "cores": os.cpu_count(),
        "load_before": load,
        "cache_mb": round(cached / 1e6, 1),
        **runs,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = adding(parser)
    add("--video_size_h", "--height", type=int, default=1080, help="of the real clips, 16:9")
    add("--num_frames", "--frames", type=int, default=5 * _FPS, help="per clip, at 30 fps")
    add("--workers", type=int, help="default: what the command line takes")
    result = run(parser.parse_args(argv))
    print("            wall s     cpu s   largest process")
    for what in ("cold", "known"):
        row = result[what]
        print(
            f"{what:8}  {row['wall_s']:8.2f}  {row['cpu_s']:8.2f}  {row['largest_process_mib']:12} MiB"
        )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
