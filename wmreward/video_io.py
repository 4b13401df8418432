"""Video input and output: read frames and clips, find videos, write videos and pictures.

    clip = read_uniform("clip.mp4")                     # 49 frames over the whole video
    for chunk in stream_fps("lecture.mkv", 8.0, 256):   # any length, bounded memory
        ...
    write_video("out.mp4", clip.frames, fps=24)

Frames are always uint8 [T, H, W, 3], RGB in 0..255. Anything wrong with a video is a `VideoError`
of one line.
"""

from wmreward.video.collect import MAX_CLIP_BYTES
from wmreward.video.find import VIDEO_SUFFIXES, Found, find_videos, list_videos
from wmreward.video.images import IMAGE_SUFFIXES
from wmreward.video.read import (
    DECODERS,
    count_frames,
    iter_frames_at_fps,
    probe,
    read_frames,
    read_uniform,
    stream_fps,
)
from wmreward.video.sampling import uniform_indices
from wmreward.video.types import Clip, Faults, Reduction, VideoInfo
from wmreward.video.write import write_png, write_video

__all__ = [
    "DECODERS",
    "IMAGE_SUFFIXES",
    "MAX_CLIP_BYTES",
    "VIDEO_SUFFIXES",
    "Clip",
    "Faults",
    "Found",
    "Reduction",
    "VideoInfo",
    "count_frames",
    "find_videos",
    "iter_frames_at_fps",
    "list_videos",
    "probe",
    "read_frames",
    "read_uniform",
    "stream_fps",
    "uniform_indices",
    "write_png",
    "write_video",
]
