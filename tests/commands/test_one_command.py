"""`wmreward COMMAND`: which command runs, how quickly help is there, what the original's lines still do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from wmreward.cli import COMMANDS, main
from wmreward.commands.dispatch import Command, dispatch
from wmreward.version import __version__

ROOT = Path(__file__).parents[2]

PROBE = """
import json, sys, time
begun = time.process_time()
from wmreward.cli import main
try:
    code = main(json.loads(sys.argv[1]))
except SystemExit as ended:
    code = ended.code
seconds = time.process_time() - begun
heavy = sorted({"torch", "numpy", "av", "tqdm", "einops"} & set(sys.modules))
print(json.dumps([code, seconds, heavy]), file=sys.stderr)
"""


def probed(argv: Sequence[str]) -> tuple[int, float, list[str], str]:
    """Exit code, seconds of computing, what large packages were imported, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(argv)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'MAGI-1'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    code, seconds, heavy = json.loads(done.stderr.splitlines()[-1])
    return code, seconds, heavy, done.stdout


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["--version"], *([command.name, "--help"] for command in COMMANDS)],
    ids=" ".join,
)
def test_help_is_there_at_once(argv: list[str]) -> None:
    """In less than 0.1 s beyond the start of the interpreter; the best of three, as the machine is shared."""
    tried = []
    for _ in range(3):
        code, seconds, heavy, out = probed(argv)
        assert code == 0 and heavy == [] and out
        tried.append(seconds)
        if seconds < 0.1:
            return
    raise AssertionError(f"{min(tried):.3f} s")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name} " in out and command.text in out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wmreward {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "which command? score, generate"),
        (["scor"], "'scor' is not a command of wmreward; did you mean score?"),
        (["physics_iq"], "did you mean physics-iq?"),
        (["fly"], "'fly' is not a command of wmreward (score, generate"),
        (["clip.mp4"], "did you mean wmreward score clip.mp4?"),
        (["a b/c.mp4", "--plot"], "did you mean wmreward score 'a b/c.mp4' --plot?"),
        (["generate", "--width", "64"], "no flag --width; did you mean --video_size_w?"),
        (["generate", "--Size", "64"], "did you mean --video_size_h and --video_size_w?"),
        (["score", "a.mp4", "--size", "64"], "there is no flag --size; --help lists all flags"),
        (["score", "a.mp4", "--heat-map"], "there is no flag --heat_map; did you mean --map?"),
        (["score", "a.mp4", "--model", "ViT-g"], "not 'ViT-g'; did you mean vitg?"),
        (["select", "a.mp4", "--model", "vitb-21"], "not 'vitb-21'; did you mean vitb21?"),
        (["generate", "--model", "tinny"], "not 'tinny'; did you mean tiny?"),
        (["score"], "which videos?"),
        (["batch"], "--jobs is missing"),
        (["batch", "--prompt", "x"], "--prompt has no meaning here"),
        (["batch", "staus"], "did you mean status?"),
        (["prompts", "chek"], "did you mean check?"),
        (["report"], "RUN is missing"),
        (["generate", "--promt", "x"], "did you mean --prompt?"),
    ],
)
def test_mistakes(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_command_is_one_row() -> None:
    rows = (Command("double", "twice", "tests_double:main"),)
    sys.modules["tests_double"] = type(sys)("tests_double")
    sys.modules["tests_double"].main = lambda argv: 2 * int(argv[0])  # type: ignore[attr-defined]
    try:
        assert dispatch("it", "", rows, ["double", "4"]) == 8
    finally:
        del sys.modules["tests_double"]


def test_as_a_process_and_as_an_installed_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wmreward", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"wmreward {__version__}\n" and done.stderr == ""
    project = (ROOT / "pyproject.toml").read_text()
    assert 'wmreward = "wmreward.cli:process"' in project
    assert 'version = { attr = "wmreward.version.__version__" }' in project


ENTRIES = [
    ROOT / "compute_wmreward.py",
    ROOT / "generate_magi1.py",
    ROOT / "generation" / "batch.py",
    *sorted((ROOT / "wmreward").rglob("__main__.py")),
]

WAITING = """
import os, runpy, sys
entry, sys.argv = sys.argv[1], ["it", "--version"]
try:
    runpy.run_path(entry, run_name="__main__")
except SystemExit as ended:
    print(ended.code, os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry.relative_to(ROOT)))
def test_every_entry_begins_the_same_way(entry: Path) -> None:
    """By `start`, before which nothing large is imported: see the test below."""
    text = entry.read_text(encoding="utf-8")
    assert 'start("wmreward.' in text and "import torch" not in text and "environ" not in text


@pytest.mark.parametrize(("own", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep(own: str | None, expected: str) -> None:
    """Set before PyTorch is loaded, which reads it once; a user's own choice stays."""
    given = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", WAITING, str(ROOT / "wmreward" / "__main__.py")],
        env=given | ({"OMP_WAIT_POLICY": own} if own else {}) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"0 {expected} False"


# --- the original repository's command lines ------------------------------------------------------------


def test_the_scorer_takes_the_original_flags() -> None:
    from wmreward.scoring.flags import build_parser

    line = (
        "--video_path a.mp4 --model vitg --window_size 16 --context_frames 8 --stride 8 --mode max"
    )
    values = build_parser().read(line.split())
    assert values["video_path"] == ["a.mp4"] and values["aggregate"] == "max"
    assert (values["window_size"], values["context_frames"], values["stride"]) == (16, 8, 8)


def test_the_generator_takes_the_original_flags() -> None:
    from wmreward.generation.flags import build_parser

    line = (
        "--config_file c.json --mode i2v --init_image a.png --prompt p --output_path o.mp4 "
        "--guidance_scale 0.001 --guidance_frequency 2 --guidance_steps 0x5,1x45 --guidance_scales 0.001x50"
    )
    values = build_parser().read(line.split())
    assert values["output"] == "o.mp4" and values["mode"] == "i2v"
    assert values["guidance_scale"] == 0.001 and values["guidance_frequency"] == 2
    assert build_parser().defaults["output"] == "output.mp4"
    of_magi = "--mode v2v --image_path a.png --prefix_video_path a.mp4 --output_path o.mp4"
    values = build_parser().read(of_magi.split())
    assert (values["init_image"], values["init_video"]) == ("a.png", "a.mp4")


def test_the_mode_follows_from_what_is_given() -> None:
    from wmreward.errors import UsageError
    from wmreward.generation.cli import _mode_of
    from wmreward.generation.flags import build_parser

    def mode(*argv: str) -> str:
        return _mode_of(build_parser().read(argv))

    assert mode("--prompt", "x") == "t2v"
    assert mode("--init_image", "a.png") == "i2v" and mode("--init_video", "a.mp4") == "v2v"
    with pytest.raises(UsageError, match="leave out one"):
        mode("--init_image", "a.png", "--init_video", "a.mp4")
