"""What the Physics-IQ jobs start from: the switch frame of each, or the clip before it.

    switch-frames/0001_switch-frames_anyFPS_perspective-left_trimmed-ball-falls.jpg
    split-videos/conditioning/24FPS/0001_conditioning-videos_24FPS_perspective-left_take-1_trimmed-ball-falls.mp4

Original and Verified differ in the name of the root only; the published trees show the second folder as
`conditioning-videos`, the downloads as `conditioning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from wmreward.errors import UsageError
from wmreward.physics_iq.dataset import NUM_JOBS, Description, read_descriptions
from wmreward.prompts.jobs import BatchJob

ROOTS = ("physics-IQ-benchmark", "physics-IQ-benchmark-verified")
RATES = (30, 24, 16, 8)
SPELLINGS = ("conditioning", "conditioning-videos")

Mode = Literal["i2v", "v2v"]


def physics_iq_jobs(
    descriptions: Path, data: Path, mode: Mode, *, fps: int = 24, seeds: Sequence[int] = (0,)
) -> list[BatchJob]:
    """The 198 jobs of the benchmark, under the names that it expects.

    Args:
        descriptions: The benchmark's descriptions.csv, or another file of the same columns (other prompts).
        data: The benchmark's folder, Original or Verified, or the one that holds it.
        mode: From switch frames (``i2v``) or conditioning clips (``v2v``).
        fps: Of the conditioning clips: 30, 24, 16 or 8, as the model works.
        seeds: Of the candidates of every job.

    Raises:
        UsageError: a file that is something else, or a folder without what the mode needs.
    """
    rows = [row for row in read_descriptions(descriptions) if row.take == 1]
    if len(rows) != NUM_JOBS:
        raise UsageError(
            f"{descriptions}: {len(rows)} rows of take 1 instead of {NUM_JOBS}; download it again"
        )
    folder = _folder(data, mode, fps)
    return [
        BatchJob(
            id=row.id,
            mode=mode,
            prompt=row.text,
            init_image=folder / switch_frame_name(row) if mode == "i2v" else None,
            init_video=folder / conditioning_name(row, fps) if mode == "v2v" else None,
            output_name=row.generated_name,
            category=row.category,
            seeds=tuple(seeds),
        )
        for row in rows
    ]


def switch_frame_name(row: Description) -> str:
    """The last frame before the part that is to be generated."""
    scenario = row.scenario.removesuffix(".mp4")
    return f"{row.id}_switch-frames_anyFPS_{row.view}_{scenario}.jpg"


def conditioning_name(row: Description, fps: int) -> str:
    """The three seconds before the part that is to be generated."""
    return f"{row.id}_conditioning-videos_{fps}FPS_{row.view}_take-{row.take}_{row.scenario}"


def _folder(data: Path, mode: Mode, fps: int) -> Path:
    if fps not in RATES:
        raise UsageError(
            f"fps={fps}: the benchmark has clips at {', '.join(map(str, RATES))} frames per second"
        )
    wanted = (
        ["switch-frames"]
        if mode == "i2v"
        else [f"split-videos/{spelling}/{fps}FPS" for spelling in SPELLINGS]
    )
    found = [
        folder
        for root in (data, *(data / name for name in ROOTS))
        for folder in (root / name for name in wanted)
        if folder.is_dir()
    ]
    if not found:
        raise UsageError(
            f"{data}: there is no {' or '.join(wanted)} in it, nor in a {' or '.join(ROOTS)} below it; "
            "give the benchmark's folder"
        )
    if len(found) > 1:
        raise UsageError(f"{data} holds both {found[0]} and {found[1]}: name one of the folders")
    return found[0]
