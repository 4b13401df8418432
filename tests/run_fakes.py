"""Run folders as the runner leaves them, without a generator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmreward.batch.candidates import Candidate, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.prompts.jobs import BatchJob
from wmreward.video.content import video_sha256
from wmreward.video.types import UInt8Array
from wmreward.video_io import write_video

SETTINGS = {
    "generator": {"num_steps": 8, "size": [48, 64]},
    "reward": {"rewards": {"surprise": 1.0}, "model": "tiny", "window_size": 16},
}
FPS = 12


def moving_square(place: float, frames: int = FPS, noise: int = 0) -> UInt8Array:
    """A bright square that moves right from ``place`` (0..1); uint8 ``[T, 48, 64, 3]``."""
    random = np.random.default_rng(noise)
    video = np.full((frames, 48, 64, 3), 40, np.uint8)
    video += random.integers(0, 8, video.shape, dtype=np.uint8)
    for index in range(frames):
        left = int(place * 40) + index * 16 // frames
        video[index, 16:32, left : left + 12] = (230, 180, 60)
    return video


def write_run(
    path: Path,
    jobs: list[BatchJob],
    variants: tuple[str, ...] = ("plain", "guided"),
    *,
    failing: Mapping[str, str] | None = None,
    waiting: tuple[str, ...] = (),
    frames: int = FPS,
    settings: Mapping[str, Any] = SETTINGS,
    videos: bool = True,
) -> RunFolder:
    """A run as its processes leave it, made of what `wmreward/batch/folder.py` describes: the score of a
    candidate is its seed / 100, guided ones have 0.005 more.

    Args:
        path: Its folder.
        jobs: What was to be made.
        variants: How.
        failing: Error of candidates that failed, by name.
        waiting: Names of those not made yet.
        frames: Of each video.
        settings: Of the run.
        videos: Whether the videos are really there.
    """
    run = RunFolder(path, settings)
    run.begin(jobs, variants)
    records = []
    for candidate in candidates_of(jobs, variants):
        record: dict[str, Any] = {
            "path": f"candidates/{candidate.name}",
            "job": candidate.job.id,
            "variant": candidate.variant,
            "seed": candidate.seed,
            "settings_id": run.settings_id,
            "at": "2026-01-31T12:00:00+0000",
        }
        if candidate.name in waiting:
            continue
        if error := (failing or {}).get(candidate.name):
            told = {"error": error, "attempt": 2, "seconds": 1.5, "host": "node1"}
            records.append(record | told)
            continue
        video = path / record["path"] / "video.mp4"
        sha256 = hashlib.sha256(candidate.name.encode()).hexdigest()
        if videos:
            write_video(video, moving_square(candidate.seed / 8, frames), FPS)
            sha256 = video_sha256(video)
        records.append(record | facts(candidate) | {"files": {"video.mp4": sha256}})
    run.manifest.rewrite(records)
    return run


def facts(candidate: Candidate) -> dict[str, Any]:
    """What a maker says of a candidate."""
    guided = candidate.variant == "guided"
    score = candidate.seed / 100 + (0.005 if guided else 0.0)
    told: dict[str, Any] = {
        "score": score,
        "scores": {"surprise": score},
        "parts": {"surprise.plain": -score},
        "seconds": 2.0 + candidate.seed,
        "host": "node1",
        "peak_memory_bytes": 3 * 2**30,
        "per_window": [0.3 - score, 0.2 - score, 0.25 - score],
        "windows": [
            {"target_s": 0.2 + 0.2 * i, "end_s": 0.4 + 0.2 * i, "start_s": 0.2 * i}
            for i in range(3)
        ],
    }
    if guided:
        told["guidance"] = {"effect": {"gain": 0.002, "beyond_null": candidate.seed % 2 == 0}}
    return told
