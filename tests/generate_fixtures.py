"""`generate_magi1.py` in this process and as real processes, with a nano MAGI-1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wmreward.generation.cli import main

ROOT = Path(__file__).parents[1]

T2V = ("--mode", "t2v", "--prompt", "a red ball")


class CommandLine:
    """Runs `generate_magi1.py` in this process, in a folder of its own."""

    def __init__(self, nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self.capsys = str(nano / "nano.json"), capsys

    def __call__(self, *flags: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capsys.readouterr()
        code = main(["--config_file", self.config, *flags])
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def fails(self, *flags: str, code: int = 2) -> str:
        """The one line of an error; late ones come after the line that says what is made."""
        got, out, err = self(*flags)
        assert got == code, err
        assert out == "" and "Traceback" not in err
        lines = [line for line in err.strip().splitlines() if " frames are made, " not in line]
        assert len(lines) == 1 and lines[0].startswith("error: "), err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def command(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """For a test module with a fixture `nano`, the folder of a nano model."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(nano, capsys)


def script(folder: Path, config: Path, *flags: str, processes: int = 1) -> subprocess.Popen[str]:
    """`generate_magi1.py` started in ``folder``, under torchrun with several processes."""
    several = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    launcher = several if processes > 1 else ()
    return subprocess.Popen(
        [
            *(sys.executable, *launcher, str(ROOT / "generate_magi1.py")),
            *("--config_file", str(config), "--device", "cpu", *flags),
        ],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
