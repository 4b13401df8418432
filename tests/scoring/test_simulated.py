"""The embedded model says where its verdict means nothing, and is silent about clips that are ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cli_fixtures import write_clip

from vjepa2.files.sources import EMBEDDED
from wmreward.scoring.simulated import SHIPPED, meaningless

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
        assert said is not None and f"note: {model} knows simulated balls and boxes only" in said
    assert meaningless("vitl", None, {clip: "0"}) is None
    assert meaningless("tiny", "own.safetensors", {clip: "0"}) is None


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
