"""The command line: results, output files and resuming, and what can go wrong with a video."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from threading import Event
from typing import Any

import cli_fixtures
import numpy as np
import pytest
import torch
from cli_fixtures import Cli, write_clip, write_weights
from fakes import NANO_AC
from safetensors.torch import load_file, save_file

import compute_wmreward
from vjepa2.world_model import WorldModel
from wmfiles import Process
from wmreward.records.lock import Lock, Lost
from wmreward.records.record_file import RecordFile
from wmreward.scoring import run
from wmreward.surprise.actions.motion import read_motion
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video_io import write_png

cli = cli_fixtures.cli
videos = cli_fixtures.videos
scored = cli_fixtures.scored


# --- results ------------------------------------------------------------------------------------


def test_table_is_aligned_and_in_the_order_given(cli: Cli, videos: list[Path]) -> None:
    result = cli("--video_path", *videos)
    head, *lines, blank, best = result.out.splitlines()
    assert result.code == 0 and blank == ""
    assert [line.split()[0] for line in lines] == ["c.mp4", "a.mp4", f"sub{os.sep}b.mp4"]
    assert len({len(line) for line in (head, *lines)}) == 1
    weights = "nano.safetensors"
    expected = [compute_vjepa_surprise(v, "tiny", weights=weights) for v in videos]
    for line, value in zip(lines, expected, strict=True):
        assert line.split()[1:] == [f"{value:.6f}", "3", "8.00"]
    lowest = min(zip(expected, lines, strict=True))[1].split()[0]
    assert best == f"most plausible: {lowest}"
    assert result.err == "3 scored\n"


def test_equals_are_told(cli: Cli, videos: list[Path]) -> None:
    for name in "yx":
        shutil.copy(videos[0], f"{name}.mp4")
    told = cli("y.mp4", "x.mp4").out.splitlines()
    assert told[-1] == "most plausible: y.mp4 (1 more is equal)"


def test_a_ranking_of_videos_seen_at_different_rates_says_so(cli: Cli, tmp_path: Path) -> None:
    slow, fast = write_clip(tmp_path / "slow.mp4", 40), write_clip(tmp_path / "fast.mp4", fps=24)
    told = cli(slow, fast).err
    assert "not seen at the same rate (8 to 24 frames a second)" in told
    assert "--rates F shows all at the same, with F up to 8" in told
    assert (
        "same rate"
        not in cli(slow, fast, "--rates", 8, "--window_size", 4, "--context_frames", 2).err
    )
    assert "same rate" not in cli(slow, write_clip(tmp_path / "near.mp4", fps=8.2)).err


def test_folders_of_images_are_told_of(cli: Cli, tmp_path: Path) -> None:
    write_clip(tmp_path / "all" / "clip.mp4")
    for number in range(20):
        picture = np.full((24, 32, 3), 10 * number, dtype=np.uint8)
        (tmp_path / "all" / "frames").mkdir(exist_ok=True)
        write_png(tmp_path / "all" / "frames" / f"{number:02d}.png", picture)
    passed = cli("all")
    assert "all/frames was left out" in passed.err and len(passed.out.splitlines()) == 2
    taken = cli("all/frames", "--json")
    assert "taken as 24 frames a second; --image_fps F says another" in taken.err
    assert taken.records[0]["source_fps"] == 24
    stated = cli("all/frames", "--json", "--image_fps", 8, "--fps", 8)
    assert "image_fps" not in stated.err
    assert stated.records[0]["settings"]["sampling"]["image_fps"] == 8
    assert stated.records[0]["num_frames"] == 20  # at 24 a second it would be a third of them
    assert stated.records[0]["settings_id"] != taken.records[0]["settings_id"]


def test_who_compiles_on_a_cpu_is_told_to_wait(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorldModel, "compile_blocks", lambda self: None)
    note = "note: --compile on a CPU may take minutes before it gains anything"
    assert cli(str(videos[0]), "--compile").err.startswith(note)
    assert note not in cli(str(videos[0])).err


def test_the_first_video_is_decoded_while_weights_load(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is decoded twice, and what is wrong with that video is told as ever."""
    decoded: list[Path] = []
    loaded = Event()
    clips, load = Sampling.clips, run.load_weights

    def counted(self: Sampling, path: Path, *rest: Any) -> Any:
        decoded.append(path)
        loaded.set()
        return clips(self, path, *rest)

    def waiting(choice: Any, **options: Any) -> Any:
        assert loaded.wait(10), "decoding has not begun"
        return load(choice, **options)

    monkeypatch.setattr(Sampling, "clips", counted)
    monkeypatch.setattr(run, "load_weights", waiting)
    expected = cli("--video_path", *videos).out
    assert sorted(decoded) == sorted(videos)
    decoded.clear()
    assert cli("--video_path", videos[0], "--output", "out.jsonl").code == 0
    again = cli("--video_path", *videos, "--output", "out.jsonl")
    assert again.out == expected and sorted(decoded) == sorted(videos)  # the known one only once
    videos[0].write_bytes(b"no video")
    broken = cli("--video_path", *videos)
    assert broken.code == 1 and "c.mp4" in broken.err and "a.mp4" in broken.out


def test_long_and_odd_names_keep_to_one_line(cli: Cli, tmp_path: Path) -> None:
    odd = [write_clip(tmp_path / "in" / name) for name in ("x" * 90 + ".mp4", "a\tb\nc.mp4")]
    result = cli("--video_path", *odd)
    assert result.code == 0 and len(result.out.splitlines()) == 5
    assert max(map(len, result.out.splitlines())) < 100 and "a\\tb\\nc.mp4" in result.out


def test_json_line_holds_all_there_is_to_know(cli: Cli, videos: list[Path]) -> None:
    result = cli("--video_path", videos[1], "--json", "--mode", "max")
    (record,) = result.records
    assert record["path"] == str(videos[1])
    assert record["reward"] == -record["surprise"] == -max(record["per_window"])
    assert record["score"] == "plain" and len(record["per_window"]) == record["num_windows"] == 3
    spans = [(w["target"], w["end"], w["target_s"], w["end_s"]) for w in record["windows"]]
    assert spans == [(8 + 2 * i, 15 + 2 * i, 1 + i / 4, (15 + 2 * i) / 8) for i in range(3)]
    assert (record["num_frames"], record["unused_tail_frames"]) == (20, 0)
    assert record["effective_fps"] == record["source_fps"] == 8 and record["seconds"] > 0
    settings = record["settings"]
    assert settings["model"] == "tiny" and settings["mode"] == "max" and settings["stride"] == 2
    assert len(settings["weights_sha256"]) == len(record["video_sha256"]) == 64
    assert settings["sampling"]["max_frames"] == 49 and settings["versions"]["torch"]


def test_compat_released_is_the_published_command(cli: Cli, videos: list[Path]) -> None:
    (record,) = cli("--video_path", videos[0], "--compat", "released", "--json").records
    settings = record["settings"]
    assert (settings["similarity"], settings["stride"], settings["mode"]) == ("token", 8, "mean")
    same = ("--similarity", "token", "--stride", 8, "--json")
    assert cli("--video_path", videos[0], *same).records[0]["surprise"] == record["surprise"]
    agreeing = cli("--video_path", videos[0], "--compat", "released", "--stride", 8)
    assert agreeing.code == 0


def test_changed_speed_is_said_once(cli: Cli, tmp_path: Path) -> None:
    fast = [write_clip(tmp_path / "in" / f"{n}.mp4", n, fps=24) for n in (40, 60)]
    spread = cli("--video_path", *fast, "--max_frames", 20)
    assert spread.err.count("true speed") == spread.err.count("same rate") == 1
    assert spread.err.count("\n") == 3
    assert "2.05 to 3.11 times" in spread.err and "--fps" in spread.err
    assert "true speed" not in cli("--video_path", *fast, "--fps", 12).err
    assert "true speed" not in cli("--video_path", fast[0], "--max_frames", 49).err


def test_frames_that_come_twice_are_told(cli: Cli, tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "in" / "slow.mp4", 20, fps=8)
    told = cli("--video_path", slow, "--fps", 16)
    assert told.code == 0 and told.err.count("\n") == 1
    assert "has 8 frames a second, and 16 are asked for: each comes 2.0 times" in told.err
    assert "asked for" not in cli("--video_path", slow, "--fps", 8).err
    many = cli("--video_path", slow, write_clip(slow.with_name("b.mp4"), 20, fps=8), "--fps", 16)
    assert many.err.count("are asked for") == 1
    assert "2 of 2 videos have fewer frames a second than was asked for" in many.err
    assert cli("--video_path", slow, "--fps", 500).code == 2


def test_true_rate_streams_the_same_as_at_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_clip(tmp_path / "in" / "long.mp4", 60)
    whole = cli("--video_path", video, "--fps", 8, "--json").records[0]
    monkeypatch.setattr("wmreward.surprise.sampling.STREAM_FRAMES", 7)
    parts = cli("--video_path", video, "--fps", 8, "--json").records[0]
    assert whole["num_frames"] == parts["num_frames"] == 60
    assert parts["per_window"] == pytest.approx(whole["per_window"], abs=1e-5)


def test_folder_of_images_is_one_video(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, picture in enumerate(np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3))):
        write_png(folder / f"{index}.png", picture.astype(np.uint8))
    result = cli("--video_path", folder, "--output", "s.jsonl", "--plot", "--map")
    assert result.code == 0 and result.out.splitlines()[1].startswith("frames ")
    assert "1 already scored" in cli("--video_path", folder, "--output", "s.jsonl").err
    (folder / "15.png").unlink()
    assert "too short" in cli("--video_path", folder, "--output", "s.jsonl").err


def test_actions_file_belongs_to_the_settings(cli: Cli, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "in" / "robot.mp4", 12, fps=4)
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        steps = {"actions": random.normal(size=(11, 7)), "states": random.normal(size=(12, 7))}
        Path(f"{name}.json").write_text(json.dumps({k: v.tolist() for k, v in steps.items()}))
    weights = write_weights(tmp_path / "ac.safetensors", NANO_AC)
    records = []
    for name in ("one", "two"):
        flags = ("--video_path", video, "--actions", f"{name}.json", "--output", "s.jsonl")
        result = cli(*flags, "--json", "--map", model="vitgac", weights=weights)
        assert result.code == 0, result.err
        records += result.records
    expected = compute_vjepa_surprise(
        video, "vitgac", weights=str(weights), motion=read_motion("one.json")
    )
    assert records[0]["surprise"] == pytest.approx(float(expected))
    assert records[0]["surprise"] != records[1]["surprise"]
    assert records[0]["num_windows"] == 11 and len(list(Path("outputs").glob("*map.mp4"))) == 2


# --- output files and resuming ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new/scores.jsonl", "scores.csv"])
def test_finished_videos_are_not_decoded_again(
    cli: Cli, videos: list[Path], scored: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    clips = Sampling.clips

    def noted(self: Sampling, path: str | Path, *reduction: Any) -> Any:
        decoded.append(Path(path).name)
        return clips(self, path, *reduction)

    first = cli("--video_path", *videos[:2], "--output", name)
    written = Path(name).read_text()
    monkeypatch.setattr(Sampling, "clips", noted)
    again = cli("--video_path", *videos, "--output", name, "--batch_size", 1, "--workers", 4)
    assert scored == ["c.mp4", "a.mp4", "b.mp4"] and decoded == ["b.mp4"]
    assert again.err == "1 scored, 2 already scored\n"
    assert again.out.splitlines()[1].split()[1:] == first.out.splitlines()[1].split()[1:]
    assert Path(name).read_text().startswith(written)
    rows = Path(name).read_text().splitlines()
    assert len(rows) == (4 if name.endswith("csv") else 3)


def test_other_settings_and_other_content_are_scored(
    cli: Cli, videos: list[Path], scored: list[str]
) -> None:
    def run(*flags: object) -> None:
        assert cli("--video_path", videos[0], "--output", "s.jsonl", *flags).code == 0

    run()
    run("--stride", 4)
    run("--dtype", "bfloat16")
    write_clip(videos[0], seed=9)
    run()
    assert len(scored) == 4
    run("--stride", 2)
    assert len(scored) == 4
    records = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [r["settings"]["stride"] for r in records] == [2, 4, 2, 2]
    assert records[0]["settings_id"] == records[3]["settings_id"]
    assert records[0]["video_sha256"] != records[3]["video_sha256"]


@pytest.mark.parametrize("output", ["s.jsonl", "s.csv"])
def test_records_of_several_frame_strides_stand_beside_others(
    cli: Cli, videos: list[Path], scored: list[str], output: str
) -> None:
    windows = ("--window_size", 6, "--context_frames", 4, "--stride", 3, "--output", output)
    for strides in ((), ("--frame_strides", 1, 2), ("--frame_strides", 2, 1), ()):
        assert cli("--video_path", videos[0], *windows, *strides).code == 0
    assert len(scored) == 2  # the order of strides does not matter, and each is found again
    records = RecordFile(Path(output)).read()
    if output == "s.csv":
        assert [record["frame_strides"] for record in records] == ["1", "1 2"]
        return
    assert [record["settings"]["frame_strides"] for record in records] == [[1], [1, 2]]
    one, several = (record["windows"] for record in records)
    assert [w["frame_stride"] for w in several] == [1] * 5 + [2] * 4
    assert [w | {"frame_stride": 1} for w in several[:5]] == one
    for window in several:
        assert window["end"] - window["start"] == 5 * window["frame_stride"]
        assert window["target"] - window["start"] == 4 * window["frame_stride"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--frame_strides 4", "--max_frames 49 is less than one window"),
        ("--frame_strides 2 2", "names 2 twice"),
        ("--frame_strides 0", "must be a whole number from 1"),
        ("--rates 4 --fps 8", "--rates and --fps"),
        ("--rates 7 9 11", "no common multiple"),
        ("--compat released --frame_strides 1 2", "--frame_strides 1, not 1 2"),
    ],
)
def test_strides_and_rates_that_cannot_be(
    cli: Cli, videos: list[Path], flags: str, says: str
) -> None:
    result = cli("--video_path", videos[0], *flags.split())
    assert result.code == 2 and says in result.err and result.err.count("\n") == 1


def test_copy_of_a_video_gets_a_record_of_its_own(
    cli: Cli, videos: list[Path], scored: list[str], tmp_path: Path
) -> None:
    cli("--video_path", videos[0], "--output", "s.csv")
    copy = Path(shutil.copy(videos[0], tmp_path / "copy.mp4"))
    for _ in range(2):
        assert "1 already scored" in cli("--video_path", copy, "--output", "s.csv").err
    assert len(scored) == 1
    with Path("s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(videos[0]), str(copy)]
    assert rows[0]["surprise"] == rows[1]["surprise"]


def test_torn_line_is_repaired(cli: Cli, videos: list[Path], scored: list[str]) -> None:
    cli("--video_path", *videos, "--output", "s.jsonl")
    whole = Path("s.jsonl").read_bytes()
    Path("s.jsonl").write_bytes(whole[:-40])
    assert cli("--video_path", *videos, "--output", "s.jsonl").code == 0
    assert scored[3:] == ["b.mp4"]
    lines = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(video) for video in videos]


def test_parts_of_a_killed_distributed_run_count(
    cli: Cli, videos: list[Path], scored: list[str]
) -> None:
    cli("--video_path", *videos[:2], "--output", "s.jsonl")
    lines = Path("s.jsonl").read_bytes().splitlines(keepends=True)
    Path("s.jsonl").unlink()
    Path("s.jsonl.rank0").write_bytes(lines[0])
    Path("s.jsonl.rank5").write_bytes(lines[1] + lines[0][:50])
    assert cli("--video_path", *videos, "--output", "s.jsonl").code == 0
    assert scored[2:] == ["b.mp4"]
    assert len(Path("s.jsonl").read_text().splitlines()) == 3 and not list(Path().glob("*.rank*"))


# --- what can go wrong with a video ---------------------------------------------------------------


def test_bad_videos_are_reported_and_the_rest_scored(
    cli: Cli, videos: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "in" / "broken.mp4"
    broken.write_bytes(b"not a video")
    short = write_clip(tmp_path / "in" / "short.mp4", 6)
    listed = [videos[0], broken, short, videos[1]]
    result = cli("--video_path", *listed, "--output", "s.jsonl", "--json")
    assert result.code == 1
    assert [("error" in line, "surprise" in line) for line in result.records] == [
        (False, True),
        (True, False),
        (True, False),
        (False, True),
    ]
    assert result.records[1]["path"] == str(broken)
    lines = result.err.splitlines()
    assert len(lines) == 3 and lines[2] == "2 scored, 2 failed"
    assert str(broken) in lines[0] and "too short: 6 frames" in lines[1]
    assert len(Path("s.jsonl").read_text().splitlines()) == 2
    write_clip(broken, seed=7)
    table = cli("--video_path", *listed, "--output", "s.jsonl")
    assert table.code == 1 and table.err.endswith("1 scored, 2 already scored, 1 failed\n")
    assert "failed" in table.out.splitlines()[3] and "failed" not in table.out.splitlines()[2]


def test_too_few_windows_for_topk_concern_only_that_video(
    cli: Cli, videos: list[Path], tmp_path: Path
) -> None:
    long = write_clip(tmp_path / "in" / "long.mp4", 40)
    result = cli("--video_path", videos[0], long, "--mode", "topk9")
    assert result.code == 1 and "topk9" in result.err and "1 scored, 1 failed" in result.err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried\nto"), "--batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "--dtype"),
    ],
)
def test_out_of_memory_says_what_to_do(
    cli: Cli,
    videos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    score_clips = VideoScorer.score_clips

    def heavy(self: Any, clips: Any, name: Path, motion: Any = None) -> Any:
        if name.name == "a.mp4":
            raise error
        return score_clips(self, clips, name, motion)

    monkeypatch.setattr(VideoScorer, "score_clips", heavy)
    result = cli("--video_path", *videos)
    assert result.code == 1 and "2 scored, 1 failed" in result.err
    assert result.err.count("\n") == 2 and message in result.err and "out of memory;" in result.err


def test_a_score_that_is_no_number_is_a_failure(
    cli: Cli, videos: list[Path], tmp_path: Path
) -> None:
    state = load_file(tmp_path / "nano.safetensors")
    state["encoder.norm.bias"] = torch.full_like(state["encoder.norm.bias"], float("nan"))
    save_file(state, tmp_path / "nan.safetensors")
    flags = ("--video_path", videos[0], "--output", "s.jsonl")
    result = cli(*flags, weights=tmp_path / "nan.safetensors")
    assert result.code == 1 and "weights are damaged (encoder.norm.bias" in result.err
    assert not Path("s.jsonl").exists()


def test_full_disk_ends_the_run_with_one_line(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, data: bytes) -> None:
        file.write(data[:10])
        raise OSError(28, "No space left on device")

    cli("--video_path", videos[0], "--output", "s.jsonl")
    before = Path("s.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("wmreward.records.record_file._write_all", full)
        result = cli("--video_path", *videos, "--output", "s.jsonl")
    assert result.code == 1 and result.out == "" and result.err.count("\n") == 1
    assert "No space left" in result.err and Path("s.jsonl").read_bytes() == before


def test_an_output_in_use_is_refused_before_anything_is_loaded(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("--video_path", videos[0], "--output", "s.jsonl")
    before = Path("s.jsonl").read_bytes()
    holder = Lock.of(Path("s.jsonl"))
    holder.acquire([Process.this()])
    monkeypatch.setattr("wmreward.scoring.run.load", pytest.fail)
    result = cli("--video_path", *videos, "--output", "s.jsonl")
    assert result.code == 2 and result.out == "" and result.err.count("\n") == 1
    assert f"s.jsonl is in use by process {os.getpid()}" in result.err
    assert Path("s.jsonl").read_bytes() == before
    holder.beat()


def test_a_run_that_lost_its_output_stops(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a night in a sleeping laptop, when another machine went on with the file."""

    def fails(_: Lock) -> None:
        raise Lost("s.jsonl is in use by process 1 on another-host")

    monkeypatch.setattr(Lock, "check", fails)
    result = cli("--video_path", *videos, "--output", "s.jsonl")
    assert result.code == 2 and "another-host" in result.err and not Path("s.jsonl").exists()


def test_interrupted_without_output_shows_what_there_is(
    cli: Cli, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    score_clips = VideoScorer.score_clips

    def interrupted(self: Any, clips: Any, name: Path, motion: Any = None) -> Any:
        if name.name == "b.mp4":
            raise KeyboardInterrupt
        return score_clips(self, clips, name, motion)

    monkeypatch.setattr(VideoScorer, "score_clips", interrupted)
    result = cli("--video_path", *videos)
    assert result.code == 130 and "a.mp4" in result.out and result.err.count("\n") == 1
    saved = cli("--video_path", *videos, "--output", "s.jsonl")
    assert saved.code == 130 and saved.out == "" and saved.err.count("\n") == 1
    assert len(Path("s.jsonl").read_text().splitlines()) == 2


def test_notebooks_import_the_function_from_the_script() -> None:
    assert compute_wmreward.compute_vjepa_surprise is compute_vjepa_surprise
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compute_wmreward.nothing  # noqa: B018
