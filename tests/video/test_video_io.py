"""Exact frames from every kind of video, and one clear line for every kind of broken one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_fixtures import FPS, encode, grey, noisy, numbers, one_line

from wmreward.errors import UsageError, VideoError
from wmreward.video import read as read_module
from wmreward.video.find import notes_on
from wmreward.video.rgb import turn
from wmreward.video.sampling import by_rounded_times, exact_rate
from wmreward.video.types import SourceFrame
from wmreward.video_io import (
    Clip,
    count_frames,
    find_videos,
    iter_frames_at_fps,
    list_videos,
    probe,
    read_frames,
    read_uniform,
    stream_fps,
    uniform_indices,
    write_png,
    write_video,
)


def remux(source: Path, target: Path, skip: int = 0, shift: int = 0) -> Path:
    """Copy packets without the first `skip`, moved by `shift` ticks."""
    options = {"movflags": "faststart"} if target.suffix == ".mp4" else {}
    with av.open(str(source)) as inputs, av.open(str(target), "w", options=options) as outputs:
        template = inputs.streams.video[0]
        if hasattr(outputs, "add_stream_from_template"):
            stream = outputs.add_stream_from_template(template)
        else:
            stream = outputs.add_stream(template=template)  # type: ignore[call-overload]
        packets = [packet for packet in inputs.demux(template) if packet.dts is not None]
        for packet in packets[skip:]:
            packet.pts += shift
            packet.dts += shift
            packet.stream = stream
            outputs.mux(packet)
    return target


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


# --- which frames -------------------------------------------------------------------------------


def chosen_by_ffmpeg(ticks: Sequence[int], base: Fraction, fps: int) -> list[int]:
    """Which frames of a video FFmpeg's filter ``fps`` takes, each as often as it comes."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=2, height=2, format="gray", time_base=base)
    chooser, sink = graph.add("fps", str(fps)), graph.add("buffersink")
    source.link_to(chooser)
    chooser.link_to(sink)
    graph.configure()
    seen: list[int] = []
    ends = [*ticks[1:], 2 * ticks[-1] - ticks[-2]]
    pictures: list[av.VideoFrame | None] = []
    for number, (at, end) in enumerate(zip(ticks, ends, strict=True)):
        frame = av.VideoFrame.from_ndarray(np.full((2, 2), number, np.uint8), format="gray")
        frame.pts, frame.time_base, frame.duration = at, base, end - at
        pictures.append(frame)
    for picture in (*pictures, None):
        source.push(picture)
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                seen.append(int(sink.pull().to_ndarray()[0, 0]))
    return seen


@pytest.mark.parametrize("rate", [10, 12, 16, 24, 25, Fraction(30_000, 1001), 30, 50, 60])
@pytest.mark.parametrize("fps", [8, 24])
def test_the_released_choice_of_frames_is_that_of_ffmpeg(rate: Fraction, fps: int) -> None:
    base = Fraction(1, 90_000)
    even = [round(i / (Fraction(rate) * base)) for i in range(50)]
    uneven = np.random.default_rng(fps).integers(1, 20_000, 50).cumsum().tolist()
    for ticks in (even, [tick - uneven[0] for tick in uneven]):
        frames = [SourceFrame(i, tick * base, lambda: None) for i, tick in enumerate(ticks)]
        ours = [f.index for f, repeats in by_rounded_times(frames, fps) for _ in range(repeats)]
        assert ours == chosen_by_ffmpeg(ticks, base, fps)


def test_uniform_indices_truncate() -> None:
    assert uniform_indices(16).tolist() == list(range(16))
    assert uniform_indices(49).tolist() == list(range(49))
    assert uniform_indices(81)[:8].tolist() == [0, 1, 3, 5, 6, 8, 10, 11]
    assert uniform_indices(120)[:8].tolist() == [0, 2, 4, 7, 9, 12, 14, 17]
    assert uniform_indices(10, 1).tolist() == [0]
    for num_frames in (1, 2, 50, 97, 241, 100_000):
        picked = uniform_indices(num_frames)
        assert picked[0] == 0 and picked[-1] == num_frames - 1 and picked.dtype == np.int64
        assert len(picked) == min(49, num_frames)
    with pytest.raises(UsageError, match="max_frames=0"):
        uniform_indices(10, 0)


def test_rates_are_exact() -> None:
    assert exact_rate(24) == 24
    assert exact_rate(29.97) == Fraction(30000, 1001)
    assert exact_rate(23.976) == exact_rate(24 / 1.001) == Fraction(24000, 1001)
    assert exact_rate(12.5) == Fraction(25, 2)
    assert exact_rate(0.5) == Fraction(1, 2)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="fps"):
            exact_rate(wrong)


CODECS = [
    (".mp4", "libx264", "yuv420p", {"bf": "3"}),
    (".mov", "libx264", "yuv420p", {"bf": "3"}),
    (".mkv", "libx264rgb", "rgb24", {"crf": "0"}),
    (".avi", "libx264", "yuv420p", {"bf": "3"}),
    (".ts", "libx264", "yuv420p", {"bf": "3"}),
    (".mp4", "libx264", "yuv444p", {}),
    (".mp4", "libx264", "yuv420p10le", {}),
    (".mkv", "ffv1", "gray", {}),
    (".mp4", "libx265", "yuv420p", {"bf": "3"}),
    (".mkv", "libx265", "yuv420p10le", {"bf": "3"}),
    (".webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    (".webm", "libvpx-vp9", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    (".mp4", "libvpx-vp9", "yuv420p", {}),
    (".webm", "libsvtav1", "yuv420p", {"preset": "12"}),
    (".mp4", "libaom-av1", "yuv420p", {"cpu-used": "8"}),
    (".avi", "mpeg4", "yuv420p", {"bf": "2", "b": "4M"}),
    (".ts", "mpeg2video", "yuv420p", {}),
    (".mkv", "ffv1", "bgr0", {}),
    (".mov", "prores", "yuv422p10le", {}),
    (".gif", "gif", "rgb8", {}),
]


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "options"), CODECS)
def test_picked_frames_are_the_asked_for_ones(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    count = 60
    if pix_fmt == "rgb8":  # 3 bits a channel tell only a few greys apart
        frames = [grey(0) if i % 7 else grey(63) for i in range(count)]
        expected = np.array([0 if i % 7 else 63 for i in range(count)])
    else:
        frames, expected = [grey(i) for i in range(count)], np.arange(count)
    path = encode(tmp_path / f"clip{suffix}", frames, codec, pix_fmt, options=options)
    clip = read_uniform(path)
    assert clip.num_source_frames == count_frames(path) == count
    assert clip.indices.tolist() == uniform_indices(count).tolist()
    assert numbers(clip.frames) == expected[clip.indices].tolist()
    assert numbers(read_frames(path, [40, 3, 3, 17])) == expected[[40, 3, 3, 17]].tolist()
    assert clip.frames.shape == (49, 48, 64, 3) and clip.frames.dtype == np.uint8
    # GIF counts in hundredths of a second and Matroska in thousandths.
    tolerance, rate = (0.011, 25) if suffix == ".gif" else (0.001, FPS)
    np.testing.assert_allclose(clip.times_s, clip.indices / FPS, atol=tolerance)
    at_8 = list(iter_frames_at_fps(path, 8))
    assert [index for index, _, _ in at_8] == list(range(0, count, 3))
    assert numbers(frame for _, _, frame in at_8) == expected[::3].tolist()
    info = probe(path)
    assert (info.width, info.height, info.path) == (64, 48, path)
    assert info.fps == pytest.approx(rate, rel=1e-3)
    assert info.num_frames in (None, count)


def test_info_of_an_ordinary_file(tmp_path: Path) -> None:
    info = probe(encode(tmp_path / "clip.mp4"))
    assert (info.codec, info.pix_fmt, info.num_frames) == ("h264", "yuv420p", 60)
    assert info.duration_s == pytest.approx(2.5)


def test_clip_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    assert read_uniform(path, 60).frame_rate == pytest.approx(FPS)
    assert read_uniform(path, 30).frame_rate == pytest.approx(FPS * 29 / 59)
    assert read_uniform(path, 1).frame_rate == FPS
    assert len(read_uniform(path, 7)) == 7


def uneven_pts(count: int, seed: int = 0) -> list[int]:
    """Milliseconds, with pauses."""
    steps = np.random.default_rng(seed).choice([20, 33, 42, 400], count - 1, p=[0.3, 0.3, 0.3, 0.1])
    return [0, *np.cumsum(steps).tolist()]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("fps", [3, 7.5, 24, 60])
def test_variable_frame_rate(tmp_path: Path, suffix: str, fps: float) -> None:
    pts = uneven_pts(60)
    path = encode(tmp_path / f"vfr{suffix}", pts=pts, time_base=Fraction(1, 1000))
    times = np.array(pts) / 1000
    clip = read_uniform(path, 60)
    np.testing.assert_allclose(clip.times_s, times, atol=0.0011)
    picked = list(iter_frames_at_fps(path, fps))
    wanted = np.arange(0, times[-1] + 1e-9, 1 / fps)
    assert len(picked) == len(wanted)
    distances = np.abs(times[None] - wanted[:, None])
    chosen = distances[np.arange(len(wanted)), [index for index, _, _ in picked]]
    assert (chosen <= distances.min(axis=1) + 0.0011).all()
    assert numbers(frame for _, _, frame in picked) == [index for index, _, _ in picked]


def test_ties_do_not_depend_on_the_clock_of_the_container(tmp_path: Path) -> None:
    picks = []
    for suffix in (".mp4", ".mkv"):  # 16 of 24 per second: every second time is a tie
        path = encode(tmp_path / f"clip{suffix}")
        picks.append([index for index, _, _ in iter_frames_at_fps(path, 16)])
    assert picks[0] == picks[1] and picks[0][:5] == [0, 1, 3, 4, 6]


def test_stream_in_chunks(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    chunks = list(stream_fps(path, 12, 8))
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 6]
    assert all(isinstance(chunk, Clip) and chunk.num_source_frames == 60 for chunk in chunks)
    indices = np.concatenate([chunk.indices for chunk in chunks])
    assert indices.tolist() == list(range(0, 60, 2))
    assert chunks[1].times_s[0] == pytest.approx(16 / FPS)
    assert chunks[1].frame_rate == pytest.approx(12)
    for wrong in ({"fps": 0, "chunk_frames": 8}, {"fps": 8, "chunk_frames": 0}):
        with pytest.raises(UsageError):
            stream_fps(path, **wrong)  # type: ignore[arg-type]


def test_streaming_decodes_no_further_than_needed(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    before = threading.active_count()
    stream = iter_frames_at_fps(path, 24)
    assert next(stream)[0] == 0 and next(stream)[0] == 1
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_frames_hidden_by_an_edit_list_do_not_count(tmp_path: Path) -> None:
    source = encode(tmp_path / "source.mp4")
    path = remux(source, tmp_path / "edited.mp4", shift=-5 * 512)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 60  # the header counts them
    clip = read_uniform(path, 100)
    assert clip.num_source_frames == count_frames(path) == 55
    assert numbers(clip.frames) == list(range(5, 60))
    assert clip.times_s[0] == 0
    assert numbers(read_frames(path, [0, 54])) == [5, 59]


def test_recording_cut_in_mid_stream(tmp_path: Path) -> None:
    """Frames before the first key frame cannot be decoded; the rest is a sound video."""
    source = encode(tmp_path / "source.mkv", options={"g": "16", "bf": "2"})
    path = remux(source, tmp_path / "cut.mkv", skip=4)
    clip = read_uniform(path, 10)
    first = 60 - clip.num_source_frames
    assert 0 < first <= 16 and clip.num_source_frames < count_frames(path)
    assert numbers(clip.frames) == (uniform_indices(clip.num_source_frames, 10) + first).tolist()


def test_wrong_packet_count_is_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer packets than frames, as with two pictures in one packet."""
    path = encode(tmp_path / "clip.mp4")

    class TooFew(read_module.Scan):
        pass

    found = read_module.scan(path)
    few = TooFew(path, 50, found.pts[:50], found.codec)
    monkeypatch.setattr(read_module, "scan", lambda _: few)
    clip = read_uniform(path)
    assert clip.num_source_frames == 60
    assert clip.indices.tolist() == uniform_indices(60).tolist()


def test_indices_are_checked(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    for wrong in ([], [-1], [3, -2]):
        with pytest.raises(UsageError, match="indices"):
            read_frames(path, wrong)
    with pytest.raises(VideoError, match="has 60 frames, so there is no frame 60"):
        read_frames(path, [60])
    with pytest.raises(UsageError, match="unknown decoder 'gstreamer'"):
        read_uniform(path, decoder="gstreamer")


def test_many_threads(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: numbers(read_uniform(path).frames), range(8)))
    assert all(result == uniform_indices(60).tolist() for result in results)


# --- pictures -----------------------------------------------------------------------------------


def corners(height: int = 48, width: int = 64) -> np.ndarray:
    """Red upper left, green upper right, blue lower left, white lower right."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left, 0] = picture[:top, left:, 1] = picture[top:, :left, 2] = 200
    picture[top:, left:] = 200
    return picture


@pytest.mark.parametrize(("height", "width"), [(47, 63), (47, 64), (48, 63)])
@pytest.mark.parametrize("codec", ["ffv1", "libvpx-vp9"])
def test_odd_sizes(tmp_path: Path, height: int, width: int, codec: str) -> None:
    pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
    frames = [grey(i, height, width) for i in range(12)]
    path = encode(tmp_path / "odd.mkv", frames, codec, pix_fmt)
    clip = read_uniform(path)
    assert clip.frames.shape == (12, height, width, 3)
    assert numbers(clip.frames) == list(range(12))


@pytest.mark.parametrize(
    ("colorspace", "color_range"), [(None, None), (1, 1), (6, 1), (9, 1), (None, 2), (1, 2)]
)
def test_colours_follow_the_tags(
    tmp_path: Path, colorspace: int | None, color_range: int | None
) -> None:
    """Grey 4:4:4 planes with known Y, Cb, Cr, against the conversion written out."""
    y, cb, cr = 120, 90, 170
    planes = np.stack([np.full((32, 32), value, np.uint8) for value in (y, cb, cr)])
    path = encode(
        tmp_path / "tagged.mp4",
        [planes] * 3,
        pix_fmt="yuvj444p" if color_range == 2 else "yuv444p",
        options={"qp": "0"},
        colorspace=colorspace,
        color_range=color_range,
        source_format="yuvj444p" if color_range == 2 else "yuv444p",
    )
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(colorspace or 0, (0.299, 0.114))
    luma = y / 255 if color_range == 2 else (y - 16) / 219
    chroma = 255 if color_range == 2 else 224
    red = luma + 2 * (1 - kr) * (cr - 128) / chroma
    blue = luma + 2 * (1 - kb) * (cb - 128) / chroma
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    expected = 255 * np.array([red, green, blue])
    found = read_frames(path, [1])[0].reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1.6)


TURNS = {  # a, b, c, d of the display matrix: the picture as it must come out
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p.swapaxes(0, 1), 2),
}


def turned(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """A video whose header asks for a turn."""
    encode(path, [corners()] * 4, pix_fmt="yuv444p")
    data = path.read_bytes()
    # The matrix stands in the track header; the one of the movie header comes first and is left.
    unit = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    at = data.index(unit, data.index(b"tkhd"))
    a, b, c, d = (round(value * 65536) for value in matrix)
    asked = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data[:at] + asked + data[at + len(asked) :])
    return path


@pytest.mark.parametrize("matrix", TURNS)
def test_rotation_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = turned(tmp_path / "turned.mp4", matrix)
    expected = TURNS[matrix](corners())
    found = read_frames(path, [2])[0]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert not read_uniform(path).faults


@pytest.mark.parametrize("rate", [None, 8.0])
def test_a_turn_that_is_no_quarter_is_told(tmp_path: Path, rate: float | None) -> None:
    path = turned(tmp_path / "turned.mp4", (0.866, 0.5, -0.5, 0.866))
    *_, clip = [read_uniform(path)] if rate is None else stream_fps(path, rate, 2)
    assert np.abs(clip.frames[0].astype(int) - corners()).mean() < 4
    (note,) = clip.faults.notes
    assert note.startswith("it asks to be turned by 30 degrees, which is no quarter turn")


def test_other_angles_go_to_the_nearest_quarter_turn() -> None:
    picture = corners()
    cos, sin = (round(65536 * f) for f in (0.99, 0.14))
    assert np.array_equal(turn(picture, (cos, sin, -sin, cos)), picture)


def rgba(alpha: int) -> np.ndarray:
    picture = np.full((48, 64, 4), alpha, np.uint8)
    picture[..., :3] = (200, 100, 40)
    return picture


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [(".mov", "qtrle", "argb"), (".mov", "png", "rgba"), (".mkv", "ffv1", "bgra")],
)
@pytest.mark.parametrize("alpha", [255, 128, 0])
def test_transparency_is_laid_on_black(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, alpha: int
) -> None:
    path = encode(tmp_path / f"a{suffix}", [rgba(alpha)] * 2, codec, pix_fmt, source_format="rgba")
    found = read_uniform(path).frames[0]
    expected = np.array([200, 100, 40]) * alpha / 255
    assert np.abs(found - expected).max() <= 0.5


def test_picture_size_that_changes_keeps_the_first(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{n}.h264", [grey(9, n, n)] * 8) for n in (64, 96)]
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_uniform(path)
    assert clip.frames.shape == (16, 64, 64, 3)
    assert set(numbers(clip.frames)) == {9}


# --- folders of images and stills ---------------------------------------------------------------


def image_folder(folder: Path, names: Sequence[str]) -> Path:
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        write_png(folder / name, grey(index))
    return folder


def test_folder_of_images_in_natural_order_with_gaps(tmp_path: Path) -> None:
    names = ["f1.png", "f2.png", "f9.png", "f10.PNG", "f100.png"]
    folder = image_folder(tmp_path / "shot", names)
    (folder / "notes.json").write_text("{}")
    (folder / "._f3.png").write_bytes(b"not an image")
    clip = read_uniform(folder, image_fps=10)
    assert numbers(clip.frames) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(clip.times_s, np.arange(5) / 10)
    info = probe(folder, image_fps=10)
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, 10, 5)
    assert (info.codec, info.duration_s, count_frames(folder)) == ("png", 0.5, 5)
    assert numbers(read_frames(folder, [4, 0])) == [4, 0]
    assert [index for index, _, _ in iter_frames_at_fps(folder, 5, image_fps=10)] == [0, 2, 4]
    assert read_uniform(folder, decoder="decord").source.fps == 24


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "shot", ["1.png", "2.png"])
    write_png(folder / "3.png", grey(0, 24, 24))
    with pytest.raises(VideoError, match=r"1\.png has 64 x 48 pixels, 3\.png has 24 x 24") as e:
        read_uniform(folder)
    one_line(e.value, folder)


def test_broken_image_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "shot", ["1.png", "2.png"])
    (folder / "2.png").write_bytes(b"nonsense" * 50)
    with pytest.raises(VideoError, match="not an image") as caught:
        read_uniform(folder)
    one_line(caught.value, folder / "2.png")


@pytest.mark.parametrize("name", ["still.png", "50% done %d.png", "a:b #1.png"])
def test_a_still_is_a_video_of_one_frame(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / name, grey(20))
    clip = read_uniform(tmp_path / name)
    assert clip.frames.shape == (1, 48, 64, 3) and numbers(clip.frames) == [20]
    assert probe(tmp_path / name).num_frames == 1
    assert [index for index, _, _ in iter_frames_at_fps(tmp_path / name, 8)] == [0]


@pytest.mark.parametrize("name", ["a:b.mp4", "50%d.mp4", "früh stück #1.mp4", "-x.mp4"])
def test_odd_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    encode(tmp_path / "clip.mp4").rename(tmp_path / name)
    assert read_uniform(tmp_path / name).num_source_frames == 60
    monkeypatch.chdir(tmp_path)
    assert read_uniform(name).num_source_frames == 60


# --- broken files -------------------------------------------------------------------------------


def audio_file(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


READERS: list[Any] = [
    read_uniform,
    lambda path: read_frames(path, [59]),
    lambda path: list(stream_fps(path, 8, 4)),
]


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("This is not a video.\n" * 100)
    (folder / "folder").mkdir()
    return {
        "missing": (folder / "missing.mp4", "no such file"),
        "folder": (folder / "folder", "folder without images"),
        "empty": (folder / "empty.mp4", "is empty"),
        "text": (folder / "text.mp4", "not a video"),
        "audio": (audio_file(folder / "sound.wav"), "no video stream, only audio"),
    }


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "audio"])
@pytest.mark.parametrize("reader", [probe, *READERS], ids=["probe", "uniform", "frames", "stream"])
def test_what_is_no_video(
    tmp_path: Path, kind: str, reader: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    path, reason = broken_files(tmp_path)[kind]
    with pytest.raises(VideoError, match=reason) as caught:
        reader(path)
    one_line(caught.value, path)
    assert caught.value.path == path
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4")
    path.chmod(0)
    with pytest.raises(VideoError, match="permission denied"):
        read_uniform(path)


def test_unreadable_file_as_the_system_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "clip.mp4")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(VideoError, match="permission denied") as caught:
        probe(path)
    one_line(caught.value, path)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".avi", "mpeg4", "yuv420p"),
        (".mkv", "ffv1", "bgr0"),
        (".gif", "gif", "rgb8"),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_files(
    tmp_path: Path,
    suffix: str,
    codec: str,
    pix_fmt: str,
    kept: float,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = encode(tmp_path / f"whole{suffix}", noisy(), codec, pix_fmt)
    if suffix == ".mp4":  # the index in front, else nothing at all can be read
        source = remux(source, tmp_path / "front.mp4")
    assert read_uniform(source).num_source_frames == 60
    capfd.readouterr()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(source.read_bytes()[: int(source.stat().st_size * kept)])
    for reader in (read_uniform, lambda path: stream_fps(path, 8, 4)):
        with pytest.raises(VideoError, match=r"truncated|cut off|damaged") as caught:
            reader(path)
        one_line(caught.value, path)
    if suffix == ".mp4":
        assert "of 60 frames" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_mp4_cut_off_while_written(tmp_path: Path) -> None:
    source = encode(tmp_path / "whole.mp4", noisy())
    path = tmp_path / "cut.mp4"
    path.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises(VideoError, match="cut off while it was written") as caught:
        read_uniform(path)
    one_line(caught.value, path)


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".ts", "libx264", "yuv420p"),
    ],
)
def test_damage_in_the_middle(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = encode(tmp_path / f"clip{suffix}", noisy(), codec, pix_fmt)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 6
    noise = np.random.default_rng(1).integers(0, 256, length, dtype=np.uint8)
    data[middle : middle + length] = noise.tobytes()
    path.write_bytes(data)
    capfd.readouterr()
    for reader in (read_uniform, lambda path: list(iter_frames_at_fps(path, 24))):
        with pytest.raises(VideoError, match="damaged") as caught:
            reader(path)
        one_line(caught.value, path)
    assert capfd.readouterr().err == ""


def test_container_without_a_single_frame(tmp_path: Path) -> None:
    path = tmp_path / "none.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height = 64, 48
        container.start_encoding()
    for reader in (probe, read_uniform):
        with pytest.raises(VideoError, match=r"not a single frame|no video stream") as caught:
            reader(path)
        one_line(caught.value, path)


# --- decord -------------------------------------------------------------------------------------


def test_decord_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "clip.mp4")
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(UsageError, match=r"pip install -e '\.\[decord\]'"):
        read_uniform(path, decoder="decord")


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "colorspace"),
    [
        (".mp4", "libx264", "yuv420p", None),
        (".mp4", "libx264", "yuv420p", 1),
        (".mp4", "libx264", "yuv444p", None),
        (".mp4", "libx265", "yuv420p", None),
        (".mkv", "libx264", "yuv420p", 9),
        (".webm", "libvpx-vp9", "yuv420p", None),
    ],
)
def test_decord_gives_the_same_pixels(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str, colorspace: int | None
) -> None:
    pytest.importorskip("decord")
    path = encode(tmp_path / f"c{suffix}", noisy(81), codec, pix_fmt, colorspace=colorspace)
    ours, theirs = read_uniform(path), read_uniform(path, decoder="decord")
    assert np.array_equal(ours.frames, theirs.frames)
    assert np.array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.times_s, theirs.times_s, atol=0.002)
    assert ours.num_source_frames == theirs.num_source_frames == 81
    assert np.array_equal(read_frames(path, [5, 2], decoder="decord"), read_frames(path, [5, 2]))


def test_decord_errors_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("decord")
    path = tmp_path / "text.mp4"
    path.write_text("This is not a video.\n" * 100)
    with pytest.raises(VideoError, match="decord cannot read") as caught:
        read_uniform(path, decoder="decord")
    one_line(caught.value, path)


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_write_and_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    frames = np.stack([corners() // 2 + i for i in range(10)])
    write_video(path, frames, 23.976)
    clip = read_uniform(path)
    assert clip.frames.shape == frames.shape
    assert np.abs(clip.frames.astype(int) - frames)[:, 4:20, 4:28].max() <= 8  # inside one patch
    assert clip.source.fps == pytest.approx(24000 / 1001, rel=1e-3)
    assert clip.source.codec in ("h264", "mpeg4")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 1)
    assert names(tmp_path) == [path.name]


def test_write_pads_odd_sizes(tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mp4", (grey(i, 47, 63) for i in range(5)), 24)
    clip = read_uniform(tmp_path / "odd.mp4")
    assert clip.frames.shape == (5, 48, 64, 3) and numbers(clip.frames) == list(range(5))


DRIFTING = """
import sys
import numpy as np
from wmreward.video_io import write_video

rng = np.random.default_rng(0)
tiles = np.kron(rng.integers(0, 200, (8, 12, 3)), np.ones((8, 8, 1), int))
frames = [np.roll(tiles, 3 * t, axis=1)[:, :64] + rng.integers(0, 50, (64, 64, 3)) for t in range(24)]
write_video(sys.argv[1], np.stack(frames).astype(np.uint8), 24)
"""


def test_equal_frames_make_equal_files(tmp_path: Path) -> None:
    """Whatever is in fresh memory, which glibc lets the environment decide."""
    files = [tmp_path / "zeros.mp4", tmp_path / "junk.mp4"]
    for file, fill in zip(files, ("0", "85"), strict=True):
        subprocess.run(
            [sys.executable, "-c", DRIFTING, str(file)],
            env=os.environ | {"MALLOC_PERTURB_": fill, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
    assert files[0].read_bytes() == files[1].read_bytes()


def test_write_png_is_exact(tmp_path: Path) -> None:
    picture = noisy(1)[0]
    write_png(tmp_path / "x.png", picture)
    assert np.array_equal(read_frames(tmp_path / "x.png", [0])[0], picture)


def test_write_refuses_nonsense(tmp_path: Path) -> None:
    good = grey(1)
    cases: list[tuple[str, Any, float, str]] = [
        ("x.webm", [good], 24, "end in one of"),
        ("x.mp4", [], 24, "no frames"),
        ("x.mp4", [good.astype(np.float32)], 24, r"uint8 \[H, W, 3\], got float32"),
        ("x.mp4", [good[..., 0]], 24, "uint8"),
        ("x.mp4", [good, grey(1, 24, 24)], 24, r"one size, got \[48, 64, 3\] and \[24, 24, 3\]"),
        ("x.mp4", [good], 0, "fps"),
    ]
    for name, frames, fps, reason in cases:
        with pytest.raises(UsageError, match=reason):
            write_video(tmp_path / name, frames, fps)
    with pytest.raises(UsageError, match="uint8"):
        write_png(tmp_path / "x.png", good[..., 0])
    assert names(tmp_path) == []


# --- finding videos -----------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/10.mp4", "b/2.mp4", "a.MKV", "b/deep/c.gif", "b/.hidden.mp4", "notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "plot.png").touch()
    for name in ("shots/s1/1.png", "shots/s10/1.jpg", "shots/s2/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments: str | Path) -> list[str]:
    return [path.as_posix() for path in list_videos(arguments)]


def test_files_folders_and_patterns(tree: Path) -> None:
    assert found("a.MKV", "notes.md") == ["a.MKV", "notes.md"]  # a named file is taken as it is
    assert found("b") == ["b/2.mp4", "b/10.mp4", "b/deep/c.gif"]
    assert found(".") == ["a.MKV", "b/2.mp4", "b/10.mp4", "b/deep/c.gif"]
    assert found("b/*.mp4") == ["b/2.mp4", "b/10.mp4"]
    assert found("**/*.gif") == ["b/deep/c.gif"]
    assert found(str(tree / "b" / "*.mp4")) == [f"{tree.as_posix()}/b/{n}.mp4" for n in (2, 10)]
    assert found("b/10.mp4", "b", "./b/2.mp4") == ["b/10.mp4", "b/2.mp4", "b/deep/c.gif"]


def test_folders_of_images_are_videos(tree: Path) -> None:
    assert found("shots") == ["shots/s1", "shots/s2", "shots/s10"]
    assert found("shots/s1") == ["shots/s1"]
    assert found("shots/s1*") == ["shots/s1", "shots/s10"]


def test_folders_that_are_left_out_are_named(tree: Path) -> None:
    for folder in ("b/frames", "b/deep/more"):
        (tree / folder).mkdir()
        for number in range(3):
            (tree / folder / f"{number}.png").touch()
    (tree / "b" / "poster.png").touch()  # beside videos, or alone: pictures
    (tree / "b" / "thumbs").mkdir()
    (tree / "b" / "thumbs" / "1.png").touch()
    left = [Path("b/deep/more"), Path("b/frames")]
    assert find_videos(["b"]).left_out == left and find_videos(["."]).left_out[-2:] == left
    assert find_videos(["b", "b/frames"]).left_out == left[:1]  # named, and so taken
    assert found("b", "b/frames")[-1] == "b/frames"
    assert find_videos(["shots"]).left_out == find_videos(["b/*.mp4"]).left_out == []
    assert find_videos(["b/*"]).left_out == [Path("b/deep"), Path("b/frames"), Path("b/thumbs")]
    assert find_videos(["b/**"]).left_out == [
        *left,
        Path("b/thumbs"),
    ]  # matched, so not passed over
    (one,) = notes_on([], left[1:], 24.0)
    assert one.startswith("note: b/frames was left out") and "name it" in one
    (several,) = notes_on([], left, 24.0)
    assert several.startswith("note: b/deep/more and 1 more folder were left out")


def test_heat_maps_are_not_taken_for_videos(tree: Path) -> None:
    (tree / "b" / "outputs").mkdir()
    for name in ("2-0123abcd-map.mp4", "10-0123abcd-map.mp4", "my-map.mp4"):
        (tree / "b" / "outputs" / name).touch()
    maps = [Path("b/outputs/2-0123abcd-map.mp4"), Path("b/outputs/10-0123abcd-map.mp4")]
    assert found("b") == ["b/2.mp4", "b/10.mp4", "b/deep/c.gif", "b/outputs/my-map.mp4"]
    assert find_videos(["b"]).left_out == maps
    assert find_videos(["b", maps[0]]).left_out == maps[1:]  # named, and so taken
    (one,), (both,) = notes_on([], maps[1:], 24.0), notes_on([], maps, 24.0)
    assert one.startswith(f"note: {maps[1]} was left out, as heat maps")
    assert both.startswith(f"note: {maps[0]} and 1 more were left out")
    (tree / "b" / "outputs" / "my-map.mp4").unlink()
    assert find_videos(["b/outputs"]) == (maps, [])  # there is nothing else: they are meant


def test_the_rate_of_a_folder_of_images_is_said(tree: Path) -> None:
    (note,) = notes_on([Path("a.MKV"), Path("shots/s1")], [], 24.0)
    assert "shots/s1 is a folder of images" in note and "taken as 24 frames a second" in note
    assert "--image_fps" in note
    assert notes_on([Path("a.MKV")], [], 24.0) == notes_on([Path("shots/s1")], [], None) == ()
    (vain,) = notes_on([Path("a.MKV")], [], None)
    assert "--image_fps is without effect" in vain


def test_links_do_not_run_in_circles(tree: Path) -> None:
    (tree / "b" / "deep" / "up").symlink_to(tree / "b")
    (tree / "linked").symlink_to(tree / "b" / "deep")
    assert found("b") == ["b/2.mp4", "b/10.mp4", "b/deep/c.gif"]
    assert found("linked")[0] == "linked/c.gif"


def test_list_files(tree: Path) -> None:
    (tree / "b" / "list.txt").write_text(
        "\ufeff# my videos\n\n  10.mp4  \na.MKV\nb/*.mp4\n2.mp4\n", encoding="utf-8"
    )
    assert found("b/list.txt") == ["b/10.mp4", "a.MKV", "b/2.mp4"]
    (tree / "bad.txt").write_text("a.MKV\nmissing.mp4\n")
    with pytest.raises(UsageError, match=r"bad\.txt, line 2: no such file or folder: missing"):
        list_videos(["bad.txt"])
    (tree / "none.txt").write_text("# nothing\n")
    with pytest.raises(UsageError, match="lists no video"):
        list_videos(["none.txt"])


def test_what_is_missing_is_named(tree: Path) -> None:
    (tree / "void").mkdir()
    for argument, reason in [
        ("missing.mp4", "no such file or folder: missing.mp4"),
        ("*.webm", r"no video matches \*.webm"),
        ("void", "no videos and no images in folder void"),
        ("missing.txt", "no such file or folder: missing.txt"),
    ]:
        with pytest.raises(UsageError, match=reason):
            list_videos([argument])
    with pytest.raises(UsageError, match="no videos given"):
        list_videos([])
