"""What is doubtful about a video that can be read is counted, and what FFmpeg says of it is heard."""

from __future__ import annotations

import logging
import threading
from fractions import Fraction
from pathlib import Path

import av.error
import av.logging
import numpy as np
import pytest
from video_fixtures import encode, grey, noisy, numbers, one_line

from wmreward.errors import VideoError
from wmreward.video import sampling
from wmreward.video.integrity.slices import Slices
from wmreward.video.messages import LONGEST_MESSAGE, Messages
from wmreward.video.rgb import RgbConverter
from wmreward.video.types import Faults
from wmreward.video_io import iter_frames_at_fps, read_uniform, stream_fps

# --- FFmpeg's messages --------------------------------------------------------------------------


def damaged_gif(path: Path) -> Path:
    """It decodes, and FFmpeg reports errors: they show nowhere else."""
    encode(path, noisy(20), "gif", "rgb8")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = np.random.default_rng(0).bytes(40)
    path.write_bytes(data)
    return path


def test_errors_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damaged_gif(tmp_path / "x.gif")
    clip = read_uniform(path)
    assert clip.faults.decoder_errors > 0 and "gif" in clip.faults.first_error
    assert "errors while decoding: " in str(clip.faults)
    *_, last = stream_fps(path, 12, 4)
    assert last.faults.decoder_errors == clip.faults.decoder_errors
    assert capfd.readouterr().err == ""


def test_each_thread_hears_its_own_video(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = damaged_gif(tmp_path / "bad.gif")
    good = encode(tmp_path / "good.gif", noisy(20), "gif", "rgb8")
    found: dict[tuple[str, int], int] = {}

    def work(path: Path, number: int) -> None:
        found[path.name, number] = read_uniform(path).faults.decoder_errors

    threads = [threading.Thread(target=work, args=(p, n)) for n in range(6) for p in (bad, good)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {count for (name, _), count in found.items() if name == "good.gif"} == {0}
    assert len({count for (name, _), count in found.items() if name == "bad.gif"} - {0}) == 1
    assert not caplog.records and capfd.readouterr().err == ""


def test_the_log_is_silent_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert read_uniform(damaged_gif(tmp_path / "x.gif")).faults.decoder_errors > 0
        with av.logging.Capture() as log:
            av.logging.log(av.logging.ERROR, "test", "unheard")
        assert log == [] and capfd.readouterr().err == ""


def test_whoever_listens_goes_on_listening(tmp_path: Path) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    try:
        assert read_uniform(damaged_gif(tmp_path / "x.gif")).faults.decoder_errors > 0
        assert av.logging.get_level() == av.logging.ERROR
        assert av.logging.get_skip_repeated() == before[1]
        with av.logging.Capture() as log:
            av.logging.log(av.logging.ERROR, "test", "heard")
        assert log == [(av.logging.ERROR, "test", "heard")]
    finally:
        av.logging.set_level(before[0])


def test_what_counts_as_an_error() -> None:
    messages = Messages()
    with messages.heard():
        av.logging.log(av.logging.WARNING, "swscaler", "deprecated pixel format used")
        av.logging.log(
            av.logging.WARNING, "mpeg4", "Video uses a non-standard way (packed B-frames)"
        )
        av.logging.log(av.logging.WARNING, "aac", "This stream seems to be odd")
        av.logging.log(av.logging.ERROR, "mjpeg", "invalid EXIF data")
    assert messages.count == 0
    guessing = Messages()
    with guessing.heard():
        av.logging.log(av.logging.WARNING, "mjpeg", "decode_sos: nb_components (7)")
    assert guessing.count == 1
    with messages.heard():
        av.logging.log(av.logging.WARNING, "mpegts", "Packet corrupt (stream = 0)")
        av.logging.log(av.logging.ERROR, "h264", "left\nblock \x1b[31m unavailable " + 500 * "x")
    assert messages.count == 2 and messages.first.startswith("mpegts: Packet corrupt")
    other = Messages()
    with other.heard():
        av.logging.log(av.logging.ERROR, "h264", "left\nblock \x1b[31m " + 500 * "x")
    assert other.first.isprintable() and len(other.first) <= LONGEST_MESSAGE
    assert not logging.getLogger("libav.h264").handlers


# --- time stamps --------------------------------------------------------------------------------


def with_times(path: Path, milliseconds: list[int]) -> Path:
    frames = [grey(index % 60) for index in range(len(milliseconds))]
    return encode(path, frames, pts=milliseconds, time_base=Fraction(1, 1000))


def test_a_gap_is_told(tmp_path: Path) -> None:
    times = [40 * index + (7000 if index >= 10 else 0) for index in range(20)]
    faults = read_uniform(with_times(tmp_path / "gap.mkv", times)).faults
    assert (faults.gaps, faults.longest_gap_s) == (1, 7.04)
    assert str(faults) == "gaps between frames: 1 (up to 7.04 s)"


def test_missing_frames_are_told(tmp_path: Path) -> None:
    times = [40 * index for index in range(40) if index not in (11, 12, 30)]
    faults = read_uniform(with_times(tmp_path / "missing.mkv", times)).faults
    assert faults.missing_frames == 3 and faults.gaps == 0


def test_a_variable_rate_is_no_fault(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).choice([20, 33, 42, 400], 40, p=[0.3, 0.3, 0.3, 0.1])
    times = [0, *np.cumsum(steps).tolist()]
    assert not read_uniform(with_times(tmp_path / "vfr.mkv", times)).faults


TEN_YEARS_MS = 10 * 365 * 24 * 3600 * 1000


@pytest.mark.parametrize("fps", [8, 24])
def test_a_far_time_stamp_ends_at_once(tmp_path: Path, fps: int) -> None:
    times = [*range(0, 400, 40), TEN_YEARS_MS]
    path = with_times(tmp_path / "far.mkv", times)
    for read in (
        lambda: list(stream_fps(path, fps, 16)),
        lambda: list(iter_frames_at_fps(path, fps)),
    ):
        with pytest.raises(
            VideoError, match=r"has a gap of 3\.1536e\+08 s after frame 9"
        ) as caught:
            read()
        one_line(caught.value, path)
    assert len(read_uniform(path)) == 11  # takes frames by their number


def test_many_gaps_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_REPEATS_IN_ALL", 500)
    path = with_times(tmp_path / "slides.mkv", [60_000 * index for index in range(20)])
    with pytest.raises(VideoError, match="gap of 60 s"):
        list(iter_frames_at_fps(path, 4))


def test_slides_are_no_endless_gap(tmp_path: Path) -> None:
    path = with_times(tmp_path / "slides.mkv", [60_000 * index for index in range(5)])
    assert len(list(iter_frames_at_fps(path, 4))) == 4 * 240 + 1


def test_frames_before_the_first_key_frame_are_told(tmp_path: Path) -> None:
    source = encode(tmp_path / "source.mkv", options={"g": "16", "bf": "0"})
    path = tmp_path / "cut.mkv"
    with av.open(str(source)) as inputs, av.open(str(path), "w") as outputs:
        stream = outputs.add_stream_from_template(inputs.streams.video[0])
        for packet in [p for p in inputs.demux(video=0) if p.dts is not None][4:]:
            packet.stream = stream
            outputs.mux(packet)
    clip = read_uniform(path, 100)
    assert numbers(clip.frames)[0] == 16 and clip.faults.dropped_frames == 12


# --- what is made of them -----------------------------------------------------------------------


def test_faults_in_words_and_in_a_record() -> None:
    assert not Faults() and str(Faults()) == ""
    faults = Faults(notes=["cut off after its last frame"], repeated_frames=2)
    assert faults
    assert str(faults) == "cut off after its last frame; frames without a time of their own: 2"
    assert Faults(**faults.to_json()) == faults


@pytest.mark.parametrize("suffix", [".mpg", ".ts", ".mkv"])
def test_a_picture_without_its_last_rows_is_told(tmp_path: Path, suffix: str) -> None:
    """FFmpeg shows what stood there before, without a word."""
    path = encode(tmp_path / f"clip{suffix}", noisy(9), codec="mpeg2video")
    assert not read_uniform(path).faults
    data = path.read_bytes()
    if suffix == ".mkv":  # a checksum would tell otherwise
        data = data.replace(b"\xbf\x84", b"\xec\x84")
    start = data.index(b"\0\0\1\3")  # the last of three rows of 16 lines
    path.write_bytes(data[:start] + b"\0\0\0\0" + data[start + 4 :])
    assert "1 of its pictures lack their last rows" in str(read_uniform(path).faults)


def test_rows_of_frames_and_of_fields() -> None:
    def picture(rows: int, structure: int) -> bytes:
        coding = b"\0\0\1\xb5" + bytes((0x8F, 0xFF, 0xF0 | structure))
        slices = b"".join(b"\0\0\1" + bytes((row + 1, 7)) for row in range(rows))
        return b"\0\0\1\0" + coding + slices

    found = Slices()
    for _ in range(3):
        found.add(picture(6, 3))
        found.add(picture(3, 1) + picture(3, 2))
    assert found.num_short == 0
    found.add(picture(5, 3))
    found.add(picture(3, 1) + picture(2, 2))
    assert found.num_short == 2


def test_an_unknown_kind_of_matroska_is_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mkv", noisy(4))
    path.write_bytes(path.read_bytes().replace(b"matroska", b"matrosca", 1))
    assert "doctype" in str(read_uniform(path).faults)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damaged_headers_of_a_codec_are_told(tmp_path: Path, suffix: str) -> None:
    """FFmpeg passes over what it cannot read of them."""
    path = encode(tmp_path / f"clip{suffix}", noisy(4), "libx265")
    assert not read_uniform(path).faults
    data = bytearray(path.read_bytes().replace(b"\xbf\x84", b"\xec\x84"))
    text = data.index(b"x265 (build")
    data[text - 17] ^= 0x80  # the size of the message that holds it
    path.write_bytes(data)
    assert "hvcC failed" in str(read_uniform(path).faults)


def test_colours_that_cannot_be_converted_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg refuses some transfer curves, such as logarithmic ones."""

    def refuses(*_: object) -> None:
        raise av.error.FFmpegError(95, "Operation not supported")

    path = encode(tmp_path / "x.mp4")
    monkeypatch.setattr(RgbConverter, "__call__", refuses)
    with pytest.raises(
        VideoError, match=r"its colours cannot be read \(Operation not sup"
    ) as error:
        read_uniform(path)
    one_line(error.value, path)
