"""Guided and searched generation from the command line, with a nano generator and a nano world model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import write_weights
from fakes import NANO
from generate_fixtures import ROOT, T2V, CommandLine, script
from magi1_fakes import nano_config, write_nano
from safetensors.torch import load_file
from torch import Tensor

import vjepa2.config
from generation import candidate, search_run
from generation.candidate import make_candidates
from generation.cli import main
from generation.job import configuration
from generation.output import Output
from generation.plot import plot_guidance
from generation.side_by_side import write_side_by_side
from generation.steering import LoadedSteering, steering_from
from magi1.pipeline import Pipeline, Request
from wmreward import models
from wmreward.errors import UsageError
from wmreward.protocols import RewardScores
from wmreward.scorer import SurpriseScorer
from wmreward.video_io import probe, read_frames, write_png, write_video

SHORT = ("--num_frames", "24", "--num_steps", "4")
"""One chunk, four steps."""


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with both nano models and the generator's configuration."""
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    write_weights(folder / "world.safetensors", NANO)
    return folder


@pytest.fixture
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an image and a video."""
    folder = tmp_path_factory.mktemp("inputs")
    frames = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    write_png(folder / "image.png", frames[0])
    write_video(folder / "video.mp4", frames, 24)
    return folder


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small model in the place of `tiny`."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", replace(NANO, name="tiny"))
    yield
    models.load.cache_clear()


class Guided(CommandLine):
    """With the nano world model as the reward's."""

    def __call__(self, *flags: str) -> tuple[int, str, str]:
        weights = str(Path(self.config).parent / "world.safetensors")
        model = ("--reward_model", "tiny", "--reward_weights", weights, "--reward_stride", "4")
        return super().__call__(*model, *flags)


@pytest.fixture
def command(
    nano: Path,
    small_world: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Guided:
    monkeypatch.chdir(tmp_path)
    return Guided(nano, capsys)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Seeds of every batch that is generated, as it happens."""
    batches: list[list[int]] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        batches.append(list(options["seeds"]))
        return make_candidates(*arguments, **options)

    monkeypatch.setattr(search_run, "make_candidates", noted)
    return batches


def record_of(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(f"{name}.json").read_text())
    return record


def latents_of(name: str) -> Tensor:
    return load_file(f"{name}.safetensors")["latents"]


def candidates_in(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "candidates.jsonl").read_text().splitlines()]


# --- guidance -----------------------------------------------------------------------------------------


def test_guidance_acts_and_says_so(command: Guided) -> None:
    flags = (*T2V, *SHORT, "--save_latents", "--output_path")
    assert command(*flags, "plain.mp4")[0] == 0
    code, _, err = command(*flags, "guided.mp4", "--guidance_scale", "0.05", "--guidance_null")
    assert code == 0 and "guidance acted on 2 steps, changed the velocity by 5 %" in err
    assert "random directions of the same size" in err
    guided, plain = record_of("guided")["guidance"], record_of("plain")
    assert len(guided["steps"]) == 2 and guided["effect"]["steps"] == 2
    assert guided["effect"]["gain"] > 0 and guided["effect"]["null_gain"] is not None
    assert all(step["after"] > step["before"] for step in guided["steps"])
    assert "guidance" not in plain and "guidance" not in plain["settings"]
    assert not torch.equal(latents_of("plain"), latents_of("guided"))


def test_what_is_continued_is_guided_unless_told_otherwise(command: Guided, inputs: Path) -> None:
    video = ("--mode", "v2v", "--init_video", str(inputs / "video.mp4"), "--num_frames", "24")
    image = ("--mode", "i2v", "--init_image", str(inputs / "image.png"), "--num_frames", "24")
    short = ("--num_steps", "4", "--output_path")
    for name, flags in (("v", video), ("i", image)):
        assert command(*flags, *short, f"{name}.mp4")[0] == 0
        settings = record_of(name)["settings"]
        assert set(settings["guidance"]["schedule"]["scales"]) == {0.15}
        assert settings["guidance"]["keep"] == "edges" and settings["reward"]["score"] == "top"
        assert record_of(name)["guidance"]["steps"]
    consensus = ("--best_of", "2", "--reward", "consensus")
    for name, flags in (
        ("off", (*video, "--guidance_scale", "0")),
        ("text", (*T2V, *SHORT)),
        ("set", (*video, *consensus)),
    ):
        assert command(*flags, *short, f"{name}.mp4")[0] == 0
        assert "guidance" not in record_of(name)["settings"]


def test_who_has_no_world_model_learns_how_to_go_without(command: Guided, inputs: Path) -> None:
    video = ("--mode", "v2v", "--init_video", str(inputs / "video.mp4"), "--output_path", "v.mp4")
    code, _, err = command(*video, "--reward_weights", "none.safetensors")
    assert code == 1 and "none.safetensors" in err and "--guidance_scale 0 generates without" in err
    code, _, err = command(*video, "--reward_weights", "none.safetensors", "--best_of", "2")
    assert code == 1 and "generates without" not in err


def test_guidance_acts_in_the_middle_unless_steps_are_listed(command: Guided) -> None:
    asked = {
        ("--guidance_scale", "0.05"): [0.05, 0.6],
        ("--guidance_scales", "0.05x4"): [0, 1],
        ("--guidance_scale", "0.05", "--guidance_steps", "1x4"): [0, 1],
        ("--guidance_scale", "0.05", "--guidance_range", "0", "0.2"): [0, 0.2],
    }
    for flags, times in asked.items():
        assert command(*T2V, *SHORT, *flags, "--overwrite")[0] == 0
        record = record_of("output")
        assert record["settings"]["guidance"]["schedule"]["times"] == times
        guided = [step["times"][0] for step in record["guidance"]["steps"]]
        assert guided and all(times[0] <= time <= times[1] for time in guided)
        assert (0 in guided) == (times[0] == 0)


def test_scale_zero_is_plain_generation_to_the_bit(command: Guided) -> None:
    flags = (*T2V, *SHORT, "--save_latents", "--output_path")
    assert command(*flags, "plain.mp4")[0] == 0
    zero = ("--guidance_scale", "0", "--guidance_through", "dit", "--guidance_repeats", "3")
    assert command(*flags, "zero.mp4", *zero)[0] == 0
    assert torch.equal(latents_of("plain"), latents_of("zero"))
    assert Path("plain.mp4").read_bytes() == Path("zero.mp4").read_bytes()
    assert record_of("plain")["settings_id"] == record_of("zero")["settings_id"]


def test_flags_reach_the_guidance(command: Guided) -> None:
    flags = ("--guidance_scales", "0.01,0.02x3", "--guidance_steps", "0x1,1x3")
    more = (
        "--guidance_range",
        "0.1",
        "0.9",
        "--guidance_through",
        "dit",
        "--guidance_rule",
        "tilt",
    )
    last = ("--guidance_repeats", "2", "--context_grad", "--score", "relative", "--plot")
    code, _, err = command(*T2V, *SHORT, *flags, *more, *last)
    assert code == 0, err
    settings = record_of("output")["settings"]
    guidance = settings["guidance"]
    assert guidance["schedule"] == {"scales": [0.0, 0.02, 0.02, 0.02], "times": [0.1, 0.9]}
    assert (guidance["through"], guidance["rule"], guidance["repeats"]) == ("dit", "tilt", 2)
    assert guidance["context_grad"] is True and guidance["context_frames"] == 12
    assert settings["reward"]["score"] == "relative" and settings["reward"]["stride"] == 4
    times = [step["times"][0] for step in record_of("output")["guidance"]["steps"]]
    assert times and all(0.1 <= time <= 0.9 for time in times)
    assert probe("output.guidance.png").width > 300 and "wrote output.guidance.png" in err


def test_a_guided_run_that_was_killed_goes_on_as_if_it_had_not_been(
    command: Guided, monkeypatch: pytest.MonkeyPatch
) -> None:
    null = ("--guidance_null", "--guidance_scale", "0.05")
    flags = (
        *T2V,
        "--num_steps",
        "4",
        "--num_frames",
        "72",
        "--save_latents",
        *null,
        "--output_path",
    )
    assert command(*flags, "whole.mp4")[0] == 0
    save = Output.save_state

    def killed(self: Output, *arguments: Any) -> None:
        save(self, *arguments)
        if self.path.name == "torn.mp4":
            raise KeyboardInterrupt

    monkeypatch.setattr(Output, "save_state", killed)
    assert command(*flags, "torn.mp4")[0] == 130
    monkeypatch.setattr(Output, "save_state", save)
    code, _, err = command(*flags, "torn.mp4")
    assert code == 0 and "going on after 1 finished chunks" in err
    assert torch.equal(latents_of("whole"), latents_of("torn"))
    told = [record_of(name)["guidance"]["steps"] for name in ("whole", "torn")]
    for one, two in zip(*told, strict=True):
        assert one | {"seconds": 0} == two | {"seconds": 0}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--guidance_scales", "0.1x3"), "is for 3 steps, but the sampler takes 8"),
        (("--guidance_steps", "1x9"), "is for 9 steps"),
        (("--guidance_scale", "-1"), "must not be negative"),
        (("--guidance_scale", "1", "--guidance_range", "0.9", "0.1"), "must rise within"),
        (("--guidance_scale", "1", "--guidance_repeats", "0"), "repeats=0"),
        (("--guidance_scale", "1", "--reward", "consensus"), "it cannot guide"),
        (
            ("--guidance_scale", "1", "--reward_window_size", "64"),
            "has 48 frames, but the reward needs 64",
        ),
        (
            ("--guidance_scale", "1", "--reward_mode", "topk9"),
            "has 48 frames, but the reward needs 48",
        ),
        (("--guidance_scale", "1", "--reward_mode", "best"), "unknown mode 'best'"),
        (("--guidance_scale", "1", "--reward_model", "vitx"), "vitx"),
        (("--guidance_scale", "1", "--reward_model", "vitgac"), "needs actions"),
        (
            ("--guidance_scale", "1", "--reward_context_frames", "16"),
            "must be at least 1 and below",
        ),
        (("--plot",), "--plot draws what guidance does"),
        (("--best_of", "0"), "best_of=0"),
        (("--best_of", "3", "--seeds", "1", "2"), "--best_of 3 with 2 --seeds"),
        (("--seeds", "1", "1"), "a seed of its own"),
        (("--seeds", "1", "2", "--seed", "3"), "leave out one"),
        (("--best_of", "2", "--keep", "none"), "--keep none must be"),
        (("--best_of", "2", "--candidate_batch", "0"), "candidate_batch=0"),
        (("--best_of", "2", "--preview"), "--preview shows a single video"),
        (("--best_of", "2", "--reward", "beauty"), "unknown reward 'beauty'"),
        (("--search", "particles", "--particle_churn", "3"), "churn=3.0"),
        (("--search", "particles", "--reward", "consensus"), "it cannot weigh particles"),
    ],
)
def test_wrong_steering(command: Guided, flags: tuple[str, ...], says: str) -> None:
    if "topk9" in flags:
        flags = (*flags, "--num_frames", "24")
        says = "has 24 frames, but the reward needs 48"
    assert says in command.fails(*T2V, *flags)
    assert not list(Path().iterdir())


def test_missing_world_model(command: Guided) -> None:
    flags = ("--guidance_scale", "1", "--reward_weights", "none.safetensors")
    assert "none.safetensors does not exist" in command.fails(*T2V, *flags, code=1)


def test_the_default_world_model(nano: Path) -> None:
    """The small generator comes with its own; everything else is judged by the paper's."""
    from generation.flags import build_parser

    values = build_parser().defaults | {
        "guidance_scale": 0.1,
        "config_file": str(nano / "nano.json"),
    }
    config = configuration(values)
    chosen = steering_from(values, config, judges=False).rewards
    assert chosen is not None and chosen.model.name == "vitg"
    small = replace(config, model_config=replace(config.model_config, model_name="tiny"))
    chosen = steering_from(values, small, judges=False).rewards
    assert chosen is not None and chosen.model.name == "tiny"


# --- memory -------------------------------------------------------------------------------------------


def test_memory_is_given_up_in_order_and_once(
    nano: Path, small_world: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from generation.flags import build_parser

    values = build_parser().defaults | {
        "guidance_scale": 0.05,
        "config_file": str(nano / "nano.json"),
        "reward_model": "tiny",
        "reward_weights": str(nano / "world.safetensors"),
        "num_frames": 24,
        "num_steps": 4,
    }
    config = configuration(values)
    pipeline = Pipeline(config)
    steering = LoadedSteering(steering_from(values, config, judges=False), pipeline, alone=True)
    prepared = pipeline.prepare(Request(prompt="a ball"))

    def latents() -> Tensor:
        (chunk,) = pipeline.sample(prepared, seed=1, guide=steering.guidance())
        return chunk.finished.latents

    before = latents()
    score, failures = SurpriseScorer.score_and_gradient, 3

    def full(self: SurpriseScorer, video: Tensor) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, video)

    monkeypatch.setattr(SurpriseScorer, "score_and_gradient", full)
    torch.testing.assert_close(latents(), before, atol=1e-5, rtol=1e-5)
    warned = [record.message.partition(": ")[2] for record in caplog.records]
    assert [words.split()[0] for words in warned] == ["windows", "tiles", "the"]
    assert pipeline.tile_map.keywords == {"batch": 1}  # type: ignore[attr-defined]
    caplog.clear()
    failures = 0
    torch.testing.assert_close(latents(), before, atol=1e-5, rtol=1e-5)
    assert not caplog.records and not steering.guidance().reliefs  # type: ignore[union-attr]
    shared = LoadedSteering(steering.steering, pipeline, alone=False)
    assert not shared.guidance().reliefs  # type: ignore[union-attr]


# --- best of N ----------------------------------------------------------------------------------------


def test_the_best_candidate_is_the_output(command: Guided, made: list[list[int]]) -> None:
    flags = (*T2V, *SHORT, "--seed", "5", "--keep", "all", "--save_latents", "--best_of")
    code, out, err = command(*flags, "3")
    assert code == 0 and made == [[5], [6], [7]] and "output.mp4: 24 frames" in out
    assert "the choice among 3 raised the total by" in err and "wrote output.candidates.png" in err
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
    from wmreward.reward import compute_vjepa_surprise

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

    monkeypatch.setattr(search_run, "make_candidates", killed)
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
    columns = 2 + (record_of("output")["seed"] != 1234)
    shown = probe("output.compare.mp4")
    assert shown.width == columns * (192 + 6) - 6 and shown.num_frames == 24
    plain = [line for line in candidates_in("output.candidates") if "guidance" not in line]
    assert len(plain) == 1
    Path("output.compare.mp4").unlink()
    assert command(*flags)[0] == 0 and Path("output.compare.mp4").exists()


def test_continued_videos_are_judged_with_what_they_continue(
    command: Guided, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    write_video(tmp_path / "given.mp4", rng.integers(0, 256, (40, 16, 16, 3), np.uint8), 24)
    write_png(tmp_path / "given.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    lengths = []
    judge = LoadedSteering.judge

    def noted(self: LoadedSteering, video: Tensor, given: int) -> Any:
        lengths.append((given, video.shape[1]))
        return judge(self, video, given)

    monkeypatch.setattr(LoadedSteering, "judge", noted)
    several = ("--best_of", "2", "--candidate_batch", "2", "--num_steps", "4", "--num_frames", "16")
    video = ("--mode", "v2v", "--init_video", "given.mp4", "--output_path", "v.mp4")
    assert command(*video, *several, "--guidance_scale", "0.05")[0] == 0
    assert lengths == [(12, 12 + record_of("v")["frames"])] * 2
    image = ("--mode", "i2v", "--init_image", "given.png", "--output_path", "i.mp4")
    assert command(*image, *several)[0] == 0
    assert lengths[2:] == [(0, record_of("i")["frames"])] * 2
    seam = ("--reward", "seam", "--overwrite", "--output_path", "s.mp4")
    assert command(*video[:-2], *several, *seam)[0] == 0
    scores = [line["scores"]["seam"] for line in candidates_in("s.candidates")]
    parts = [line["parts"] for line in candidates_in("s.candidates")]
    assert all(a != -part["seam.plain"] for a, part in zip(scores, parts, strict=True))


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
    run = script(tmp_path, config, *every, "two.mp4", *shared, processes=2)
    _, err = run.communicate(timeout=200)
    assert run.returncode == 0, err[-3000:]
    rows = [
        json.loads((tmp_path / f"{name}.json").read_text())["search"]["candidates"]
        for name in ("one", "two")
    ]
    one, two = ({row["path"]: row["total"] for row in part} for part in rows)
    assert one == pytest.approx(two, abs=1e-4)
    assert not list((tmp_path / "two.candidates").glob("*.rank*"))
    if not together:
        assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


# --- parts --------------------------------------------------------------------------------------------


def test_side_by_side_needs_one_size(tmp_path: Path) -> None:
    def grey(value: int, count: int, side: int = 16) -> np.ndarray[Any, Any]:
        return np.full((count, side, side, 3), value, np.uint8)

    write_side_by_side(tmp_path / "a.mp4", {"plain": grey(50, 3), "guided": grey(200, 5)}, 8)
    last = read_frames(tmp_path / "a.mp4", [4])[0]
    assert abs(int(last[-20, 20, 0]) - 50) < 6 and abs(int(last[-20, -20, 0]) - 200) < 6
    with pytest.raises(UsageError, match="one size"):
        write_side_by_side(tmp_path / "b.mp4", {"a": grey(0, 3), "b": grey(0, 3, 32)}, 8)
    with pytest.raises(UsageError, match="no step"):
        plot_guidance(tmp_path / "c.png", [], "none")


def test_a_candidate_for_batch_runners(nano: Path, tmp_path: Path) -> None:
    """The function that other runners call: a record comes back as it stands beside the video."""
    pipeline = Pipeline(nano_config(nano, num_frames=24, num_steps=4))
    output = Output(tmp_path / "x.mp4", {"seed": 3, "prompt": "a ball"})
    prepared = pipeline.prepare(Request(prompt="a ball"))
    record = candidate.make_candidate(pipeline, prepared, output, seed=3)
    assert json.loads(output.record_path.read_text()) == json.loads(json.dumps(record))
    assert record["seed"] == 3 and record["settings_id"] == output.settings_id
    assert output.record() == json.loads(json.dumps(record))
    silent = Output(tmp_path / "y.mp4", {"seed": 3})
    same = candidate.make_candidate(
        pipeline, prepared, silent, seed=3, making=candidate.Making(writes=False)
    )
    assert same["frames"] == record["frames"] and sorted(tmp_path.iterdir()) == [
        tmp_path / "x.json",
        tmp_path / "x.mp4",
    ]


def test_a_reward_of_half_precision_videos(nano: Path) -> None:
    """Decoders may work in half precision, in which no reward should judge."""
    pipeline = Pipeline(nano_config(nano, num_frames=24, num_steps=4), dtype=torch.bfloat16)
    from wmreward.guidance import Guidance, GuidanceConfig
    from wmreward.guidance_schedule import GuidanceSchedule

    def reward(videos: Tensor) -> RewardScores:
        assert videos.dtype == torch.float32
        return RewardScores(videos.square().mean(dim=(1, 2, 3, 4)), {})

    guidance = Guidance(reward, GuidanceConfig(schedule=GuidanceSchedule.make(4, scale=0.05)))
    list(pipeline.sample(pipeline.prepare(Request(prompt="")), guide=guidance))
    assert len(guidance.records) == 4
