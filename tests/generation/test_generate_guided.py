"""Guided generation from the command line, with a nano generator and a nano world model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import guided_fixtures
import numpy as np
import pytest
import torch
from generate_fixtures import T2V
from guided_fixtures import SHORT, Guided, latents_of, record_of
from magi1_fakes import nano_config
from torch import Tensor
from torch import distributed as dist

from magi1.pipeline import Pipeline, Request
from wmreward.errors import UsageError
from wmreward.generation.configured import configuration
from wmreward.generation.output import Output
from wmreward.generation.search import candidate
from wmreward.generation.steering import LoadedSteering, steering_from
from wmreward.pictures.guidance_plot import plot_guidance
from wmreward.pictures.side_by_side import Side, write_side_by_side
from wmreward.protocols import RewardScores
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.video_io import probe, read_frames

nano = guided_fixtures.nano
inputs = guided_fixtures.inputs
small_world = guided_fixtures.small_world
command = guided_fixtures.command


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
    assert command(*video, "--num_steps", "12", "--output_path", "v.mp4")[0] == 0
    settings = record_of("v")["settings"]
    assert settings["guidance"]["schedule"] == {"scales": [0.5, 0.0] * 6, "times": [0.05, 0.4]}
    assert settings["guidance"]["keep"] == "edges" and settings["reward"]["score"] == "top"
    assert settings["reward"]["rewards"] == {"seam": 1.0}
    assert settings["reward"]["frame_strides"] == [1, 2, 3]
    assert record_of("v")["guidance"]["steps"]
    for name, flag, scales, rewards in (  # what is asked for stands alone
        ("scale", ("--guidance_scale", "0.1"), [0.1] * 4, {"seam": 1.0}),
        ("range", ("--guidance_range", "0", "0.5"), [0.15] * 4, {"seam": 1.0}),
        ("reward", ("--reward", "surprise"), [0.5, 0.0] * 2, {"surprise": 1.0}),
    ):
        assert command(*video, *flag, *short, f"{name}.mp4")[0] == 0
        settings = record_of(name)["settings"]
        assert settings["guidance"]["schedule"]["scales"] == scales
        assert settings["reward"]["rewards"] == rewards
        assert ("frame_strides" in settings["reward"]) == ("seam" in rewards)
    consensus = ("--best_of", "2", "--reward", "consensus")
    for name, flags in (
        ("image", image),
        ("off", (*video, "--guidance_scale", "0")),
        ("text", (*T2V, *SHORT)),
        ("set", (*video, *consensus)),
        ("own", (*video, "--reward", "example.my_reward:Steady")),
    ):
        assert command(*flags, *short, f"{name}.mp4")[0] == 0
        assert "guidance" not in record_of(name)["settings"]


def test_who_has_no_world_model_learns_how_to_go_without(command: Guided, inputs: Path) -> None:
    video = ("--mode", "v2v", "--init_video", str(inputs / "video.mp4"), "--output_path", "v.mp4")
    code, _, err = command(*video, "--weights", "none.safetensors")
    assert code == 1 and "none.safetensors" in err and "--guidance_scale 0 generates without" in err
    code, _, err = command(*video, "--weights", "none.safetensors", "--best_of", "2")
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
        (("--guidance_scale", "-1"), "--guidance_scale must be a number from 0"),
        (("--guidance_scale", "1", "--guidance_range", "0.9", "0.1"), "must rise within"),
        (("--guidance_scale", "1", "--guidance_repeats", "0"), "--guidance_repeats must be"),
        (("--guidance_scale", "1", "--reward", "consensus"), "it cannot guide"),
        (
            ("--guidance_scale", "1", "--reward_window_size", "64"),
            "has 48 frames, but the reward needs 64",
        ),
        (
            ("--guidance_scale", "1", "--reward_mode", "topk9"),
            "has 48 frames, but the reward needs 48",
        ),
        (("--guidance_scale", "1", "--reward_mode", "best"), "--aggregate must be mean"),
        (("--guidance_scale", "1", "--model", "vitx"), "vitx"),
        (("--guidance_scale", "1", "--model", "vitgac"), "needs actions"),
        (
            ("--guidance_scale", "1", "--reward_context_frames", "16"),
            "must be at least 1 and below",
        ),
        (("--window_size", "1"), "--window_size must be a whole number from 2"),
        (("--window_size", "4"), "chunks in flight: --chunks_at_once"),
        (("--plot",), "--plot draws what guidance does"),
        (("--best_of", "0"), "--best_of must be"),
        (("--best_of", "3", "--seeds", "1", "2"), "--best_of 3 with 2 --seeds"),
        (("--seeds", "1", "1"), "a seed of its own"),
        (("--seeds", "1", "2", "--seed", "3"), "leave out one"),
        (("--best_of", "2", "--keep", "none"), "--keep none must be"),
        (("--best_of", "2", "--candidate_batch", "0"), "--candidate_batch must be"),
        (("--best_of", "2", "--preview"), "--preview shows a single video"),
        (("--best_of", "2", "--reward", "beauty"), "unknown reward 'beauty'"),
        (
            ("--search", "particles", "--particle_churn", "3"),
            "--particle_churn must be a number from 0 to 1",
        ),
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
    flags = ("--guidance_scale", "1", "--weights", "none.safetensors")
    assert "none.safetensors does not exist" in command.fails(*T2V, *flags, code=1)


def test_the_default_world_model(nano: Path) -> None:
    """The small generator comes with its own; everything else is judged by the paper's."""
    from wmreward.generation.flags import build_parser

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


@pytest.mark.parametrize("flag", ["guidance_measure", "plot", "json"])
def test_what_steps_did_is_measured_when_asked_for(nano: Path, flag: str) -> None:
    from wmreward.generation.flags import build_parser

    values = build_parser().defaults | {
        "guidance_scale": 0.1,
        "config_file": str(nano / "nano.json"),
        flag: True,
    }
    guidance = steering_from(values, configuration(values), judges=False).guidance
    assert guidance is not None and guidance.measure == (flag != "json")


# --- memory -------------------------------------------------------------------------------------------


def test_memory_is_given_up_in_order_and_once(
    nano: Path,
    small_world: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    from wmreward.generation.flags import build_parser

    values = build_parser().defaults | {
        "guidance_scale": 0.05,
        "config_file": str(nano / "nano.json"),
        "model": "tiny",
        "weights": str(nano / "world.safetensors"),
        "num_frames": 24,
        "num_steps": 4,
    }
    config = configuration(values)
    pipeline = Pipeline(config)
    steering = LoadedSteering(steering_from(values, config, judges=False), pipeline)
    prepared = pipeline.prepare(Request(prompt="a ball"))

    def latents() -> Tensor:
        (chunk,) = pipeline.sample(prepared, seed=1, guide=steering.guidance())
        return chunk.finished.latents

    before = latents()
    score, failures = SurpriseScorer.score_and_gradient, 3

    def full(self: SurpriseScorer, video: Tensor, *windows: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, video, *windows)

    monkeypatch.setattr(SurpriseScorer, "score_and_gradient", full)
    torch.testing.assert_close(latents(), before, atol=1e-5, rtol=1e-5)
    warned = [record.message.partition(": ")[2] for record in caplog.records]
    assert [words.split()[0] for words in warned] == ["windows", "tiles", "the"]
    assert pipeline.tile_map.keywords == {"batch": 1}  # type: ignore[attr-defined]
    caplog.clear()
    failures = 0
    torch.testing.assert_close(latents(), before, atol=1e-5, rtol=1e-5)
    assert not caplog.records and not steering.guidance().reliefs  # type: ignore[union-attr]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/a", rank=0, world_size=1)
    try:
        shared = LoadedSteering(steering.steering, pipeline, dist.group.WORLD)
        assert not shared.guidance().reliefs  # type: ignore[union-attr]
        torch.testing.assert_close(
            next(pipeline.sample(prepared, seed=1, guide=shared.guidance())).finished.latents,
            before,
            atol=1e-5,
            rtol=1e-5,
        )
    finally:
        dist.destroy_process_group()


# --- parts --------------------------------------------------------------------------------------------


def test_side_by_side_needs_one_size(tmp_path: Path) -> None:
    def grey(value: int, count: int, side: int = 16) -> np.ndarray[Any, Any]:
        return np.full((count, side, side, 3), value, np.uint8)

    sides = [Side("plain", grey(50, 3)), Side("guided", grey(200, 5), "seed 0", wins=True)]
    write_side_by_side(tmp_path / "a.mp4", sides, 8, given=2)
    first, last = read_frames(tmp_path / "a.mp4", [0, 4])
    assert abs(int(last[-20, 20, 0]) - 50) < 6 and abs(int(last[-20, -20, 0]) - 200) < 6
    # Given frames have a blue line above them.
    assert (np.ptp(first.astype(int), axis=-1) > 60).sum() > (
        np.ptp(last.astype(int), axis=-1) > 60
    ).sum() + 500
    with pytest.raises(UsageError, match="one size"):
        write_side_by_side(
            tmp_path / "b.mp4", [Side("a", grey(0, 3)), Side("b", grey(0, 3, 32))], 8
        )
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
    from wmreward.steering.guidance import Guidance, GuidanceConfig
    from wmreward.steering.schedule import GuidanceSchedule

    def reward(videos: Tensor) -> RewardScores:
        assert videos.dtype == torch.float32
        return RewardScores(videos.square().mean(dim=(1, 2, 3, 4)), {})

    guidance = Guidance(reward, GuidanceConfig(schedule=GuidanceSchedule.make(4, scale=0.05)))
    list(pipeline.sample(pipeline.prepare(Request(prompt="")), guide=guidance))
    assert len(guidance.records) == 4
