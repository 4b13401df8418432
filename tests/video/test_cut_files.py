"""A file cut anywhere is recognised as cut, whatever its container."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from video_fixtures import encode, noisy, one_line

from benchmarks.campaign.videos import CLIPS, NUM_FRAMES, target
from wmreward.errors import VideoError
from wmreward.video.images import read_image
from wmreward.video.integrity import scan as scan_module
from wmreward.video.integrity.structure import walk
from wmreward.video_io import read_uniform, write_png


@cache
def clips() -> dict[str, bytes]:
    return {sample.name: sample.data for sample in target().samples()}


@pytest.fixture
def clip(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    if request.param not in clips():
        pytest.skip("PyAV was built without this encoder")
    return request.param, clips()[request.param]


@pytest.mark.parametrize("clip", CLIPS, indirect=True)
def test_whole_files_are_beyond_doubt(clip: tuple[str, bytes], tmp_path: Path) -> None:
    name, data = clip
    (tmp_path / name).write_bytes(data)
    found = read_uniform(tmp_path / name)
    assert len(found) == NUM_FRAMES and str(found.faults) == "" and not found.faults
    assert not walk(tmp_path / name).cut


@pytest.mark.parametrize("clip", CLIPS, indirect=True)
def test_no_cut_passes_in_silence(clip: tuple[str, bytes], tmp_path: Path) -> None:
    name, data = clip
    path = tmp_path / name
    places = np.random.default_rng(0).integers(1, len(data), 12).tolist()
    for place in [*places, len(data) - 1, len(data) - 20]:
        path.write_bytes(data[:place])
        try:
            found = read_uniform(path)
        except VideoError as error:
            one_line(error, path)
            continue
        # All frames may be there: what is lost stood behind them.
        assert len(found) == NUM_FRAMES and "cut" in str(found.faults), place


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif"])
def test_pictures_that_are_cut(suffix: str, tmp_path: Path) -> None:
    import av

    path = tmp_path / f"picture{suffix}"
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    if suffix == ".png":
        write_png(path, picture)
    else:
        codec, pix_fmt, kind = {
            ".jpg": ("mjpeg", "yuvj420p", "image2"),
            ".bmp": ("bmp", "bgr24", "image2"),
            ".webp": ("libwebp", "yuv420p", "webp"),
            ".gif": ("gif", "rgb8", "gif"),
        }[suffix]
        if codec not in av.codecs_available:
            pytest.skip(f"PyAV was built without {codec}")
        options = {"update": "1"} if kind == "image2" else {}
        with av.open(str(path), "w", format=kind, options=options) as container:
            stream = container.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    data = path.read_bytes()
    assert read_image(path).shape == (48, 64, 3)
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(VideoError, match=r"cut off|not an image") as caught:
            read_image(path)
        one_line(caught.value, path)


def test_data_behind_the_video_is_no_cut(tmp_path: Path) -> None:
    """Cameras append tables of their own; writers fill up with zeros."""
    for name, tail in {
        "h264.mp4": b"\0\0\x01\0CANO" + bytes(300),
        "h264.mov": bytes(64),
        "gif.gif": bytes(10),
        "mpeg2.mpg": bytes(500),
    }.items():
        (tmp_path / name).write_bytes(clips()[name] + tail)
        assert not read_uniform(tmp_path / name).faults, name


def test_walks_end(tmp_path: Path) -> None:
    """Whatever sizes a file claims."""
    random = np.random.default_rng(1)
    for name, data in clips().items():
        path = tmp_path / name
        for _ in range(6):
            mutant = bytearray(data)
            start = int(random.integers(0, min(len(data), 3000) - 8))
            mutant[start : start + 8] = b"\xff" * 8 if random.integers(2) else bytes(8)
            path.write_bytes(mutant)
            walk(path)


def test_no_flipped_bit_loses_a_tag_of_an_flv_in_silence(tmp_path: Path) -> None:
    """FFmpeg passes over a tag of an unknown kind, and over one that says that it holds no picture."""
    path = encode(tmp_path / "clip.flv", noisy(6))
    whole = path.read_bytes()
    tags = [int.from_bytes(whole[5:9], "big") + 4]
    while tags[-1] < len(whole):
        tags.append(tags[-1] + 15 + int.from_bytes(whole[tags[-1] + 1 : tags[-1] + 4], "big"))
    for place in (tag + offset for tag in tags[3:6] for offset in (0, 11, 12)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            with suppress(VideoError):
                clip = read_uniform(path)
                assert clip.faults or len(clip) == 6, (place, bit)


def test_sound_in_an_flv_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "sound.flv"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("flv", rate=24), container.add_stream("aac", rate=44100)
        assert isinstance(video, VideoStream) and isinstance(sound, AudioStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 11025), np.float32), "fltp", "mono")
        silence.rate = 44100
        container.mux([*sound.encode(silence), *sound.encode(None)])
        for picture in noisy(6):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert not read_uniform(path).faults


def test_a_piece_that_comes_twice_is_told_in_a_wmv(tmp_path: Path) -> None:
    """Packets have one size: all that come after it are passed over."""
    path = encode(tmp_path / "clip.wmv", noisy(24), "wmv2")
    whole = path.read_bytes()
    path.write_bytes(whole[:3000] + whole[2500:])
    with suppress(VideoError):
        assert "longer than its header says" in str(read_uniform(path).faults)


def test_a_stream_that_begins_in_the_middle_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets name a place that PyAV has no stream for."""
    path = encode(tmp_path / "clip.ts", noisy(6))

    def fails(*_: object) -> None:
        [][0]

    monkeypatch.setattr(scan_module, "codec_name", fails)
    with pytest.raises(VideoError, match="another stream begins in the middle"):
        read_uniform(path)
