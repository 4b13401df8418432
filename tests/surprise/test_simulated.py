"""The embedded model says where its verdict means nothing, and is silent about clips that are ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cli_fixtures import write_clip

from vjepa2.files.sources import EMBEDDED
from wmreward import ModelChoice, VideoWarning, compute_vjepa_surprise, select_best
from wmreward.surprise.models.simulated import SHIPPED, meaningless

ROOT = Path(__file__).parents[2]


def test_the_clips_that_come_along_are_known() -> None:
    clips = [*ROOT.glob("example/balls_*.mp4"), *ROOT.glob("prompt/embedded/*.mp4")]
    hashes = {clip: hashlib.sha256(clip.read_bytes()).hexdigest() for clip in clips}
    assert set(hashes.values()) == SHIPPED
    assert meaningless("tiny", None, hashes) is None


def test_other_clips_are_told_of_in_one_line(tmp_path: Path) -> None:
    clip, other = tmp_path / "cat.mp4", tmp_path / "dog.mp4"
    note = meaningless("tiny", None, {clip: "0"})
    assert note is not None and "cat.mp4 may be such" in note and "\n" not in note
    note = meaningless("tiny", None, {clip: "0", other: "1", Path("ours.mp4"): min(SHIPPED)})
    assert note is not None and "2 of 3 videos" in note
    for model in EMBEDDED:
        said = meaningless(model, None, {clip: "0"})
        assert said is not None and f"{model} knows simulated balls and boxes only" in said
    assert meaningless("vitl", None, {clip: "0"}) is None
    assert meaningless("tiny", "own.safetensors", {clip: "0"}) is None


def test_python_is_warned_as_the_command_line_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all videos of a call, before a model is loaded. An array is known to who made it."""

    class Reached(Exception):
        """A model would be loaded now."""

    def loaded(*_: object, **__: object) -> None:
        raise Reached

    monkeypatch.setattr("wmreward.surprise.compute.VideoScorer", loaded)
    monkeypatch.setattr("wmreward.search.calls.reward_mix", loaded)
    foreign, ours = write_clip(tmp_path / "cat.mp4"), ROOT / "example/balls_possible.mp4"
    other = write_clip(tmp_path / "dog.mp4", seed=1)
    array = np.zeros((24, 8, 8, 3), np.uint8)
    calls = (compute_vjepa_surprise, select_best)
    for videos, who in (
        ([foreign, ours], "cat.mp4"),
        ([array, foreign], "cat.mp4"),
        ([foreign, other], "2 of 2 videos"),
    ):
        for call in calls:
            with pytest.warns(VideoWarning, match=who) as said, pytest.raises(Reached):
                call(videos, model="tiny")
            assert len(said) == 1 and said[0].filename == __file__
            assert "model='vitg' or vitl for real videos" in str(said[0].message)
    for call in calls:
        with pytest.raises(Reached):
            call([ours, array], model="tiny")
        with pytest.raises(Reached):
            call([foreign, array], model=ModelChoice(name="tiny", weights="own.safetensors"))
    with pytest.raises(Reached):
        select_best([foreign, array], lambda videos: videos, model="tiny")


def test_what_the_small_generator_made_is_known_by_the_record_beside_it(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "ball.mp4")
    for name, is_ours in (("tiny", True), ("4.5B", False)):
        record = {"settings": {"model_config": {"model_name": name}}}
        clip.with_suffix(".json").write_text(json.dumps(record))
        assert (meaningless("tiny", None, {clip: "0"}) is None) == is_ours
    record = {"output": "runs/ball.mp4", "settings": {"model_config": {"model_name": "tiny"}}}
    clip.with_suffix(".json").write_text(json.dumps(record))
    other = write_clip(tmp_path / "ball.mkv")  # somebody else's, of the same name
    note = meaningless("tiny", None, {clip: "0", other: "1"})
    assert note is not None and "ball.mkv may be such" in note
    for text in ("", "[]", "{", '{"settings": 3}', "[" * 100_000):
        clip.with_suffix(".json").write_text(text)
        assert meaningless("tiny", None, {clip: "0"}) is not None
