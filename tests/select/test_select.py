"""Choosing among existing videos: groups, scores, resuming, copies, sheets."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import Result, write_clip, write_weights
from fakes import NANO_TINY
from processes import Started
from video_fixtures import encode

import vjepa2.config
from wmfiles import Process
from wmreward.errors import UsageError
from wmreward.records.lock import Lock
from wmreward.rewards.compare import drowned
from wmreward.rewards.mix import RewardMix
from wmreward.search import best_of_n as search
from wmreward.select.cli import build_parser, main
from wmreward.select.copies import copy_winners
from wmreward.select.groups import group_of, grouped
from wmreward.surprise import models
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.result import SurpriseResult
from wmreward.video import collect
from wmreward.video_io import Clip, read_frames, read_uniform, write_png, write_video

ROOT = Path(__file__).parents[2]
Select = Callable[..., Result]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("w") / "tiny.safetensors", NANO_TINY)


@pytest.fixture
def select(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Select]:
    """Runs the command line with a small model in the place of `tiny`."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO_TINY)
    monkeypatch.chdir(tmp_path)

    def run(*flags: object) -> Result:
        capsys.readouterr()
        model = ("--model", "tiny", "--weights", weights, "--stride", 4)
        code = main([str(flag) for flag in (*flags, *model)])
        return Result(code, *capsys.readouterr())

    yield run
    models.load.cache_clear()


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that rewards look at, as it happens."""
    names: list[str] = []
    of = search.FileJudge.of

    def noted(self: search.FileJudge, clips: Any, path: Path, only: Any = None) -> object:
        names.append(path.name)
        return of(self, clips, path, only)

    monkeypatch.setattr(search.FileJudge, "of", noted)
    return names


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two candidates of `cat`, two of `dog`, all of different sizes, rates and lengths."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, name in enumerate(("cat_s1", "cat_s2", "dog_s1", "dog_s2")):
        rng = np.random.default_rng(i)
        noise = rng.integers(0, 255, (18 + i, 24 + 8 * i, 32, 3), dtype=np.uint8)
        write_video(folder / f"{name}.mp4", noise, 8 + i)
    return folder


# --- groups -------------------------------------------------------------------------------------------


def names(groups: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {group: [path.name for path in paths] for group, paths in groups.items()}


def test_groups_by_name_and_folder(clips: Path) -> None:
    (clips / "b").mkdir()
    write_clip(clips / "b" / "cat_s9.mp4", 3)
    every = [str(clips)]
    assert {group: len(paths) for group, paths in grouped(every, None).items()} == {"": 5}
    assert set(grouped(every, "^[a-z]+")) == {"cat", "dog"}
    assert names(grouped(every, "(.*)_s")).keys() == {"cat", "dog"}
    assert set(grouped(every, r"(c|d)\w+_s(\d)")) == {"c 9", "c 1", "c 2", "d 1", "d 2"}
    assert set(grouped(every, "folder")) == {str(clips), str(clips / "b")}
    with pytest.raises(UsageError, match=r"does not match cat_s\d\.mp4"):
        grouped(every, "^dog")
    with pytest.raises(UsageError, match="is no regular expression"):
        grouped(every, "(")
    with pytest.raises(UsageError, match="no table gives a prompt"):
        grouped(every, "prompt")


def test_a_pattern_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmreward.select.groups.LONGEST_SEARCH_S", 0.05)
    alarm = signal.getsignal(signal.SIGALRM)
    with pytest.raises(UsageError, match="nested repetitions"):
        group_of(Path("a" * 60 + ".mp4"), None, "(a+)+$")
    assert group_of(Path("aa.mp4"), None, "a+") == "aa"
    assert signal.getsignal(signal.SIGALRM) is alarm


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_groups_by_the_prompts_of_a_table(clips: Path, suffix: str) -> None:
    rows = [
        ("cat_s1.mp4", "a cat, asleep"),
        ("dog_s1.mp4", "a dog"),
        ("cat_s2.mp4", "a cat, asleep"),
        ("cat_s1.mp4", "a cat, asleep"),
    ]
    table = clips / f"table{suffix}"
    if suffix == ".csv":
        lines = ["seed,video,prompt", *(f'1,{video},"{prompt}"' for video, prompt in rows)]
    else:
        lines = [json.dumps({"video": video, "prompt": prompt}) for video, prompt in rows]
    table.write_text("\n".join(lines) + "\n")
    found = {"a cat, asleep": ["cat_s1.mp4", "cat_s2.mp4"], "a dog": ["dog_s1.mp4"]}
    assert names(grouped([str(table)], None)) == found
    assert names(grouped([str(table)], "prompt")) == found
    assert set(grouped([str(table)], "^[a-z]+")) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "t.csv",
            "file,prompt\na.mp4,x\n",
            "t.csv, line 1: the head of the table names no column 'video'",
        ),
        ("t.csv", "video,prompt\nnone.mp4,x\n", "t.csv, line 2: no such file or folder: none.mp4"),
        ("t.csv", "video,prompt\n,x\n", "line 2: there is no 'video'"),
        ("t.jsonl", '{"video": 3}\n', "line 1: there is no 'video'"),
        ("t.jsonl", "[]\n", "line 1: not a JSON object"),
        ("t.jsonl", "{\n", "line 1: not JSON"),
        ("none.csv", None, "none.csv: no such file"),
        ("t.csv", 'video,prompt\n"a.mp4,x\nb.mp4,y\n', "t.csv, line 2: a quote opens here"),
        ("t.csv", "video,prompt\na.mp4\n", "t.csv, line 2: 1 columns"),
        ("t.csv", "video,video\n", "two columns are called 'video'"),
        ("t.csv", "video\n~nosuchuser/a.mp4\n", "line 2: .*no home folder ~nosuchuser"),
        ("t.csv", f"video\n{'x' * 300}.mp4\n", "line 2: .*longer than a path can be"),
        ("t.jsonl", '{"video": "a.mp4", "video": "b.mp4"}\n', "line 1: 'video' is given twice"),
        ("t.jsonl", '{"video": "\\ud800.mp4"}\n', "line 1: .*half a character"),
        ("t.jsonl", '{"video": "a\\u0000.mp4"}\n', "line 1: .*null byte"),
        ("t.jsonl", '{"video": ' + "[" * 5000 + "\n", "line 1: nested deeper"),
    ],
)
def test_wrong_tables(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=says):
        grouped([str(tmp_path / name)], None)


# --- choosing -----------------------------------------------------------------------------------------


def test_the_least_surprising_of_every_group_wins(
    select: Select, clips: Path, weights: Path
) -> None:
    result = select("--videos", clips, "--group_by", "^[a-z]+", "--json")
    assert result.code == 0, result.err
    for line in result.records:
        scores = {row["path"]: -row["scores"]["surprise"] for row in line["candidates"]}
        assert len(scores) == 2 and line["winner"] == min(scores, key=scores.__getitem__)
        for path, surprise in scores.items():
            own = compute_vjepa_surprise(path, model="tiny", stride=4, weights=str(weights))
            assert surprise == pytest.approx(float(own), abs=2e-4)  # type: ignore[arg-type]


def test_equals_are_told(select: Select, clips: Path) -> None:
    for name in ("cat_s3", "cat_s4"):
        shutil.copy(clips / "cat_s1.mp4", clips / f"{name}.mp4")
    out = select("--videos", *(clips / f"cat_s{i}.mp4" for i in (4, 3, 1))).out
    assert f"winner: {clips / 'cat_s4.mp4'} (2 more are equal)" in out


def test_table_records_copies_and_sheets(select: Select, clips: Path) -> None:
    flags = ("--group_by", "^[a-z]+", "--output", "s.jsonl", "--copy_to", "best")
    result = select("--videos", clips, *flags, "--contact_sheets", "sheets")
    assert result.code == 0 and "the choice among 2 raised the reward" in result.out
    records = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [(r["group"], r["rank"], r["winner"]) for r in records] == [
        ("cat", 1, True),
        ("cat", 2, False),
        ("dog", 1, True),
        ("dog", 2, False),
    ]
    assert records[0]["total"] > records[1]["total"] and records[0]["candidates"] == 2
    best = {Path(r["path"]).name for r in records if r["winner"]}
    assert {path.name for path in Path("best").iterdir()} == best
    for path in Path("best").iterdir():
        assert path.read_bytes() == (clips / path.name).read_bytes()
        assert f"winner: {clips / path.name}" in result.out
    sheets = sorted(path.name for path in Path("sheets").iterdir())
    assert sheets == ["001-cat.png", "002-dog.png"]
    assert len(read_frames("sheets/001-cat.png", [0])) == 1


def test_folders_of_images_are_told_of(select: Select, clips: Path) -> None:
    for folder in ("frames", "more"):
        (clips / folder).mkdir()
        for number in range(16):
            write_png(
                clips / folder / f"{number:02d}.png", np.full((24, 32, 3), 9 * number, np.uint8)
            )
    told = select("clips", "clips/frames")
    assert "note: clips/more was left out" in told.err and "frames\n" not in told.err
    assert "clips/frames is a folder of images" in told.err and "frames " in told.out
    assert "a folder of images" not in select("clips/frames", "--image_fps", 8).err


def test_candidates_seen_at_different_rates_are_told(select: Select, clips: Path) -> None:
    kept = ("--output", "out.jsonl")
    told = select("clips", "--group_by", "^[a-z]+", *kept).err
    assert "note: the videos of group 'cat' were not seen at the same rate (8 to 9 frames" in told
    assert "--rates F shows all at the same, with F up to 8 (the same of 1 more group)" in told
    assert "same rate" in select("clips", *kept).err  # from the records
    short = ("--window_size", 4, "--context_frames", 2)
    assert "same rate" not in select("clips", "--rates", 8, *short).err
    assert "same rate" not in select("clips", "--group_by", "_s.*", "--rates", 8, *short).err


def test_curves_are_recorded_and_drawn(select: Select, clips: Path) -> None:
    flags = ("--videos", clips, "--group_by", "^[a-z]+", "--output", "s.jsonl")
    result = select(*flags, "--plots", "plots")
    assert result.code == 0 and "wrote plots/001-cat.png" in result.err
    records = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    for record in records:
        (curve,) = [record["curves"]["surprise"]]
        places = [
            11.5 + 4 * n for n in range(len(curve["values"]))
        ]  # the middles of what is predicted
        assert curve["frames"] == places
        assert np.mean(curve["values"]) == pytest.approx(-record["scores"]["surprise"], rel=1e-4)
    anew = rescored("--rescore", "s.jsonl", "--plots", "again")
    assert anew.code == 0 and len(read_frames("again/002-dog.png", [0])) == 1
    for record in records:
        record.pop("curves")  # as earlier versions wrote them
    Path("old.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    old = rescored("--rescore", "old.jsonl", "--plots", "none")
    assert old.code == 0 and "the records hold no curves" in old.err and not Path("none").exists()


@pytest.mark.parametrize("sampled", [("--max_frames", 25), ("--fps", 4)])
def test_curves_of_sampled_videos_are_at_frames_of_the_file(
    select: Select, tmp_path: Path, sampled: tuple[object, ...]
) -> None:
    """Seen are frames 0, 2, 4, …, 48 of 49: the middle between the 11th and the 12th is frame 23."""
    write_clip(tmp_path / "long.mp4", frames=49, fps=8)
    result = select("long.mp4", *sampled, "--output", "s.jsonl", "--reward", "surprise", "geometry")
    assert result.code == 0
    (record,) = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert record["curves"]["surprise"]["frames"] == [23.0, 31.0, 39.0]
    assert 24 < max(record["curves"]["geometry"]["frames"]) <= 48
    again = ("--reward", "surprise", "geometry", "--plots", "plots")
    assert "wrote" in select("long.mp4", *sampled, "--output", "s.jsonl", *again).err
    # Earlier versions had them at sampled frames, and did not say so: what is drawn of these would be wrong.
    del record["curves_at"]
    Path("s.jsonl").write_text(json.dumps(record) + "\n")
    for drawn in (
        rescored("--rescore", "s.jsonl", *again),
        select("long.mp4", *sampled, "--output", "s.jsonl", *again),
    ):
        assert "the records hold no curves, as those of earlier versions" in drawn.err
    (kept,) = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert kept["curves"] == {} and kept["scores"] == record["scores"]


def test_candidates_seen_at_another_speed_are_told(select: Select, clips: Path) -> None:
    told = select("clips", "--max_frames", 18).err
    assert "note: 3 of 4 videos were seen at 1.06 to 1.18 times true speed" in told
    assert "--fps F keeps the true rate" in told
    assert "true speed" not in select("clips").err
    assert "fewer frames a second than was asked for" in select("clips", "--fps", 16).err


def test_what_has_no_curve_is_not_drawn(select: Select, clips: Path) -> None:
    result = select("--videos", clips, "--reward", "consensus", "--plots", "plots")
    assert result.code == 2
    assert "consensus" in result.err and "add one of surprise, seam, geometry" in result.err


def test_what_is_judged_is_not_judged_again(select: Select, clips: Path, judged: list[str]) -> None:
    flags: tuple[object, ...] = ("--videos", clips, "--output", "s.jsonl")
    # Consensus compares videos of one length: the others are cut to the same number of frames.
    flags = (*flags, "--reward", "surprise", "consensus", "--combine", "rank", "--max_frames", 18)
    first = select(*flags)
    assert first.code == 0 and len(judged) == 4
    lines = Path("s.jsonl").read_bytes().splitlines(keepends=True)
    Path("s.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:30])  # killed while it wrote
    again = select(*flags)
    assert again.out == first.out and len(judged) == 6
    (clips / "cat_s1.mp4").rename(clips / "renamed.mp4")
    (clips / "dog_s1.mp4").write_bytes((clips / "dog_s2.mp4").read_bytes())
    result = select(*flags)
    assert result.code == 0 and len(judged) == 6  # its content is known
    table = {line.split()[1]: line.split()[3] for line in result.out.splitlines()[1:5]}
    assert table["dog_s1.mp4"] == table["dog_s2.mp4"]
    assert select(*flags, "--score", "excess").code == 0 and len(judged) == 10


def test_a_new_mix_judges_only_what_is_missing(
    select: Select, clips: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    judge = RewardMix.judge

    def noted(self: RewardMix, video: Any, facts: Any = None, only: Any = None) -> Any:
        found = judge(self, video, facts, only)
        asked.extend((*found.scores, *found.embeddings))
        return found

    monkeypatch.setattr(RewardMix, "judge", noted)
    flags: tuple[object, ...] = ("--videos", clips, "--output", "s.jsonl", "--max_frames", 18)
    flags = (*flags, "--window_size", 8, "--context_frames", 4)
    assert select(*flags, "--reward", "surprise").code == 0 and asked == ["surprise"] * 4
    both = select(*flags, "--reward", "surprise", "consensus", "--json")
    assert both.code == 0 and asked[4:] == ["consensus"] * 4
    three = ("--reward", "surprise", "geometry=2", "consensus=0.5", "--combine", "rank")
    mixed = select(*flags, *three, "--json")
    assert mixed.code == 0 and asked[8:] == ["geometry"] * 4 and len(judged) == 12
    # From here on nothing is judged, and nothing loaded.
    models.load.cache_clear()
    again = select(*flags, *three, "--json")
    assert again.out == mixed.out
    less = select(*flags, "--reward", "geometry", "--json")
    assert less.code == 0 and len(judged) == 12 and not models.load.cache_info().currsize
    # As a fresh run has it.
    fresh = select(*flags[:2], *flags[4:], *three, "--json")
    assert fresh.out == mixed.out
    # What is another question is asked again.
    count = len(asked)
    assert select(*flags, *three, "--score", "excess").code == 0
    assert asked[count:] == ["surprise"] * 4
    assert select(*flags, *three, "--max_frames", 17).code == 0
    assert sorted(asked[count + 4 :]) == sorted(["surprise", "geometry", "consensus"] * 4)


def test_rescore_compares_records_alone(select: Select, clips: Path, judged: list[str]) -> None:
    seen = ("--max_frames", 18, "--window_size", 8, "--context_frames", 4)
    groups = ("--group_by", "^[a-z]+")
    flags = ("--videos", clips, "--output", "s.jsonl", *seen, *groups)
    three = ("--reward", "surprise", "geometry=2", "consensus=0.5")
    first = select(*flags, *three, "--json")
    by_rank = select(*flags, *three, "--combine", "rank", "--json")
    one = select(*flags, "--reward", "surprise", "--json")
    assert first.code == by_rank.code == one.code == 0
    count = len(judged)
    for path in clips.iterdir():
        path.unlink()

    def rescore(*more: object) -> Result:
        return rescored("--rescore", "s.jsonl", *more, "--json")

    assert rescore(*three).out == first.out
    assert rescore(*three, "--combine", "rank").out == by_rank.out
    assert rescore().out == one.out
    (whole,) = rescore("--group_by", "s").records
    assert len(whole["candidates"]) == 4 and len(judged) == count


def rescored(*flags: object) -> Result:
    """The command line without the flags of a model."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(flag) for flag in flags])
    return Result(code, out.getvalue(), err.getvalue())


def test_what_cannot_be_rescored(select: Select, clips: Path) -> None:
    flags = ("--videos", clips / "cat_s1.mp4", "--output", "s.jsonl")
    assert select(*flags).code == 0
    for more, says in (
        (("s.jsonl", "--reward", "seam"), "was not judged by 'seam', only by surprise"),
        (("none.jsonl",), "no such file of records"),
        (("s.jsonl", "--model", "tiny"), "leave out --model"),
        (("s.jsonl", "--output", "t.jsonl"), "leave out --output"),
        (("s.jsonl", clips), "leave out --video_path"),
    ):
        result = rescored("--rescore", *more)
        assert result.code == 2 and says in result.err and result.err.count("\n") == 1
    assert select(*flags, "--score", "excess").code == 0
    assert "judged in several ways" in rescored("--rescore", "s.jsonl").err


def test_a_damaged_or_short_video_does_not_stop_the_others(select: Select, clips: Path) -> None:
    (clips / "cat_s1.mp4").write_bytes(b"nothing")
    write_clip(clips / "dog_s3.mp4", 5)
    (clips / "eel_s1.mp4").write_bytes(b"nothing")
    result = select("--videos", clips, "--group_by", "^[a-z]+", "--json")
    assert result.code == 1
    counted = {line["group"]: len(line["candidates"]) for line in result.records}
    assert counted == {"cat": 1, "dog": 2}
    for says in ("cat_s1.mp4", "dog_s3.mp4: too short: 5 frames", "group 'eel'"):
        assert says in result.err


def test_winners_of_one_name_are_told_apart(select: Select, tmp_path: Path) -> None:
    for i, group in enumerate(("a", "b")):
        write_clip(tmp_path / group / "clip.mp4", 16, seed=i)
    result = select("--videos", "a", "b", "--group_by", "folder", "--copy_to", "best")
    assert result.code == 0
    assert sorted(path.name for path in Path("best").iterdir()) == ["a-clip.mp4", "b-clip.mp4"]


def test_winners_of_one_group_name_are_told_apart(select: Select, tmp_path: Path) -> None:
    """Groups may differ in signs only that no file name keeps."""
    for i, group in enumerate("12"):
        write_clip(tmp_path / group / "v.mp4", 16, seed=i)
    (tmp_path / "t.csv").write_text("video,prompt\n1/v.mp4,a ball!\n2/v.mp4,a ball?\n")
    flags = ("--videos", "t.csv", "--copy_to", "best")
    assert select(*flags).code == 0
    copies = sorted(Path("best").iterdir())
    assert [path.name for path in copies] == ["a-ball-v-2.mp4", "a-ball-v.mp4"]
    contents = {Path(group, "v.mp4").read_bytes() for group in "12"}
    assert {path.read_bytes() for path in copies} == contents and len(contents) == 2
    assert select(*flags).code == 0 and sorted(Path("best").iterdir()) == copies  # nothing twice


def test_copies_never_replace_what_is_there(tmp_path: Path) -> None:
    for name, content in (("1/V.mp4", b"1"), ("2/v.mp4", b"2"), ("best/x.mp4", b"older")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "x.mp4").write_bytes(b"newer")
    for name in ("frames", "best/frames"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(name.encode())
    best = tmp_path / "best"
    winners = {
        "a": tmp_path / "1/V.mp4",
        "A": tmp_path / "2/v.mp4",
        "b": tmp_path / "x.mp4",
        "c": tmp_path / "frames",
    }
    copies = list(copy_winners(winners, best))
    wanted = ["a-V.mp4", "A-v-2.mp4", "x-2.mp4", "frames-2"]
    assert [copy.name for copy in copies] == wanted
    assert (best / "x.mp4").read_bytes() == b"older" and (best / "x-2.mp4").read_bytes() == b"newer"
    assert (best / "frames-2/1.png").read_bytes() == b"frames"
    before = sorted(best.rglob("*"))
    assert list(copy_winners(winners, best)) == copies and sorted(best.rglob("*")) == before


def test_candidates_of_our_own_commands_are_known(select: Select, tmp_path: Path) -> None:
    """Of a batch run the best of every job wins, of searches the best of every video; names say which."""
    for i, (job, seed) in enumerate((("ramp", 1), ("ramp", 2), ("ball", 1))):
        folder = tmp_path / f"run/candidates/{job}.plain.{seed}"
        write_clip(folder / "video.mp4", 16, seed=i)
        (folder / "record.json").write_text(json.dumps({"job": job, "seed": seed}))
    result = select("run", "--group_by", "folder", "--json", "--copy_to", "best")
    assert {line["group"]: len(line["candidates"]) for line in result.records} == {
        f"run{os.sep}ball": 1,
        f"run{os.sep}ramp": 2,
    }
    winner = next(Path(line["winner"]).parent.name for line in result.records[1:])
    assert {p.name for p in Path("best").iterdir()} == {"ball.plain.1.mp4", f"{winner}.mp4"}

    for video in ("box", "cube"):
        for seed in (3, 4):
            write_clip(tmp_path / f"out/{video}.candidates/0a1b2c3d-seed{seed}.mp4", 16, seed=seed)
    result = select("out", "--group_by", "folder", "--json", "--copy_to", "won")
    won = Path(result.records[0]["winner"]).stem[-1]
    assert {p.name for p in Path("won").iterdir()} == {
        f"{v}-seed{won}.mp4" for v in ("box", "cube")
    }


def test_copies_from_folders_far_away_have_short_names(tmp_path: Path) -> None:
    winners = {}
    for name in ("a/x", "b/x"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "v.mp4").write_bytes(name.encode())
        winners[str(folder)] = folder / "v.mp4"
    copies = list(copy_winners(winners, tmp_path / "best"))
    assert [copy.name for copy in copies] == ["a-x-v.mp4", "b-x-v.mp4"]


def test_of_a_single_candidate_nothing_is_chosen(select: Select, clips: Path) -> None:
    alone = select(clips / "cat_s1.mp4").out
    assert "only candidate: " in alone and "nothing to choose from" in alone
    assert "winner" not in alone


def test_long_names_are_copied(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{'é' * 125}.mp4").write_bytes(folder.encode())
    winners = {folder * 300: next((tmp_path / folder).iterdir()) for folder in "ab"}
    copies = list(copy_winners(winners, tmp_path / "best"))
    assert [copy.read_bytes() for copy in copies] == [b"a", b"b"]
    assert all(copy.suffix == ".mp4" for copy in copies)


def test_records_of_other_videos_stay(select: Select, clips: Path, judged: list[str]) -> None:
    for name in ("cat_s1", "dog_s1", "cat_s1"):
        assert select("--videos", clips / f"{name}.mp4", "--output", "s.jsonl").code == 0
    assert judged == ["cat_s1.mp4", "dog_s1.mp4"]  # what was judged is known
    records = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert [Path(record["path"]).name for record in records] == ["dog_s1.mp4", "cat_s1.mp4"]
    assert select("--videos", clips, "--output", "s.jsonl").code == 0 and len(judged) == 4
    assert len(Path("s.jsonl").read_text().splitlines()) == 4


def test_videos_are_judged_by_what_the_model_sees(
    select: Select, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the size of frames; the surprise is that of ``score`` to the last bit."""
    noise = np.random.default_rng(0).integers(0, 255, (18, 150, 210, 3), dtype=np.uint8)
    write_video(tmp_path / "large.mp4", noise, 8)
    kept: list[tuple[int, ...]] = []
    of = search.FileJudge.of

    def noted(self: Any, clips: Iterable[Clip], path: Path, only: Any = None) -> object:
        clips = list(clips)
        kept.extend(clip.frames.shape for clip in clips)
        return of(self, clips, path, only)

    monkeypatch.setattr(search.FileJudge, "of", noted)
    result = select("large.mp4", "--json")
    side = NANO_TINY.crop
    assert kept == [(18, 3, side, side)]
    found = compute_vjepa_surprise("large.mp4", model="tiny", stride=4, weights=str(weights))
    assert isinstance(found, SurpriseResult)
    assert -json.loads(result.out)["candidates"][0]["scores"]["surprise"] == float(found)


def test_whole_frames_for_rewards_of_others_have_a_limit(
    select: Select, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bright.py").write_text(BRIGHT)
    flags = ("--video_path", clips, "--reward", "surprise=0", "bright:Bright", "--json")
    (line,) = select(*flags).out.splitlines()
    for candidate in json.loads(line)["candidates"]:
        frames = read_uniform(candidate["path"]).frames
        expected = (torch.from_numpy(frames).float() / 127.5 - 1).mean()
        assert candidate["scores"]["bright:Bright"] == pytest.approx(expected.item(), abs=1e-6)
    for place in (collect, search):
        monkeypatch.setattr(place, "MAX_CLIP_BYTES", 18 * 24 * 32 * 3 * 4)
    result = select(*flags)
    assert result.code == 1 and result.err.count("too large to hold") == 3  # the smallest goes on
    monkeypatch.setattr(collect, "MAX_CLIP_BYTES", 2**30)
    result = select(*flags, "--fps", 240)
    assert result.code == 1 and "judged at once" in result.err


BRIGHT = """
from wmreward.protocols import RewardScores


class Bright:
    name, differentiable = "bright", False

    def __call__(self, videos):
        return RewardScores(videos.mean(dim=(1, 2, 3, 4)), {})
"""


def test_doubts_are_told_recorded_and_refused(
    select: Select, tmp_path: Path, judged: list[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    times = [125 * index + 5000 * (index >= 10) for index in range(20)]
    encode(tmp_path / "gap.mkv", noise, pts=times, time_base=Fraction(1, 1000))
    write_video(tmp_path / "sound.mp4", noise, 8)
    flags = ("gap.mkv", "sound.mp4", "--output", "s.jsonl")
    for _ in range(2):
        result = select(*flags)
        assert result.code == 0
        (warning,) = (line for line in result.err.splitlines() if line.startswith("warning"))
        assert warning.startswith(
            "warning: gap.mkv: gaps between frames: 1 (up to 5.125 s); judged"
        )
    found = [json.loads(line)["faults"] for line in Path("s.jsonl").read_text().splitlines()]
    assert sorted(faults["gaps"] for faults in found) == [0, 1] and len(judged) == 2
    strict = select(*flags, "--strict")
    assert strict.code == 1 and "only candidate: sound.mp4" in strict.out and len(judged) == 2
    assert "gap.mkv: gaps between frames: 1 (up to 5.125 s) (--strict refuses it)" in strict.err


def test_records_in_use_are_left_alone(select: Select, clips: Path, judged: list[str]) -> None:
    Lock.of(Path("s.jsonl")).acquire([Process.this()])
    result = select("--videos", clips, "--output", "s.jsonl")
    assert result.code == 2 and not judged and not Path("s.jsonl").exists()
    assert f"s.jsonl is in use by process {os.getpid()}" in result.err


def test_lists_from_other_systems(clips: Path) -> None:
    """A byte order mark, the line ends of Windows, names that are not UTF-8."""
    odd = clips / os.fsdecode(b"\xff.mp4")
    odd.write_bytes((clips / "cat_s1.mp4").read_bytes())
    (clips / "t.csv").write_bytes(b"\xef\xbb\xbfvideo,prompt\r\ncat_s1.mp4,x\r\n")
    (clips / "t.jsonl").write_text("\ufeff" + json.dumps({"video": odd.name}) + "\r\n")
    (clips / "t.txt").write_bytes("\ufeffcat_s1.mp4\r\n".encode())
    found = [grouped([str(clips / name)], None) for name in ("t.csv", "t.jsonl", "t.txt")]
    cat = clips / "cat_s1.mp4"
    assert found == [{"x": [cat]}, {"": [odd]}, {"": [cat]}]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "which videos?"),
        (("--videos", "none"), "no such file or folder: none"),
        (("--videos", "clips", "--output", "s.csv"), "must end in .jsonl"),
        (("--videos", "clips", "--reward", "beauty"), "unknown reward 'beauty'"),
        (("--videos", "clips", "--max_frames", "8"), "is too few: the reward needs 16"),
        (("--videos", "clips", "--reward_mode", "topk9", "--max_frames", "20"), "needs 48"),
        (
            ("--videos", "clips", "--reward_context_frames", "1"),
            "needs at least 2 to see and 2 to predict",
        ),
        (("--videos", "clips", "--read_ahead", "-1"), "--read_ahead must be"),
        (("--videos", "clips", "--video", "x"), "--video"),
    ],
)
def test_wrong_flags(select: Select, clips: Path, flags: tuple[str, ...], says: str) -> None:
    result = select(*flags)
    assert result.code == 2 and result.out == "" and says in result.err
    assert result.err.count("\n") == 1


def test_rewards_that_decide_nothing_are_told(select: Select, clips: Path) -> None:
    alone = select("clips", "--reward", "surprise=0")
    assert alone.code == 2 and "no weight but 0" in alone.err
    told = select("clips", "--reward", "surprise", "consensus=0", "--json", "--format", "csv").err
    assert "note: --reward consensus=0 is without effect on the outcome" in told
    assert "note: --format is without effect" in told and "seam" not in told
    assert "it is the same as surprise" in select("clips", "--reward", "seam").err


def test_a_sum_that_one_reward_decides_is_told(select: Select, clips: Path) -> None:
    mixed = ("--reward", "surprise", "geometry")
    short = ("--window_size", 8, "--context_frames", 4)
    flags = ("clips", *mixed, *short, "--output", "s.jsonl")
    assert "decided by" not in select(*flags).err
    records = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    for record in records:
        record["scores"]["surprise"] /= 1000
    Path("s.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    told = select(*flags).err
    assert "note: the sum is decided by geometry, whose scores differ far more than" in told
    assert "of surprise: --combine rank weighs them alike" in told
    again = rescored("--rescore", "s.jsonl", *mixed).err
    assert "decided by geometry" in again
    for other in ((*mixed, "--combine", "rank"), ("--reward", "surprise=50", "geometry")):
        assert "decided by" not in rescored("--rescore", "s.jsonl", *other).err


def test_which_rewards_a_sum_drowns() -> None:
    assert drowned({"a": [0.2, 0.8], "b": [0.001, 0.003]}) == (["a"], ["b"])
    assert drowned({"a": [0.2, 0.8], "b": [0.1, 0.2]}) == (["a", "b"], [])
    assert drowned({"a": [0.2, 0.8], "b": [0.1, 0.1]}) == (
        ["a"],
        [],
    )  # equal by it: nothing is lost
    assert drowned({"a": [0.5], "b": [9.0]}) == ([], [])


def test_missing_weights_are_found_before_anything_is_read(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "tiny", "--weights", "none.safetensors"]
    assert main(["--videos", str(clips), *flags]) == 1
    assert "none.safetensors does not exist" in capsys.readouterr().err


def test_own_rewards_need_no_world_model(
    select: Select, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = select("--videos", clips, "--reward", "example.my_reward:Steady", "--json")
    assert result.code == 0 and not models.load.cache_info().currsize
    (line,) = result.records
    assert len(line["candidates"]) == 4 and line["candidates"][0]["total"] < 0


def test_help_tells_every_default() -> None:
    parser = build_parser()
    parser.show_rare()
    shown = " ".join(parser.format_help().split())
    for flag, default in parser.defaults.items():
        assert f"--{flag}" in shown
        if default not in (None, False):
            assert f"(default: {parser.flags[flag].shown_default})" in shown


def test_two_processes_choose_together(clips: Path, tmp_path: Path) -> None:
    """With a reward of their own, which needs no weights."""
    flags = ("--reward", "example.my_reward:Steady", "--json", "--output", tmp_path / "s.jsonl")
    words = ("--videos", clips, *flags)
    ended = Started("wmreward.select.cli", words, ROOT, ranks=2, streams=tmp_path).end()
    assert ended.code == 0, ended.err[-3000:]
    (line,) = [json.loads(text) for text in ended.out.splitlines()]
    assert len(line["candidates"]) == 4
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 4
    assert not list(tmp_path.glob("*.rank*"))
