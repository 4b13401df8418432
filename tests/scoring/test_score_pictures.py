"""--plot and --map."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cli_fixtures
import numpy as np
import pytest
from cli_fixtures import Cli, write_clip

from wmreward.errors import UsageError, WMRewardError
from wmreward.pictures.map_video import MapScale
from wmreward.scoring import run
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.result import SurpriseBatch, SurpriseResult
from wmreward.video.find import find_videos
from wmreward.video_io import probe, read_frames, read_uniform

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
    assert find_videos(["."]) == ([Path("in/clip.mp4")], [picture])  # the map is no further video
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


@pytest.mark.parametrize("kind", ["plot", "map", "plot_all"])
@pytest.mark.parametrize("output", [(), ("--output", "s.jsonl")])
def test_no_score_is_lost_to_a_picture_that_cannot_be_written(
    cli: Cli,
    videos: list[Path],
    kind: str,
    output: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk: the run ends, with all scores that it has."""

    def full(*_: Any, **__: Any) -> None:
        raise WMRewardError("all.png: cannot write: the disk is full")

    monkeypatch.setattr(SurpriseResult, "plot", full)
    monkeypatch.setattr(SurpriseResult, "map_video", full)
    monkeypatch.setattr(run, "write_figure", full)
    flags = (f"--{kind}", "all.png") if kind == "plot_all" else (f"--{kind}",)
    done = cli("--video_path", *videos[:2], *flags, *output)
    assert done.code == 1 and "all.png: cannot write: the disk is full" in done.err
    finished = 1 if kind == "plot" else 2  # the next plot would not be written either
    if output:
        assert len(Path("s.jsonl").read_text().splitlines()) == finished
    shown = sum(video.name in done.out for video in videos[:2])
    assert shown == (0 if output and kind == "plot" else finished), done


def test_videos_of_one_name_have_pictures_of_their_own(cli: Cli, tmp_path: Path) -> None:
    """Whether their folders tell them apart, or their suffixes only."""
    clips = [
        write_clip(tmp_path / "in" / name, seed=i)
        for i, name in enumerate(("a.mp4", "a.mkv", "sub/a.mp4"))
    ]
    records = cli(*clips, "--plot", "--map", "--json").records
    pictures = [Path(picture) for record in records for picture in record["pictures"]]
    assert len(set(pictures)) == 6 and all(picture.exists() for picture in pictures)
    assert len({p.read_bytes() for p in pictures if p.suffix == ".png"}) == 3


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


def test_maps_of_a_run_share_the_scale_of_its_most_surprising_video(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scale is, and that each video alone would have another."""
    drawn: dict[str, MapScale] = {}

    def noted(path: Path, frames: Iterable[np.ndarray], *_: object, **how: Any) -> None:
        drawn[Path(path).name[0]] = how["scale"]
        assert len(list(frames)) == 20

    monkeypatch.setattr("wmreward.surprise.show.surprise_map_video", noted)
    both = ("--video_path", *videos[:2], "--map", "--pictures", "both")
    assert cli(*both).code == 0
    (together,) = set(drawn.values())
    alone = []
    for video in videos[:2]:
        assert cli("--video_path", video, "--map", "--pictures", "alone").code == 0
        alone.append(drawn[video.name[0]])
    assert len(set(alone)) == 2 and together.token == max(one.token for one in alone) > 0
    assert together.frame == max(one.frame for one in alone)


def test_all_curves_in_one_chart(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    figure = run.surprise_figure
    monkeypatch.setattr(
        run, "surprise_figure", lambda cs: seen.append([c.label for c in cs]) or figure(cs)
    )
    flags = ("--video_path", *videos[:2], "--output", "s.jsonl", "--plot_all", "all.png")
    for _ in range(2):  # the second time from records
        result = cli(*flags)
        assert result.code == 0 and "wrote all.png" in result.err
        assert probe("all.png").width > 500
        Path("all.png").unlink()
    assert seen == [[video.name for video in videos[:2]]] * 2
    refused = cli("--video_path", videos[0], "--plot_all", "all.jpg")
    assert refused.code == 2 and "must end in .png" in refused.err


@pytest.mark.usefixtures("cli")
def test_a_result_draws_itself(videos: list[Path], tmp_path: Path) -> None:
    weights = tmp_path / "nano.safetensors"
    result = compute_vjepa_surprise(videos[0], "tiny", weights=str(weights), device="cpu")
    assert isinstance(result, SurpriseResult)
    figure = result.plot(tmp_path / "plot.png")
    assert len(figure.axes) == 2 and probe(tmp_path / "plot.png").width > 500  # frames below
    result.map_video(tmp_path / "map.mp4")
    assert probe(tmp_path / "map.mp4").num_frames == result.num_frames
    frames = read_uniform(videos[0]).frames
    of_array = compute_vjepa_surprise(frames, "tiny", weights=str(weights), device="cpu")
    assert isinstance(of_array, SurpriseResult) and len(of_array.plot().axes) == 1
    with pytest.raises(UsageError, match=r"no\.pdf: .* ends in \.png"):
        of_array.plot(tmp_path / "no.pdf")
    assert not (tmp_path / "no.pdf").exists()
    with pytest.raises(UsageError, match=r"array or a tensor .*frames=\.\.\."):
        of_array.map_video(tmp_path / "no.mp4")
    of_array.map_video(tmp_path / "array.mp4", frames=frames)
    assert probe(tmp_path / "array.mp4").num_frames == len(frames)


@pytest.mark.usefixtures("cli")
def test_several_results_draw_one_chart(videos: list[Path], tmp_path: Path) -> None:
    weights = str(tmp_path / "nano.safetensors")
    same = tmp_path / "other" / videos[0].name
    same.parent.mkdir()
    shutil.copy(videos[0], same)
    frames = read_uniform(videos[0]).frames

    def legend(*given: Any) -> list[str]:
        batch = compute_vjepa_surprise(list(given), "tiny", weights=weights, device="cpu")
        assert isinstance(batch, SurpriseBatch)
        figure = batch.plot(tmp_path / "all.png")
        assert probe(tmp_path / "all.png").width > 500 and len(figure.axes) == 1
        return [text.get_text() for legend in figure.legends for text in legend.get_texts()]

    shown = " ".join(legend(*videos[:2]))
    assert videos[0].name in shown and videos[1].name in shown and str(tmp_path) not in shown
    assert len({name.rpartition(" ")[0] for name in legend(videos[0], same)}) == 2
    assert "video 1" in " ".join(legend(frames, frames))
    with pytest.raises(UsageError, match="plot each"):
        legend(videos[0], frames)
