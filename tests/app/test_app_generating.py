"""A wish: understood, checked, and met twice from the same noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from guided_fixtures import inputs  # noqa: F401
from magi1_fakes import write_nano

from wmreward.app import words
from wmreward.app.generating import Wish, examples, generate
from wmreward.app.limits import LONGEST_PROMPT
from wmreward.errors import UsageError, VideoError
from wmreward.generation.flags import build_parser
from wmreward.video_io import probe

BALL = "a red ball"


def test_what_is_generated_follows_from_the_beginning() -> None:
    for start, mode in ((None, "t2v"), (Path("a.PNG"), "i2v"), (Path("a.mp4"), "v2v")):
        values = build_parser().read(Wish(prompt="--x = 1", start=start, seed=3, scale=0.2).flags())
        assert (values["mode"], values["prompt"], values["seed"]) == (mode, "--x = 1", 3)
        assert (values["guidance_scale"], values["model"]) == (0.2, "tiny")
        assert values["init_image"] == (str(start) if mode == "i2v" else None)
        assert values["init_video"] == (str(start) if mode == "v2v" else None)


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        (Wish(prompt=" \n"), "say in a few words"),
        (Wish(prompt="x" * (LONGEST_PROMPT + 1)), "501 characters"),
        (Wish(prompt=BALL, scale=0), "above 0"),
        (Wish(prompt=BALL, scale=float("nan")), "above 0"),
    ],
)
def test_wishes_that_cannot_be_met(wish: Wish, line: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=line):
        generate(wish, tmp_path)


def test_a_beginning_that_is_no_video(tmp_path: Path) -> None:
    start = tmp_path / "text.mp4"
    start.write_text("no video")
    with pytest.raises(VideoError):
        generate(Wish(prompt=BALL, start=start), tmp_path)


def test_plain_beside_guided(tmp_path: Path, inputs: Path, nano_tiny: None) -> None:  # noqa: F811
    config = write_nano(tmp_path / "nano", num_frames=16, num_steps=4)
    told: list[float] = []
    folder = tmp_path / "made"
    folder.mkdir()
    pair = generate(
        Wish(prompt=BALL, start=inputs / "video.mp4", scale=0.5),
        folder,
        "cpu",
        config_file=str(config),
        on_step=lambda share, _: told.append(share),
    )
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1
    assert 0 < pair.plain != pair.guided > 0
    files = {path.name for path in folder.glob("*.mp4")}
    assert files == {"plain.mp4", "guided.mp4", "plain_beside_guided.mp4"}
    both, one = probe(pair.video), probe(folder / "plain.mp4")
    assert both.width > 2 * one.width and both.num_frames == 16 + one.num_frames, (
        "16 given frames first"
    )
    shown = words.compared(pair)
    assert f"{pair.plain:.4f}" in shown and f"{pair.guided:.4f}" in shown


def test_the_examples_are_there() -> None:
    assert len(examples()) == 6 and all(one.start.is_file() for one in examples())
