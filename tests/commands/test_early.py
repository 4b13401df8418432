"""What is wrong at first sight is told before PyTorch is imported, which takes seconds: in every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROBE = """
import contextlib, io, json, shlex, sys
sys.modules["torch"] = None  # importing it fails
from wmreward.cli import main
for line in json.loads(sys.argv[1]):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    print(json.dumps([code, err.getvalue()]))
"""

CLIP = "example/balls_possible.mp4"
LIST = "batch --jobs prompt/embedded_v2v.jsonl"

MISTAKES = {
    f"score {CLIP} --fps 8 --max_frames 20": "--max_frames and --fps are two ways",
    f"score {CLIP} --rates 8 --fps 8": "--rates and --fps both say",
    f"score {CLIP} --output a.txt": "must end in .jsonl or .csv",
    f"score {CLIP} --plot_all a.jpg": "--plot_all a.jpg must end in .png",
    f"score {CLIP} --map --similarity token": "--map needs --similarity feature",
    f"score {CLIP} --compat released --stride 2": "--compat released means --stride 8, not 2",
    f"score {CLIP} --compat released --model vitl21": "model vitl21 is 2.1",
    f"score {CLIP} --max_frames 8": "is less than one window",
    f"score {CLIP} --context_frames 16": "--context_frames 16 must be at least 1 and below",
    f"score {CLIP} --crop 100": "--crop 100: model 'vitg' sees 256 pixels",
    f"score {CLIP} --model vitb21 --crop 100": "--crop 100 is not divisible by patch=16; 96 and 112 fit",
    f"score {CLIP} --model vitb21 --levels all": "--levels all: model 'vitb21' is distilled",
    f"score {CLIP} --levels all": "--levels is a choice of V-JEPA 2.1",
    f"score {CLIP} --model vitgac": "needs real actions",
    f"score {CLIP} --model vitgac --actions none.npz": "none.npz does not exist",
    f"score {CLIP} --device toaster": "--device must be auto, cpu, cuda or cuda:N",
    f"select {CLIP} --fps 8 --max_frames 20": "--max_frames and --fps are two ways",
    f"select {CLIP} --max_frames 8": "is too few: the reward needs 16",
    f"select {CLIP} --output a.txt": "must end in .jsonl",
    f"select {CLIP} --reward wonder": "unknown reward 'wonder'",
    f"select {CLIP} --reward vlm": "name it with --vlm",
    f"select {CLIP} --encoder tiny": "--encoder is of the rewards",
    f"select {CLIP} --plots plots --reward consensus": "--plots draws rewards over time",
    f"select {CLIP} --copy_to README.md": "README.md is not a folder",
    f"select {CLIP} --group_by (": "is no regular expression",
    f"select {CLIP} --model vitgac": "needs actions: it cannot judge",
    "select --rescore none.jsonl": "no such file of records",
    f"select --rescore none.jsonl {CLIP}": "--rescore judges nothing",
    "generate --prompt x --judge vitl": "--judge is asked about what --compare shows",
    "generate --prompt x --compare --guidance_scale 1 --judge tiny": "it would judge itself",
    "generate --prompt x --compare": "--compare has nothing to compare with",
    "generate --prompt x --plot": "--plot draws what guidance does",
    "generate --prompt x --output a.txt": "--output a.txt must end in .mp4",
    "generate --prompt x --output example": "--output example must end in .mp4",
    "generate --prompt x --num_steps 7": "--num_steps 7 must be a multiple",
    "generate --prompt x --video_size_h 33": "32 and 40 fit",
    "generate --prompt x --preview --best_of 2": "--preview shows a single video",
    "generate --prompt x --dtype float64": "--dtype float64 is for scoring",
    "generate --prompt x --guidance_steps 9 --guidance_scale 1": "the sampler takes 12",
    "generate --prompt x --guidance_scale 1 --guidance_range 0.9 0.1": "must rise",
    "generate --prompt x --reward consensus --guidance_scale 1": "it cannot guide",
    "generate --prompt x --window_size 16": "--window_size is of the surprise",
    "generate --prompt x --config_file README.md": "README.md: not JSON",
    "generate a red ball": "what is 'a' for? Did you mean --prompt 'a'?",
    "generate --prompt a red ball": "All of --prompt stands in quotes",
    "generate first.png": "Did you mean --init_image 'first.png'?",
    "score prompt/embedded/red_box.png prompt/embedded/ramp.png": "named by their folder, prompt/embedded",
    f"score {CLIP} --fps 500": "--fps must be a number above 0, up to 240",
    "generate --prompt x --pipeline no/ne --judge vitl": "give both",
    "generate --prompt x --pipeline no/ne --pipeline_call x": "must be NAME=VALUE",
    "generate --prompt x --pipeline no/ne --pipeline_call a=1 --pipeline_call a=2": "names a twice",
    "generate --prompt x --pipeline no/ne --pipeline_call =1": "must be NAME=VALUE",
    "generate --prompt x --pipeline no/ne --pipeline_economy scored=3 scored=4": "names scored twice",
    f"{LIST} --pipeline no/ne --pipeline_economy apart apart": "--pipeline_economy names apart twice",
    "generate --pipeline no/ne": "--pipeline needs a --prompt",
    "generate --prompt x --pipeline nofolder": "nofolder is neither a folder nor a name on the Hub",
    "generate --prompt x --pipeline no/such/folder --plan": "neither a folder nor a name on the Hub",
    f"{LIST} --pipeline ./nofolder": "neither a folder nor a name on the Hub",
    "generate --prompt x --pipeline ''": "must name a file or folder, not ''",
    "generate --prompt x --pipeline README.md": "--pipeline README.md is a file",
    f"{LIST} --pipeline README.md": "--pipeline README.md is a file",
    f"{LIST} --guidance_scale 1 --variants plain": "--variants plain alone",
    f"{LIST} --reward wonder": "unknown reward 'wonder'",
    f"{LIST} --num_steps 3": "--num_steps 3 must be a multiple",
    "batch prompt/embedded_v2v.jsonl": "did you mean wmreward batch --jobs prompt/embedded_v2v.jsonl?",
    "score https://example.com/a.mp4": "is a web address: download it first",
    f"{LIST} --share 3": "--share 3 must look like 2/4",
    "report example": "no run there",
}
"""Command lines, and what is said of each."""


def answered(lines: list[str], folder: Path) -> dict[str, tuple[int, str]]:
    """Exit code and errors of each, all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(lines)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'MAGI-1'}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found = map(json.loads, done.stdout.splitlines())
    return dict(zip(lines, map(tuple, found), strict=True))


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str]]:
    return answered(list(MISTAKES), ROOT)


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_told_before_torch_is_imported(
    line: str, answers: dict[str, tuple[int, str]]
) -> None:
    code, told = answers[line]
    assert MISTAKES[line] in told and told.count("\n") == 1
    assert code in (1, 2)


def test_they_are_from_any_folder(tmp_path: Path) -> None:
    """The clone's own files, such as the small generator's configuration, are not there."""
    elsewhere = [
        line for line in MISTAKES if line.startswith("generate --prompt") and "README" not in line
    ]
    elsewhere.remove("generate --prompt x --output example")
    for line, (code, told) in answered(elsewhere, tmp_path).items():
        assert MISTAKES[line] in told and code in (1, 2), line
