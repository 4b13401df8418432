"""The same videos as other cameras, codecs and clocks would give them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wmreward.video_io import read_frames, write_video

Condition = Callable[[Tensor], Tensor]


def noisy(videos: Tensor) -> Tensor:
    """Sensor noise of 5 % of the grey range, more than training shows."""
    generator = torch.Generator(videos.device).manual_seed(0)
    return videos + 0.1 * torch.randn(videos.shape, generator=generator, device=videos.device)


def blurred(videos: Tensor) -> Tensor:
    return F.avg_pool3d(videos, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)


def compressed(videos: Tensor) -> Tensor:
    """There and back through H.264 at a coarse quality."""
    out = torch.empty_like(videos)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for i, video in enumerate(videos):
            frames = ((video + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).cpu()
            write_video(path, frames.numpy(), fps=24, crf=30)
            back = torch.from_numpy(read_frames(path, range(len(frames))))
            out[i] = back.permute(3, 0, 1, 2).to(out) / 127.5 - 1
    return out


CONDITIONS: dict[str, Condition] = {
    "clean": lambda videos: videos,
    "noise": noisy,
    "blur": blurred,
    "mp4": compressed,
    "half_rate": lambda videos: videos[:, :, ::2],
}
