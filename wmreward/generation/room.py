"""Videos that no memory holds, refused before anything is allocated: the system would end the process."""

from __future__ import annotations

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
    layout = VideoLayout.plan(runtime)
    refuse_unless_fits(
        host_of_video(config, layout, videos),
        layout.frames * runtime.temporal_downsample_factor,
        runtime.chunk_width * runtime.temporal_downsample_factor,
        (runtime.video_size_h, runtime.video_size_w),
        videos,
    )


def refuse_unless_fits(
    needed: int, frames: int, unit: int, size: tuple[int, int], videos: int = 1
) -> None:
    """Raise ``UsageError`` if there is less memory than needed, saying how much would fit.

    Args:
        needed: Bytes; they grow with the number of frames.
        frames: Of one video.
        unit: Frames that videos are made in.
        size: Height and width.
        videos: How many are made at once.
    """
    free = available_memory()
    if free is None or needed <= (there := int(USABLE * free)):
        return
    what = f"{frames} frames of {size[1]}×{size[0]}" + f" in {videos} videos at once" * (videos > 1)
    fit = there * frames // needed // unit * unit
    advice = (
        f"up to {fit} frames fit (--num_frames)"
        if fit
        else "lower --candidate_batch"
        if videos > 1
        else "lower --video_size_h and --video_size_w"
    )
    need, free_of_it = amount(needed, BYTES, ".1f"), amount(there, BYTES, ".1f")
    raise UsageError(f"{what} need {need} of memory, but {free_of_it} are free for it: {advice}")
