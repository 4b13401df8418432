"""Write videos and contact sheets with PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def _to_bytes(frames: Tensor) -> Tensor:
    """RGB [..., 3, H, W] in [0, 1] -> uint8 [..., H, W, 3]."""
    return (frames * 255.0).round().to(torch.uint8).movedim(-3, -1).contiguous()


def write_png(path: Path, image: Tensor) -> None:
    """Write one picture [3, H, W] in [0, 1]."""
    frame = av.VideoFrame.from_ndarray(_to_bytes(image).cpu().numpy(), format="rgb24")
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_mp4(path: Path, video: Tensor, *, fps: int = 12, scale: int = 4) -> None:
    """Write [3, T, H, W] in [0, 1], every pixel enlarged to `scale` x `scale`."""
    frames = interpolate(video.transpose(0, 1), scale_factor=scale, mode="nearest")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for picture in _to_bytes(frames).cpu().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def contact_sheet(videos: Tensor, *, every: int = 1, scale: int = 2) -> Tensor:
    """One picture [3, H', W'] with a row of frames per video [B, 3, T, H, W]."""
    frames = videos[:, :, ::every]
    b, c, t, h, w = frames.shape
    frames = frames.transpose(1, 2).reshape(b * t, c, h, w)
    frames = pad(interpolate(frames, scale_factor=scale, mode="nearest"), (2, 2, 2, 2), value=1.0)
    _, _, h, w = frames.shape
    return frames.reshape(b, t, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, b * h, t * w)
