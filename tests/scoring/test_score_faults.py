"""Doubtful videos on the command line: told, recorded, refused by --strict; and names that are odd."""

from __future__ import annotations

import csv
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import cli_fixtures
import numpy as np
import pytest
from av.video.stream import VideoStream
from cli_fixtures import Cli, write_clip
from video_fixtures import encode

from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video_io import probe

cli = cli_fixtures.cli
videos = cli_fixtures.videos
scored = cli_fixtures.scored


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """With a gap of 5 s."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    times = [125 * index + 5000 * (index >= 10) for index in range(20)]
    return encode(tmp_path / "gap.mkv", noise, pts=times, time_base=Fraction(1, 1000))


def test_doubts_are_told_and_recorded(cli: Cli, doubtful: Path, videos: list[Path]) -> None:
    result = cli("--video_path", doubtful, videos[0], "--output", "s.jsonl", "--json")
    assert result.code == 0
    warnings = [line for line in result.err.splitlines() if line.startswith("warning")]
    assert warnings == [
        f"warning: {doubtful}: gaps between frames: 1 (up to 5.125 s); scored all the same "
        "(--strict refuses it)"
    ]
    first, second = result.records
    assert first["faults"]["gaps"] == 1 and first["faults"]["longest_gap_s"] == 5.125
    assert not any(second["faults"].values())
    assert [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()] == result.records


def test_strict_refuses_new_and_known(cli: Cli, doubtful: Path, videos: list[Path]) -> None:
    flags = ("--video_path", doubtful, videos[0], "--output", "s.jsonl")
    strict = cli(*flags, "--strict")
    assert strict.code == 1 and "up to 5.125 s) (--strict refuses it)" in strict.err
    assert len(Path("s.jsonl").read_text().splitlines()) == 1  # the other goes on
    assert cli(*flags).code == 0
    assert len(Path("s.jsonl").read_text().splitlines()) == 2
    again = cli(*flags, "--strict")
    assert again.code == 1 and "--strict refuses it" in again.err
    assert "2 already" not in again.err


def test_strict_does_not_trust_records_that_do_not_tell(
    cli: Cli, videos: list[Path], scored: list[str]
) -> None:
    """Those of an earlier version."""
    flags, output = ("--video_path", videos[0], "--output", "s.jsonl"), Path("s.jsonl")
    assert cli(*flags).code == 0 and cli(*flags).code == 0
    assert len(scored) == 1
    record = json.loads(output.read_text())
    del record["faults"]
    output.write_text(json.dumps(record) + "\n")
    assert cli(*flags, "--strict").code == 0
    assert len(scored) == 2 and len(output.read_text().splitlines()) == 1


def test_tables_tell_of_doubts_too(
    cli: Cli, doubtful: Path, videos: list[Path], scored: list[str]
) -> None:
    flags = ("--video_path", doubtful, videos[0], "--output", "s.csv")
    assert cli(*flags).code == 0
    with Path("s.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["gaps"] == "1" and first["longest_gap_s"] == "5.125"
    assert second["gaps"] == "0" and second["decoder_errors"] == "0" and not second["fault_notes"]
    again = cli(*flags, "--strict")
    assert again.code == 1 and "up to 5.125 s) (--strict refuses it)" in again.err
    assert len(scored) == 2  # what the table tells is believed


def test_a_pipe_in_place_of_a_video(cli: Cli, tmp_path: Path, videos: list[Path]) -> None:
    os.mkfifo(tmp_path / "f.mp4")
    (tmp_path / "pictures").mkdir()
    os.mkfifo(tmp_path / "pictures" / "1.png")
    result = cli("--video_path", tmp_path / "f.mp4", "/dev/zero", tmp_path / "pictures", videos[0])
    assert result.code == 1
    refused = [line for line in result.err.splitlines() if "is not a regular file" in line]
    assert len(refused) == 3 and "1 scored, 3 failed" in result.err


def test_an_empty_path_is_wrong_usage(cli: Cli, videos: list[Path]) -> None:
    result = cli("--video_path", "")
    assert result.code == 2 and not result.out
    assert "must name a file or folder, not ''" in result.err


@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"a\nb\x1b[31m$x$.mp4"])
def test_odd_names_are_drawn_and_shown(cli: Cli, tmp_path: Path, name: bytes) -> None:
    write_clip(tmp_path / "in" / "plain.mp4")
    (tmp_path / "in" / "plain.mp4").rename(tmp_path / "in" / os.fsdecode(name))
    result = cli("--video_path", tmp_path / "in", "--map", "--plot", "--output", "s.jsonl")
    assert result.code == 0 and result.err.count("wrote ") == 2
    assert "\x1b" not in result.out + result.err and len(result.err.splitlines()) == 2
    assert len(list(Path("outputs").iterdir())) == 2
    assert "1 already scored" in cli("--video_path", tmp_path / "in", "--output", "s.jsonl").err


@pytest.mark.parametrize("fps", [None, 12.0])
def test_scores_do_not_depend_on_the_reduction(tmp_path: Path, fps: float | None) -> None:
    """To the last bit, also for frames that are much larger than the model's."""
    noise = np.random.default_rng(0).integers(0, 255, (17, 130, 170, 3), dtype=np.uint8)
    path = encode(tmp_path / "large.mp4", noise)
    scorer = VideoScorer(ModelChoice(name="tiny"), SurpriseConfig(stride=8), Sampling(fps=fps))
    if fps is not None:
        path = encode(tmp_path / "long.mp4", np.concatenate([noise, noise]))
    whole = scorer.score_clips(scorer.sampling.clips(path), path)
    reduced = scorer.score_clips(scorer.sampling.clips(path, scorer.reduction()), path)
    assert float(whole) == float(reduced)
    assert whole.per_window.equal(reduced.per_window)


def test_a_map_of_pixels_that_are_not_square(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4)
        for index in range(20):
            picture = np.full((48, 64, 3), 10 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    square = write_clip(tmp_path / "square.mp4")
    assert cli("--video_path", path, square, "--map").code == 0
    maps = {file.name.split("-")[0]: probe(file) for file in Path("outputs").iterdir()}
    assert (
        maps["wide"].width / maps["wide"].height > 2 * maps["square"].width / maps["square"].height
    )
