"""`wmreward evaluate`: who is picked, what clips are, what is kept and written."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from run_fakes import FPS, moving_square, write_run

from wmfiles import Process
from wmreward.batch.cli import main
from wmreward.batch.submission import ClipForm, write_clip
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.evaluate import run as evaluation
from wmreward.evaluate.run import EvaluateOptions, evaluate_run, pick, read_results
from wmreward.physics_iq.measures.metrics import compare
from wmreward.physics_iq.scores import original_score, verified_score
from wmreward.prompts.jobs import BatchJob
from wmreward.records.lock import InUse, Lock
from wmreward.report.run_data import read_run
from wmreward.video_io import read_frames, write_video

NAMES = {
    "0001": "0001_perspective-left_trimmed-ball-ramp.mp4",
    "0002": "0002_perspective-center_trimmed-ball-ramp.mp4",
    "0004": "0004_perspective-left_trimmed-mirror-ball-fall.mp4",
}


def jobs(seeds: tuple[int, ...] = (1, 2, 3)) -> list[BatchJob]:
    return [
        BatchJob(id=id, mode="t2v", prompt="A square moves.", output_name=name, seeds=seeds)
        for id, name in NAMES.items()
    ]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two takes of each scene, one second at 12 fps."""
    folder = tmp_path_factory.mktemp("real") / "split-videos" / "testing"
    for number, name in enumerate(NAMES.values()):
        _, view, scenario = name.split("_")
        for take in (1, 2):
            id = int(name[:4]) + 198 * (take - 1)
            file = f"{id:04d}_testing-videos_{FPS}FPS_{view}_take-{take}_{scenario}"
            write_video(folder / file, moving_square(0.3 + 0.02 * take, noise=number), FPS)
    return folder.parents[1]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", jobs()).path


def options(how: str = "best", seconds: float = 1.0, fps: int | None = None) -> EvaluateOptions:
    return EvaluateOptions(pick=how, seconds=seconds, fps=fps, cache="")


# --- who is picked --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [("best", "guided.3"), ("best:plain", "plain.3"), ("plain", "plain.1"), ("guided", "guided.1")],
)
def test_each_pick(run: Path, how: str, expected: str) -> None:
    picks, failures = pick(read_run(run), how)
    assert {job: entry.name for job, entry in picks.items()} == {
        job: f"{job}.{expected}" for job in NAMES
    }
    assert not failures


def test_unknown_pick_names_the_choices(run: Path) -> None:
    with pytest.raises(
        UsageError, match="--pick worst: choose one of plain, guided, best, best:pl"
    ):
        pick(read_run(run), "worst")
    with pytest.raises(UsageError, match="--pick best:x"):
        pick(read_run(run), "best:x")


def test_jobs_without_a_candidate_say_why(tmp_path: Path) -> None:
    broken = {f"0001.plain.{seed}": "out of memory" for seed in (1, 2, 3)}
    waiting = tuple(f"0002.plain.{seed}" for seed in (1, 2, 3))
    folder = write_run(tmp_path / "run", jobs(), ("plain",), failing=broken, waiting=waiting)
    picks, failures = pick(read_run(folder.path), "best")
    assert list(picks) == ["0004"]
    assert failures == {
        "0001": "no candidate was made: out of memory",
        "0002": "no candidate was made yet",
    }


# --- clips ----------------------------------------------------------------------------------------------


def test_a_video_as_it_should_be_is_copied(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(0), FPS)
    write_clip(tmp_path / "a.mp4", tmp_path / "clip.mp4", ClipForm(seconds=1, fps=FPS))
    assert (tmp_path / "clip.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize(
    ("fps", "frames", "seconds", "to_fps", "skip"),
    [
        (12, 40, 2, 12, 0),
        (12, 40, 2, 12, 1),
        (24, 60, 1, 12, 0),
        (8, 40, 5, 24, 0),
        (24, 121, 5, 24, 0),
    ],
)
def test_length_and_rate_are_exact(
    tmp_path: Path, fps: int, frames: int, seconds: int, to_fps: int, skip: int
) -> None:
    video = moving_square(0.1, frames)
    write_video(tmp_path / "a.mp4", video, fps)
    form = ClipForm(seconds=seconds, fps=to_fps, skip_s=skip)
    write_clip(tmp_path / "a.mp4", tmp_path / "clip.mp4", form)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        (stream,) = container.streams
        assert abs((container.duration or 0) / 1e6 - seconds) <= 0.001
        assert stream.average_rate == Fraction(to_fps)
    clip = read_frames(tmp_path / "clip.mp4", range(seconds * to_fps)).astype(int)
    assert len(clip) == seconds * to_fps
    first = video[skip * fps].astype(int)
    assert np.abs(clip[0] - first).mean() < 4  # chroma is halved; another frame is 8 and more away
    if to_fps == fps:
        last = video[(skip + seconds) * fps - 1].astype(int)
        assert np.abs(clip[-1] - last).mean() < 4


def test_too_short_a_video_says_what_is_needed(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(0, 20), FPS)
    with pytest.raises(
        VideoError, match=r"has 20 frames at 12 fps \(1.67 s\); a clip of 2 s takes 24"
    ):
        write_clip(tmp_path / "a.mp4", tmp_path / "b.mp4", ClipForm(seconds=2, fps=FPS))
    with pytest.raises(VideoError, match=r"a clip of 1 s after 1 s takes 24"):
        write_clip(tmp_path / "a.mp4", tmp_path / "b.mp4", ClipForm(seconds=1, fps=FPS, skip_s=1))
    assert not (tmp_path / "b.mp4").exists()


# --- measures -------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_clips(run: Path, real: Path) -> None:
    found = evaluate_run(read_run(run), real, options())
    assert [sample.id for sample in found.samples] == list(NAMES) and not found.failures
    clips = found.folder / "clips"
    assert sorted(path.name for path in clips.iterdir()) == sorted(NAMES.values())
    for sample in found.samples:
        picked = run / "candidates" / f"{sample.id}.guided.3" / "video.mp4"
        assert (clips / NAMES[str(sample.id)]).read_bytes() == picked.read_bytes()
    takes = sorted(real.rglob("*left*ball-ramp*"))
    assert len(takes) == 2
    videos = [read_frames(path, range(FPS)) for path in (*takes, clips / NAMES["0001"])]
    assert compare(*videos) == found.samples[0].metrics
    results = json.loads((found.folder / "results.json").read_text())
    assert results["scores"]["all"]["original"]["score"] == original_score(found.samples).score
    assert results["scores"]["all"]["verified"]["score"] == verified_score(found.samples).score
    assert results["samples"][0]["candidate"] == "0001.guided.3"
    assert results["settings"] == {
        "pick": "best",
        "seconds": 1.0,
        "fps": FPS,
        "skip_s": 0.0,
        "masks": "lossless",
        "real_masks": None,
    }
    rows = list(csv.DictReader((found.folder / "results.csv").read_text().splitlines()))
    assert [row["job"] for row in rows] == list(NAMES) and rows[2]["category"] == "Optics"
    assert float(rows[0]["verified"]) == verified_score(found.samples).samples[0]
    assert read_results(run)["best"] == results


def test_nothing_is_done_twice(run: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate_run(read_run(run), real, options())
    before = (first.folder / "results.json").read_text()
    measured: list[str] = []

    def noted(found: list[evaluation.Job], **_: object) -> evaluation.Evaluation:
        measured.extend(job.id for job in found)
        return evaluation.Evaluation((), ())

    monkeypatch.setattr(evaluation, "evaluate", noted)
    monkeypatch.setattr(evaluation, "write_clip", lambda *_: pytest.fail("made again"))
    again = evaluate_run(read_run(run), real, options())
    assert again == first and not measured
    assert (again.folder / "results.json").read_text() == before


def test_an_interrupted_evaluation_goes_on(
    run: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_BLOCK", 1)
    measure, asked = evaluation.evaluate, []

    def interrupted(found: list[evaluation.Job], **how: object) -> evaluation.Evaluation:
        asked.extend(job.id for job in found)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return measure(found, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(read_run(run), real, options())
    assert not (run / "evaluation" / "best" / "results.json").exists()
    found = evaluate_run(read_run(run), real, options())
    assert asked == ["0001", "0002", "0002", "0004"]
    monkeypatch.setattr(evaluation, "evaluate", measure)
    other = evaluate_run(read_run(run), real, options("best:guided"))  # the same picks, afresh
    assert other.samples == found.samples


def test_other_picks_and_settings_are_measured_anew(run: Path, real: Path) -> None:
    best = evaluate_run(read_run(run), real, options())
    plain = evaluate_run(read_run(run), real, options("plain"))
    assert plain.folder != best.folder and plain.samples != best.samples
    short = evaluate_run(read_run(run), real, options(seconds=0.5))
    assert len(short.samples[0].metrics.v1_mse) == FPS // 2
    assert set(read_results(run)) == {"best", "plain"}


def test_a_new_best_replaces_the_old_one(tmp_path: Path, real: Path) -> None:
    waiting = tuple(f"{job}.plain.3" for job in NAMES)
    run = write_run(tmp_path / "run", jobs(), ("plain",), waiting=waiting).path
    before = evaluate_run(read_run(run), real, options())
    clip = before.folder / "clips" / NAMES["0001"]
    old = clip.read_bytes()
    clip.with_name("0009_left_over.mp4").write_bytes(old)
    whole = write_run(tmp_path / "whole", jobs(), ("plain",)).path
    shutil.rmtree(run / "candidates")
    (whole / "candidates").rename(run / "candidates")
    for part in whole.glob("manifest.jsonl*"):
        part.replace(run / part.name)
    after = evaluate_run(read_run(run), real, options())
    assert clip.read_bytes() == (run / "candidates/0001.plain.3/video.mp4").read_bytes() != old
    assert len(list(clip.parent.iterdir())) == len(NAMES)
    assert after.samples != before.samples


def test_what_fails_fails_alone(tmp_path: Path, real: Path) -> None:
    run = write_run(tmp_path / "run", jobs(), ("plain",)).path
    (run / "candidates" / "0002.plain.3" / "video.mp4").write_bytes(b"not a video")
    found = evaluate_run(read_run(run), real, options())
    assert [sample.id for sample in found.samples] == ["0001", "0004"]
    assert list(found.failures) == ["0002"] and "0002.plain.3" in found.failures["0002"]
    results = read_results(run)["best"]
    assert results["failures"] == [{"job": "0002", "error": found.failures["0002"]}]


def test_nothing_to_evaluate_is_one_line(tmp_path: Path, real: Path) -> None:
    run = write_run(tmp_path / "run", jobs(), ("plain",), frames=4).path
    with pytest.raises(WMRewardError, match=r"no clip could be made; job 0001: .*has 4 frames"):
        evaluate_run(read_run(run), real, options())
    assert not (run / "evaluation").exists()


def test_real_clips_are_looked_for_before_any_is_made(tmp_path: Path, real: Path) -> None:
    run = write_run(tmp_path / "run", jobs(), ("plain",), frames=4).path  # too short as well
    (tmp_path / "empty").mkdir()
    part = tmp_path / "part"
    shutil.copytree(real, part)
    next(part.rglob("*take-2_trimmed-mirror*")).unlink()
    for folder, says in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "no real clips below it"),
        (part, f"{NAMES['0004']}: no take 2 of"),
    ):
        with pytest.raises(UsageError, match=says):
            evaluate_run(read_run(run), folder, options())
    with pytest.raises(UsageError, match="no such folder"):
        evaluate_run(read_run(run), real, replace(options(), real_masks=tmp_path / "nowhere"))
    assert not (run / "evaluation").exists()


def test_one_evaluation_at_a_time(run: Path, real: Path) -> None:
    """Of the same pick; the other is told who is at work, and nothing is touched."""
    folder = run / "evaluation" / "best"
    lock = Lock.of(folder / "clips.jsonl")
    lock.acquire([Process.this()])
    with pytest.raises(InUse, match="is in use by process"):
        evaluate_run(read_run(run), real, options())
    assert [path.name for path in folder.iterdir()] == [lock.path.name]
    assert evaluate_run(read_run(run), real, options("plain")).samples
    lock.release()
    assert evaluate_run(read_run(run), real, options()).samples and not lock.path.exists()


# --- command line ---------------------------------------------------------------------------------------


def test_command_line(run: Path, real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--real", str(real), "--seconds", "1", "--cache", "none", "--workers", "1"]
    assert main(["evaluate", str(run), *flags]) == 0
    out, err = capsys.readouterr()
    assert out.split()[:3] == ["category", "samples", "Original"] and "Optics" in out
    assert "3 of the 198 jobs" in err and "results.json" in err

    assert main(["evaluate", str(run), *flags, "--format", "latex"]) == 0
    table = capsys.readouterr().out
    assert table.count(r"\begin{tabular}") == 2 and r"\%" in table and "Scores 0..100" not in table

    assert main(["evaluate", str(run), *flags, "--json"]) == 0
    stored = json.loads((run / "evaluation" / "best" / "results.json").read_text())
    assert json.loads(capsys.readouterr().out) == stored and len(stored["samples"]) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--real", "nowhere"], "nowhere: no such folder"),
        ([], "--real"),
        (["--real", "x", "--workers", "0"], "--workers must be a whole number from 1"),
        (["--real", "x", "--seconds", "0"], "--seconds must be a number above 0"),
        (["--real", "x", "--clip_fps", "-1"], "--clip_fps must be a whole number"),
    ],
)
def test_wrong_flags_are_one_line(
    run: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [] if "--seconds" in flags else ["--seconds", "1"]
    assert main(["evaluate", str(run), *flags, *seconds]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), "--real", str(real)]) == 2
    assert "no run there" in capsys.readouterr().err
