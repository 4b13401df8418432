"""From flags to rewards: which models they need, what is refused early, what is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from wmreward.errors import UsageError
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.vlm import PHYSICS
from wmreward.select.cli import build_parser


def chosen(*flags: str) -> RewardChoice:
    values = build_parser().read([*flags, "--model", "tiny", "--device", "cpu"])
    return RewardChoice.from_flags(values, default_model="vitg")


def test_which_models_are_needed() -> None:
    assert chosen("--reward", "geometry").needs_model
    apart = chosen("--reward", "geometry", "consensus", "--encoder", "vitb21")
    assert not apart.needs_model and apart.sees_little and apart.min_frames == 22
    assert [model.name for model in apart.world_models] == ["vitb21"]
    images = chosen("--reward", "geometry", "--encoder", "facebook/dinov2-small")
    assert not images.needs_model and not images.sees_little and images.min_frames == 4
    assert images.context_frames == 4 and images.world_models == []
    both = chosen("--reward", "surprise", "geometry", "--encoder", "vitb21")
    assert both.needs_model and not both.sees_little and both.context_frames == 14
    asked = chosen("--reward", "vlm", "adherence=2", "--vlm", "owner/name")
    assert not asked.needs_model and asked.min_frames == 1 and asked.context_frames == 0
    assert asked.vlm is not None and asked.vlm.question == PHYSICS and asked.vlm.fps == 4
    assert not asked.asks_prompt("vlm") and asked.asks_prompt("adherence")
    about = chosen("--reward", "vlm", "--vlm", "owner/name", "--question", "Is it {prompt}?")
    assert about.asks_prompt("vlm")
    with pytest.raises(UsageError, match="vlm asks about the prompt, and x has none"):
        about.check_prompt(" ", of="x")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--reward", "vlm"), "name it with --vlm"),
        (("--vlm", "owner/name"), "--vlm is of the rewards vlm and adherence"),
        (("--question", "What?"), "name it with --vlm"),
        (("--reward", "vlm", "--vlm", "a/b", "--question", " "), "question is empty"),
        (("--encoder", "tiny"), "--encoder is of the rewards geometry and consensus"),
    ],
)
def test_flags_that_do_not_go_together(flags: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        chosen(*flags)


def test_each_reward_is_recorded_by_what_decides_it() -> None:
    plain = chosen("--reward", "surprise", "geometry", "consensus")
    other = chosen("--reward", "surprise", "geometry", "consensus", "--score", "excess")
    wider = chosen("--reward", "surprise", "geometry", "consensus", "--window_size", "20")
    sparse = chosen("--reward", "surprise", "geometry", "consensus", "--stride", "4")

    def changed(choice: RewardChoice) -> set[str]:
        return {n for n in plain.weights if plain.settings_of(n) != choice.settings_of(n)}

    assert changed(other) == {"surprise"}
    assert changed(wider) == {"surprise", "geometry", "consensus"}
    assert changed(sparse) == {"surprise", "consensus"}
    elsewhere = chosen("--reward", "surprise", "geometry", "consensus", "--encoder", "tiny")
    assert changed(elsewhere) == {"geometry", "consensus"}
    own: dict[str, Any] = elsewhere.settings()
    assert own["model"] == own["encoder"] == "tiny" and own["rewards"] == plain.weights
