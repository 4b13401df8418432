"""What a player would show is what is read; and what is no video is named."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from video_fixtures import encode, grey, noisy, numbers, one_line

from wmreward.errors import UsageError, VideoError
from wmreward.video import container as container_module
from wmreward.video.images import read_image
from wmreward.video.resize import as_shown
from wmreward.video_io import (
    list_videos,
    probe,
    read_frames,
    read_uniform,
    stream_fps,
    write_png,
    write_video,
)

# --- which stream -------------------------------------------------------------------------------


def two_streams(path: Path, default: int | None) -> Path:
    """Greys 0, 1, 2, … in the first stream and 30, 31, … in the second."""
    with av.open(str(path), "w") as container:
        streams = []
        for index in range(2):
            stream = container.add_stream("libx264", rate=24)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            disposition = type(stream.disposition)
            shown = index == default or default is None
            stream.disposition = disposition.default if shown else disposition(0)
            streams.append(stream)
        for place, stream in enumerate(streams):
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(grey(30 * place + index), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 24)
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_is_shown(tmp_path: Path, default: int) -> None:
    path = two_streams(tmp_path / "two.mkv", default)
    expected = list(range(30 * default, 30 * default + 10))
    clip = read_uniform(path)
    assert numbers(clip.frames) == expected and not clip.faults


def test_of_several_videos_none_of_which_is_marked_the_first_is_read_and_that_is_told(
    tmp_path: Path,
) -> None:
    clip = read_uniform(two_streams(tmp_path / "two.mkv", 2))
    assert numbers(clip.frames) == list(range(10))
    assert clip.faults.notes == [
        "it holds 2 videos and marks none of them to be shown: the first is read"
    ]


def test_of_several_videos_that_are_marked_the_first_is_read_and_that_is_told(
    tmp_path: Path,
) -> None:
    clip = read_uniform(two_streams(tmp_path / "two.mkv", None))
    assert numbers(clip.frames) == list(range(10))
    assert clip.faults.notes == ["it marks 2 videos to be shown: the first of them is read"]


# --- rate and times -----------------------------------------------------------------------------


def test_avi_with_empty_chunks(tmp_path: Path) -> None:
    """H.264 with B-frames copied into AVI: every other chunk is empty, which the header's rate counts."""
    source = encode(tmp_path / "source.mp4", options={"bf": "2"})
    ticks = [2 * index for index in range(60)]
    path = encode(tmp_path / "x.avi", options={"bf": "2"}, pts=ticks, time_base=Fraction(1, 48))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 120  # which counts the empty ones
    found, expected = read_uniform(path, 100), read_uniform(source, 100)
    assert numbers(found.frames) == numbers(expected.frames)
    np.testing.assert_allclose(found.times_s, expected.times_s, atol=1e-6)
    assert found.source.fps == expected.source.fps == 24
    assert not found.faults


@pytest.mark.parametrize(("name", "codec"), [("x.h264", "libx264"), ("x.hevc", "libx265")])
def test_a_raw_stream_has_the_rate_that_its_codec_says(
    tmp_path: Path, name: str, codec: str
) -> None:
    """FFmpeg's reader gives all of them 25 frames a second; those of the tests have 24."""
    raw = encode(tmp_path / name, codec=codec)
    clip = read_uniform(raw, 100)
    assert numbers(clip.frames) == list(range(60)) and clip.source.fps == 24
    np.testing.assert_allclose(clip.times_s, np.arange(60) / 24, atol=1e-5)
    assert sum(len(part) for part in stream_fps(raw, 12, 64)) == 30
    assert not clip.faults


def test_a_raw_stream_without_a_rate_says_so(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
    clip = read_uniform(path)
    assert clip.source.fps == 25
    assert clip.faults.notes == ["it states no frame rate: 25 is assumed"]


def test_interlaced_frames_are_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mp4", options={"x264-params": "interlaced=1:tff=1"})
    for max_frames in (5, 100):
        notes = read_uniform(path, max_frames).faults.notes
        assert notes == [
            "its frames are marked as interlaced and read as they are; deinterlace it first"
        ]


def test_a_very_low_rate_is_one(tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mp4")
    assert [len(part) for part in stream_fps(path, 1e-9, 8)] == [1]


# --- titles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_titles_do_not_matter(tmp_path: Path, suffix: str) -> None:
    """Latin-1 where UTF-8 should be."""
    path = tmp_path / f"titled{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "cafXYZ!"
        stream = container.add_stream("libx264", rate=24)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"cafXYZ!" in data
    path.write_bytes(data.replace(b"cafXYZ!", b"caf\xe9\xff\xfe!"))
    clip = read_uniform(path)
    assert numbers(clip.frames) == list(range(10)) and not clip.faults
    assert probe(path).width == 64


# --- side data: orientation of pictures ---------------------------------------------------------


def jpeg_with_exif(path: Path, picture: np.ndarray, orientation: int) -> Path:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj444p", Fraction(1)
    encoder.options = {"qmin": "1", "qmax": "1"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format="yuvj444p", dst_color_range="JPEG")
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    tags = struct.pack("<HHHII", 1, 0x0112, 3, 1, orientation) + bytes(4)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    return path


@pytest.mark.parametrize("orientation", [None, 6])
def test_the_colour_profile_of_a_png_does_not_end_the_process(
    tmp_path: Path, orientation: int | None
) -> None:
    """PyAV frees such side data twice: the process died, later, of a segmentation fault."""
    path = tmp_path / "profile.png"
    picture = noisy(1)[0]
    write_png(path, picture)
    data = path.read_bytes()
    chunks = png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(128)))
    if orientation:
        tags = struct.pack("<HHHII", 1, 0x0112, 3, 1, orientation) + bytes(4)
        chunks += png_chunk(b"eXIf", b"II*\0\x08\0\0\0" + tags)
    path.write_bytes(data[:33] + chunks + data[33:])  # behind the header
    code = (
        "import gc, sys; from pathlib import Path; from wmreward.video.images import read_image;"
        "found = read_image(Path(sys.argv[1])); gc.collect(); print(found.shape, int(found.sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    shape = (64, 48, 3) if orientation else (48, 64, 3)
    assert (done.returncode, done.stdout) == (0, f"{shape} {int(picture.sum())}\n"), done


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def test_an_animated_webp_is_named(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    head = b"VP8X" + struct.pack("<II", 10, 2) + bytes(6)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(head) + 4) + b"WEBP" + head)
    for read in (read_image, read_uniform):
        with pytest.raises(VideoError, match="is an animated WebP, which is not read") as caught:
            read(path)
        one_line(caught.value, path)


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: np.rot90(p, 2),
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p.swapaxes(0, 1), 2),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32, 0] = stored[:24, 32:, 1] = stored[24:, :32, 2] = 200
    path = jpeg_with_exif(tmp_path / "photo.jpg", stored, orientation)
    expected = UPRIGHT[orientation](stored)
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4
    assert np.abs(read_frames(tmp_path, [0])[0].astype(int) - expected).mean() < 4  # in a folder
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


# --- aspect -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_that_are_not_square(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"anamorphic{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    clip = read_uniform(path)
    assert clip.frames.shape == (
        4,
        48,
        64,
        3,
    )  # as they are coded: whoever scales them stretches them
    assert clip.source.sample_aspect == 2
    assert as_shown(clip.frames, clip.source).shape == (4, 48, 128, 3)


# --- what is not done, but told -----------------------------------------------------------------


def plain(path: Path, codec: str, pix_fmt: str, transfer: int = 2, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=24)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.color_trc = transfer
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, ""), (13, "")])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colours_of_high_dynamic_range_are_told(
    tmp_path: Path, suffix: str, transfer: int, name: str
) -> None:
    path = plain(tmp_path / f"hdr{suffix}", "libx264", "yuv420p10le", transfer)
    for clip in (read_uniform(path), *stream_fps(path, 24, 8)):
        assert f"HDR colours ({name})" in str(clip.faults) if name else not clip.faults


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "old", "new"),
    [
        # A clean aperture, and a crop at the right in place of a unit that says nothing.
        (".mov", "rawvideo", "uyvy422", b"clap\0\0\0\x40", b"clap\0\0\0\x38"),
        (".mkv", "libx264", "yuv420p", b"\x54\xb2\x81\x04", b"\x54\xdd\x81\x08"),
    ],
)
def test_a_crop_of_the_container_is_told(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, old: bytes, new: bytes
) -> None:
    path = plain(tmp_path / f"crop{suffix}", codec, pix_fmt, write_crc32="0")
    assert not read_uniform(path).faults
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    clip = read_uniform(path)
    assert clip.frames.shape[1:3] == (48, 64)
    assert str(clip.faults) == "a player shows 56 x 48 of its 64 x 48 pixels, all are read"


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "playlist"),
        ("ffconcat version 1.0\nfile clip.mp4\n", "concat"),
        ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "DASH"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "SDP"),
        ("<!doctype html><title>404</title>", "web page"),
    ],
)
def test_what_names_other_files_is_refused(tmp_path: Path, content: str, kind: str) -> None:
    encode(tmp_path / "clip.mp4")
    path = tmp_path / "list.mp4"
    path.write_text(content)
    with pytest.raises(VideoError, match=kind) as caught:
        read_uniform(path)
    one_line(caught.value, path)


def test_a_playlist_that_is_not_seen_at_once_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "clip.ts")
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.5,\nclip.ts\n#EXT-X-ENDLIST\n")
    monkeypatch.setattr(container_module, "_NO_VIDEO_BUT", ())
    with pytest.raises(VideoError, match="not a video that FFmpeg can read"):
        read_uniform(path)


def test_an_lfs_pointer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(VideoError, match="git lfs pull"):
        read_uniform(path)


@pytest.mark.parametrize("name", ["huge.png", "huge.mp4"])
def test_huge_frames_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name.endswith("png"):
        write_png(path, noisy(1)[0])
    else:
        write_video(path, noisy(4), 24)
    monkeypatch.setattr(container_module, "MAX_PIXELS", 1000)
    monkeypatch.setitem(container_module._OPTIONS, "max_pixels", "1000")
    read = read_image if name.endswith("png") else read_uniform
    with pytest.raises(VideoError, match="64 x 48 pixels are too large") as caught:
        read(path)
    one_line(caught.value, path)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_path_is_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    encode(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        list_videos([empty])
