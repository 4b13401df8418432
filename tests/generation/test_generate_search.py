"""Several candidates from the command line: the best of them, particles, processes that share the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import guided_fixtures
import numpy as np
import pytest
import torch
from generate_fixtures import ROOT, T2V
from guided_fixtures import SHORT, Guided, candidates_in, latents_of, record_of
from processes import Started
from torch import Tensor

from wmreward.generation import workshop
from wmreward.generation.cli import main
from wmreward.generation.flags import build_parser
from wmreward.generation.foreign import foreign
from wmreward.generation.search.candidate import make_candidates
from wmreward.generation.search.compared import other_judge, sentence, verdict
from wmreward.generation.steering import LoadedSteering
from wmreward.rewards import compare
from wmreward.rewards.choice import RewardChoice
from wmreward.select.cli import main as select
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.config import SurpriseConfig
from wmreward.video_io import probe, write_png, write_video
from wmweights import fingerprint_files

nano = guided_fixtures.nano
small_world = guided_fixtures.small_world
small_embedded = guided_fixtures.small_embedded
command = guided_fixtures.command
made = guided_fixtures.made

VALUES = build_parser().defaults


def tiny(**flags: Any) -> RewardChoice:
    """By which the small generator is guided unless flags say otherwise."""
    return RewardChoice.from_flags({**VALUES, **flags}, default_model="tiny")


# --- best of N ----------------------------------------------------------------------------------------


def test_the_best_candidate_is_the_output(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, *SHORT, "--seed", "5", "--keep", "all", "--save_latents", "--best_of")
    code, out, err = command(*flags, "3")
    assert code == 0 and made == [[5], [6], [7]] and "output.mp4: 24 frames" in out
    assert "the choice among 3 raised the reward by" in err and "wrote output.candidates.png" in err
    lines = candidates_in("output.candidates")
    best = max(lines, key=lambda line: line["scores"]["surprise"])
    record = record_of("output")
    assert record["seed"] == best["seed"]
    assert Path("output.mp4").read_bytes() == Path("output.candidates", best["path"]).read_bytes()
    own = Path("output.candidates", best["path"]).with_suffix("")
    assert torch.equal(latents_of("output"), latents_of(str(own)))
    ranks = [row["path"] for row in record["search"]["candidates"]]
    assert ranks[0] == best["path"] and sorted(ranks) == sorted(line["path"] for line in lines)
    assert {"surprise.plain", "surprise.copy", "surprise.excess"} <= set(lines[0]["parts"])
    assert lines[0]["seconds"] > 0 and lines[0]["settings"]["judged_by"]["rewards"] == {
        "surprise": 1
    }
    stamp = Path("output.mp4").stat().st_mtime_ns
    assert "already there" in command(*flags, "3")[2] and len(made) == 3
    assert Path("output.mp4").stat().st_mtime_ns == stamp


def test_the_scores_are_those_of_the_file(command: Guided, nano: Path) -> None:
    assert command(*T2V, *SHORT, "--best_of", "2", "--keep", "all")[0] == 0
    for line in candidates_in("output.candidates"):
        own = compute_vjepa_surprise(
            str(Path("output.candidates", line["path"])),
            model="tiny",
            stride=4,
            score="top",
            weights=str(nano / "world.safetensors"),
        )
        assert -line["scores"]["surprise"] == pytest.approx(float(own), abs=1e-4)  # type: ignore[arg-type]


def test_more_candidates_and_other_rewards(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, *SHORT, "--keep", "all", "--best_of")
    assert command(*flags, "2")[0] == 0
    first = candidates_in("output.candidates")
    assert command(*flags, "4")[0] == 0 and len(made) == 4
    assert candidates_in("output.candidates")[:2] == first
    # Other rewards: videos that were kept are judged, not made, again.
    mixed = ("--reward", "surprise", "consensus=0.5", "--combine", "rank")
    assert command(*flags, "4", *mixed)[0] == 0 and len(made) == 4
    assert len(candidates_in("output.candidates")) == 8
    scores = record_of("output")["search"]["candidates"][0]["scores"]
    assert set(scores) == {"surprise", "consensus"}
    # Fewer again, and another request: that one needs leave.
    assert command(*flags, "2")[0] == 0 and len(made) == 4
    other = ("--mode", "t2v", "--prompt", "a blue cube", *SHORT, "--best_of", "2")
    assert "made with other settings" in command.fails(*other)


def test_a_new_mix_of_finished_candidates_judges_nothing(
    command: Guided,
    made: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = (*T2V, *SHORT, "--keep", "all", "--best_of", "3")
    monkeypatch.setattr(compare, "DROWNED", 1)  # what spreads less does not count
    code, _, err = command(*flags, "--reward", "surprise", "consensus")
    assert code == 0 and len(made) == 3
    assert "note: the sum is decided by" in err and "--combine rank weighs them alike" in err

    def judged(*_: Any) -> Any:
        raise AssertionError("everything was judged")

    monkeypatch.setattr(LoadedSteering, "judge", judged)
    mixed = ("--reward", "consensus=3", "surprise", "--combine", "rank")
    code, _, err = command(*flags, *mixed)
    assert code == 0 and len(made) == 3 and "decided by" not in err
    rows = record_of("output")["search"]["candidates"]
    assert list(rows[0]["scores"]) == ["consensus", "surprise"]
    # The same from the records alone, also when the videos are gone.
    for video in Path("output.candidates").glob("*.mp4"):
        video.unlink()
    capsys.readouterr()
    records = ("--rescore", "output.candidates/candidates.jsonl", "--json")
    assert select(["--reward", "consensus=3", "surprise", "--combine", "rank", *records]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["candidates"] == rows


def test_a_killed_search_goes_on(command: Guided, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = (*T2V, *SHORT, "--guidance_scale", "0.05", "--best_of", "3", "--output_path")
    assert command(*flags, "whole.mp4")[0] == 0
    calls = 0

    def killed(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return make_candidates(*arguments, **options)

    monkeypatch.setattr(workshop, "make_candidates", killed)
    assert command(*flags, "torn.mp4")[0] == 130
    assert len(candidates_in("torn.candidates")) == 2 and not Path("torn.mp4").exists()
    assert command(*flags, "torn.mp4")[0] == 0 and calls == 4
    assert Path("torn.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    rows = [record_of(name)["search"]["candidates"] for name in ("whole", "torn")]
    assert rows[0] == rows[1]


def test_a_video_that_was_made_but_not_judged_is_not_made_again(
    command: Guided, made: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = LoadedSteering.judge

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoadedSteering, "judge", killed)
    assert command(*T2V, *SHORT, "--best_of", "2")[0] == 130
    monkeypatch.setattr(LoadedSteering, "judge", judge)
    assert command(*T2V, *SHORT, "--best_of", "2")[0] == 0
    assert made == [[1234], [1235]]


def test_only_the_best_are_kept(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, *SHORT, "--seeds", "3", "1", "2")
    assert command(*flags)[0] == 0
    videos = sorted(Path("output.candidates").glob("*.mp4"))
    assert [path.name for path in videos] == [
        record_of("output")["search"]["candidates"][0]["path"]
    ]
    assert len(candidates_in("output.candidates")) == 3
    videos[0].unlink()
    Path("output.mp4").unlink()
    assert command(*flags)[0] == 0 and made == [[3], [1], [2], [record_of("output")["seed"]]]


def test_candidates_at_once_are_those_one_by_one(command: Guided, made: list[list[int]]) -> None:
    three = ("--best_of", "3", "--guidance_scale", "0.05", "--save_latents", "--keep", "all")
    flags = (*T2V, *SHORT, *three, "--output_path")
    assert command(*flags, "one.mp4")[0] == 0
    assert command(*flags, "two.mp4", "--candidate_batch", "2")[0] == 0
    assert made == [[1234], [1235], [1236], [1234, 1235], [1236]]
    for line in candidates_in("one.candidates"):
        name = Path(line["path"]).stem
        one, two = (latents_of(f"{folder}.candidates/{name}") for folder in ("one", "two"))
        torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3)


def test_plain_guided_and_winner_side_by_side(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, *SHORT, "--guidance_scale", "0.05", "--best_of", "2", "--compare", "--plot")
    code, _, err = command(*flags)
    assert code == 0 and made == [[1234], [1235], [1234]]
    assert "plain (seed 1234): surprise" in err and "guided (seed 1234): surprise" in err
    assert "guidance acted on 2 steps" in err and Path("output.guidance.png").exists()
    record = record_of("output")
    said, last = record["search"]["compared"], err.strip().splitlines()[-1]
    assert last == sentence(tiny(), None, said["scores"], said["scores"])
    assert "plain, says tiny, which was asked for just that" in last and not said["independent"]
    columns = 2 + (record["seed"] != 1234)
    shown = probe("output.compare.mp4")
    assert shown.width == columns * (256 + 8) - 8 and shown.num_frames == 24
    plain = [line for line in candidates_in("output.candidates") if "guidance" not in line]
    assert len(plain) == 1
    Path("output.compare.mp4").unlink()
    assert command(*flags)[0] == 0 and Path("output.compare.mp4").exists()


@pytest.mark.filterwarnings("ignore:.*knows simulated balls")
def test_another_judge_says_which_is_more_plausible(
    command: Guided,
    made: list[list[int]],
    small_embedded: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unbidden the other embedded model, or who is named; nothing is made again for a judge."""
    monkeypatch.syspath_prepend(str(ROOT))
    steered = ("--guidance_scale", "0.05", "--best_of", "2", "--keep", "all")
    flags = (*T2V, *SHORT, *steered, "--compare", "--model", "tiny", "--stride", "4")
    own = "example.my_world_model:StraightOn"
    for judge, asked in (("referee", ()), (own, ("--judge", own))):
        code, _, err = command.plainly(*flags, *asked)
        assert code == 0 and len(made) == 3
        said, last = record_of("output")["search"]["compared"], err.strip().splitlines()[-1]
        assert said["independent"] and said["by"]["model"] == judge
        plain = [line for line in candidates_in("output.candidates") if "guidance" not in line]
        assert said["guiding_scores"]["plain"] == plain[0]["scores"] != said["scores"]["plain"]
        word = "agrees" if said["agrees"] else "disagrees"
        start = f"{judge}, which neither guided nor chose, {word} with tiny, which did: "
        assert last.startswith(start + verdict(said["scores"]))
        assert f"plain surprise {-said['scores']['plain']['surprise']:.6f}" in last
        if judge == "referee":
            assert said["by"]["weights"] == fingerprint_files([small_embedded["referee"]])
            alone = compute_vjepa_surprise(f"output.candidates/{plain[0]['path']}", judge)
            assert -said["scores"]["plain"]["surprise"] == pytest.approx(float(alone), abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "judge"),
    [
        ({}, "referee"),
        ({"model": "tiny"}, "referee"),
        ({"model": "referee"}, "tiny"),
        ({"reward": ["geometry"], "encoder": "tiny", "model": "vitl"}, "referee"),
        ({"reward": ["surprise", "geometry"], "encoder": "tiny", "model": "vitl"}, "referee"),
        ({"reward": ["surprise", "geometry"], "encoder": "referee"}, None),
        ({"model": "vitl"}, None),
        ({"model": "vitl", "judge": "tiny"}, "tiny"),
        ({"judge": "vitb21"}, "vitb21"),
        ({"weights": "own.safetensors"}, None),
        ({"compare": False}, None),
    ],
)
def test_an_embedded_model_is_judged_by_the_other(flags: dict[str, Any], judge: str | None) -> None:
    values = {**VALUES, "compare": True, "device": "cpu", **flags}
    found = other_judge(values, tiny(**flags))
    assert (None if found is None else found.model.name) == judge
    assert found is None or (found.model.is_embedded == (judge != "vitb21"))
    assert found is None or found.config == SurpriseConfig()


def test_the_unbidden_judge_needs_no_longer_videos() -> None:
    values = {**VALUES, "compare": True, "device": "cpu"}
    for long, sizes in ((24, (16, 8)), (8, (8, 4))):
        windows = {"window_size": long, "context_frames": long // 2}
        found = other_judge(values, rewards := tiny(**windows))
        assert found is not None and found.min_frames <= rewards.min_frames
        assert (found.config.window_size, found.config.context_frames) == sizes


def test_an_embedded_judge_of_another_generator_is_told_of() -> None:
    judge = other_judge({**VALUES, "compare": True, "device": "cpu"}, tiny())
    assert foreign("tiny", tiny(), judge) == [] == foreign("4.5B", tiny(model="vitl"), None)
    (both,) = foreign("4.5B", tiny(), judge)
    assert both.startswith("tiny and referee know simulated balls and boxes only: their verdict")
    (one,) = foreign("4.5B", tiny(), None)
    assert (
        one.startswith("tiny knows simulated balls and boxes only: its verdict") and "4.5B" in one
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--compare",), "--compare has nothing to compare with: this video is not guided"),
        (("--best_of", "2", "--judge", "vitb21"), "--judge is asked about what --compare shows"),
        (("--best_of", "2", "--compare", "--judge", "tiny"), "--judge tiny guides or chooses here"),
        (("--best_of", "2", "--compare", "--judge", "vitgac"), "it cannot judge videos"),
        (("--best_of", "2", "--compare", "--judge", "tinny"), "tinny"),
    ],
)
def test_what_cannot_be_compared(command: Guided, flags: tuple[str, ...], says: str) -> None:
    assert says in command.fails(*T2V, *SHORT, *flags)
    assert not list(Path().iterdir())


def test_the_sentence_of_a_comparison() -> None:
    plain, better, worse = (
        {"surprise": -s, "bright": b} for s, b in ((0.5, 1), (0.4, 2), (0.6, 0))
    )
    mixed = {"surprise": -0.4, "bright": 0.0}
    for others, says in (
        ({"guided": better, "winner": better}, "guided and winner are more plausible than plain"),
        (
            {"guided": worse, "winner": better},
            "guided is less plausible than plain, winner is more plausible than plain",
        ),
        ({"guided": mixed}, "guided is neither more nor less plausible than plain"),
        ({"guided": plain}, "guided is neither more nor less plausible than plain"),
        ({}, "the plain video is the winner itself, so nothing stands beside it"),
    ):
        assert verdict({"plain": plain, **others}) == says


def test_a_judge_that_disagrees_says_so() -> None:
    rewards = tiny()
    judge = other_judge({**VALUES, "compare": True, "device": "cpu"}, rewards)
    own, same, less = (
        {name: {"surprise": -s} for name, s in zip(("plain", "guided", "winner"), row, strict=True)}
        for row in ((0.5, 0.4, 0.3), (0.2, 0.19, 0.18), (0.2, 0.25, 0.18))
    )
    both = "guided and winner are more plausible than plain"
    mixed = "guided is less plausible than plain, winner is more plausible than plain"
    assert sentence(rewards, judge, own, same) == (
        f"referee, which neither guided nor chose, agrees with tiny, which did: {both} (plain surprise "
        "0.200000, guided surprise 0.190000, winner surprise 0.180000)"
    )
    assert sentence(rewards, judge, own, less) == (
        f"referee, which neither guided nor chose, disagrees with tiny, which did: {mixed} (plain surprise "
        f"0.200000, guided surprise 0.250000, winner surprise 0.180000), but tiny says that {both}"
    )
    alone = {"plain": own["plain"]}
    for who in (None, judge):
        assert sentence(rewards, who, alone, alone) == verdict(alone)


def test_continued_videos_are_judged_with_what_they_continue(
    command: Guided, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    write_video(tmp_path / "given.mp4", rng.integers(0, 256, (40, 16, 16, 3), np.uint8), 24)
    write_png(tmp_path / "given.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    lengths = []
    judge = LoadedSteering.judge

    def noted(self: LoadedSteering, video: Tensor, facts: Any, only: Any) -> Any:
        lengths.append((facts.given, video.shape[1]))
        return judge(self, video, facts, only)

    monkeypatch.setattr(LoadedSteering, "judge", noted)
    several = ("--best_of", "2", "--candidate_batch", "2", "--num_steps", "4", "--num_frames", "16")
    video = ("--mode", "v2v", "--init_video", "given.mp4", "--output_path", "v.mp4")
    one_stride = ("--reward", "surprise", "--guidance_scale", "0.05")
    assert command(*video, *several, *one_stride)[0] == 0
    assert lengths == [(12, 12 + record_of("v")["frames"])] * 2
    image = ("--mode", "i2v", "--init_image", "given.png", "--output_path", "i.mp4")
    assert command(*image, *several)[0] == 0
    assert lengths[2:] == [(0, record_of("i")["frames"])] * 2
    seam = ("--reward", "seam", "--overwrite", "--output_path", "s.mp4")
    assert command(*video[:-2], *several, *seam)[0] == 0
    scores = [line["scores"]["seam"] for line in candidates_in("s.candidates")]
    parts = [line["parts"] for line in candidates_in("s.candidates")]
    assert all(a != -part["seam.plain"] for a, part in zip(scores, parts, strict=True))
    lengths.clear()  # by default windows reach three times as far back
    assert command(*video[:-2], *several, "--overwrite", "--output_path", "d.mp4")[0] == 0
    assert lengths == [(32, 32 + record_of("d")["frames"])] * 2


# --- particles ----------------------------------------------------------------------------------------


def test_particles_descend_from_the_promising(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, "--num_frames", "48", "--best_of", "4", "--search", "particles")
    sharp = ("--particle_beta", "1e4", "--particle_every", "1", "--particle_range", "0.02", "0.4")
    code, _, err = command(*flags, *sharp, "--keep", "all")
    assert code == 0, err
    assert made == [[1234, 1235, 1236, 1237]]
    record = record_of("output")
    steps = record["particles"]["steps"]
    assert any(step["ancestors"] for step in steps) and len(steps[0]["rewards"]) == 4
    assert len(set(record["particles"]["lineage"])) < 4
    lines = candidates_in("output.candidates")
    assert {line["seed"] for line in lines} == set(made[0]) and lines[0]["lineage"]
    digests = {line["video_sha256"] for line in lines}
    assert len(digests) == 4  # copies part ways
    assert command(*flags, *sharp, "--keep", "all")[0] == 0 and len(made) == 1


def test_particles_are_guided_too(command: Guided) -> None:
    flags = ("--best_of", "2", "--search", "particles", "--guidance_scale", "0.05")
    code, _, err = command(*T2V, *SHORT, *flags)
    assert (
        code == 0 and "particles were looked at no time" in err
    )  # every 4th step of 4, from 0.2 on
    code, _, err = command(*T2V, *SHORT, *flags, "--particle_every", "1", "--overwrite")
    assert code == 0 and "particles were looked at 1 times" in err
    record = record_of("output")
    assert len(record["guidance"]["steps"]) == 2 and record["particles"]["steps"]
    assert set(record["settings"]) >= {"guidance", "particles", "reward"}


# --- several processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_two_processes_search(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """Each makes candidates of its own, or both make each one together."""
    monkeypatch.chdir(ROOT)  # where the reward lies
    steady = ("--reward", "example.my_reward:Steady", "--guidance_scale", "0.05", "--keep", "all")
    every = (*T2V, *SHORT, *steady, "--best_of", "3", "--output_path")
    config = nano / "nano.json"
    assert main(["--config_file", str(config), *every, str(tmp_path / "one.mp4")]) == 0
    shared = ("--cp_size", "2") if together else ()
    words = ("--config_file", config, "--device", "cpu", *every, tmp_path / "two.mp4", *shared)
    ended = Started("wmreward.generation.cli", words, ROOT, ranks=2, streams=tmp_path).end()
    assert ended.code == 0, ended.err[-3000:]
    rows = [
        json.loads((tmp_path / f"{name}.json").read_text())["search"]["candidates"]
        for name in ("one", "two")
    ]
    one, two = ({row["path"]: row["total"] for row in part} for part in rows)
    assert one == pytest.approx(two, abs=1e-4)
    assert not list((tmp_path / "two.candidates").glob("*.rank*"))
    if not together:
        assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
