"""Videos that no memory holds, refused before anything is allocated: the system would end the process."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from magi1.config import MagiConfig
from magi1.planning.memory import host_of_video
from magi1.sampling.schedule import VideoLayout
from wmfiles import available_memory
from wmfiles.amounts import BYTES, amount
from wmreward.errors import UsageError

USABLE = 0.8
"""Of the memory that there is; networks and what they compute with need some, too."""


def check_room(config: MagiConfig, videos: int) -> None:
    """Raise ``UsageError`` unless texts, latents and frames of so many videos at once fit into memory."""
    runtime = config.runtime_config

    def needed(frames: int) -> int:
        layout = VideoLayout.plan(replace(runtime, num_frames=frames))
        return host_of_video(config, layout, videos)

    unit = runtime.chunk_width * runtime.temporal_downsample_factor
    size = (runtime.video_size_h, runtime.video_size_w)
    refuse_unless_fits(needed, runtime.num_frames, unit, size, videos)


def refuse_unless_fits(
    needed: Callable[[int], int], frames: int, unit: int, size: tuple[int, int], videos: int = 1
) -> None:
    """Raise ``UsageError`` if there is less memory than needed, saying how much would fit.

    Args:
        needed: Bytes for videos of so many frames.
        frames: Of one video.
        unit: Frames that videos are made in.
        size: Height and width.
        videos: How many are made at once.
    """
    free = available_memory()
    if free is None or needed(frames) <= (there := int(USABLE * free)):
        return
    fit = unit * bisect_right(range(1, frames // unit + 1), there, key=lambda n: needed(n * unit))
    advice = "lower --candidate_batch" if videos > 1 else "lower --video_size_h and --video_size_w"
    if fit:
        advice = f"up to {fit} frames fit (--num_frames)"
    raise UsageError(
        f"{frames} frames of {size[1]}×{size[0]}{f' in {videos} videos at once' * (videos > 1)} need "
        f"{amount(needed(frames), BYTES, '.1f')} of memory, but {amount(there, BYTES, '.1f')} are free for "
        f"it: {advice}"
    )
