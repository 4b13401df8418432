"""--plot and --map."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import cli_fixtures
import numpy as np
import pytest
from cli_fixtures import Cli, write_clip

from wmreward.video_io import probe, read_frames

cli = cli_fixtures.cli
videos = cli_fixtures.videos
scored = cli_fixtures.scored


def test_pictures_show_the_scored_frames(cli: Cli, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "in" / "clip.mp4", 40, fps=10)
    flags = ("--video_path", video, "--plot", "--map", "--output", "s.jsonl", "--out_dir", "p/q")
    result = cli(*flags, "--max_frames", 20)
    (plot,), (picture,) = Path("p/q").glob("clip-*-plot.png"), Path("p/q").glob("clip-*-map.mp4")
    assert f"wrote {plot}\n" in result.err and f"wrote {picture}\n" in result.err
    assert json.loads(Path("s.jsonl").read_text())["pictures"] == [str(plot), str(picture)]
    assert probe(plot).width > 500
    info = probe(picture)
    assert info.num_frames == 20 and info.fps == pytest.approx(19 / 3.9, rel=1e-3)
    assert len(list(Path("p/q").iterdir())) == 2
    first, last = read_frames(picture, [0, 19]).astype(float)
    # Six times enlarged, 6 pixels between; nothing is predicted of the first frames.
    left, right = np.s_[6:294, 6:390], np.s_[6:294, 396:780]
    assert np.abs(first[left] - first[right]).mean() < 5 < np.abs(last[left] - last[right]).mean()


def test_pictures_are_drawn_again_only_where_missing(
    cli: Cli, videos: list[Path], scored: list[str]
) -> None:
    flags = ("--video_path", *videos[:2], "--output", "s.jsonl")
    cli(*flags)
    assert cli(*flags, "--plot").err.count("wrote ") == 2
    next(Path("outputs").glob("a-*.png")).unlink()
    again = cli(*flags, "--plot")
    assert again.err.count("wrote ") == 1 and scored[4:] == ["a.mp4"]
    assert len(Path("s.jsonl").read_text().splitlines()) == 2
    assert cli(*flags, "--plot", "--stride", 4).err.count("wrote ") == 2  # of other settings


def test_odd_names_cost_no_run_its_table(cli: Cli, tmp_path: Path) -> None:
    """One that is not UTF-8, one that is mathematics to Matplotlib, and as long as names can be."""
    assert isinstance(sys.stderr, io.TextIOWrapper)
    sys.stderr.reconfigure(errors="backslashreplace")  # as every process has it
    names = [b"\xff" * 251, b"a$b$^{", "日".encode() * 83]
    for name in names:
        write_clip(tmp_path / "in" / os.fsdecode(name + b".mp4"))
    flags = ("--video_path", tmp_path / "in", "--map", "--plot", "--output", "s.csv")
    result = cli(*flags)
    assert result.code == 0, result.err
    assert all(name in result.out for name in (r"\udcff.mp4", "a$b$^{.mp4", "日.mp4"))
    assert len(list(Path("outputs").iterdir())) == 6
    again = cli(*flags)
    assert again.code == 0 and again.out == result.out and "wrote" not in again.err


def test_large_frames_are_shrunk_for_the_map_only(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_clip(tmp_path / "in" / "clip.mp4")
    (plain,) = cli("--video_path", video, "--json").records
    monkeypatch.setattr("wmreward.surprise.show.MAP_SIZE", (24, 1920))
    (drawn,) = cli("--video_path", video, "--map", "--json").records
    assert drawn["surprise"] == plain["surprise"]
    (picture,) = Path("outputs").iterdir()
    assert probe(picture).num_frames == 20


def test_the_extra_is_needed_for_pictures_only_and_asked_for_at_once(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # importing it fails
    assert cli("--video_path", videos[0]).code == 0
    refused = cli("--video_path", videos[0], "--map")
    assert refused.code == 2 and "--map needs matplotlib" in refused.err
    assert "'.[plot]'" in refused.err
