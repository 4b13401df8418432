"""How commands start and end: one line per error, Ctrl-C from the first moment, closed and full streams."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from wmreward.commands.ending import run_command
from wmreward.errors import LONGEST, UsageError, in_words, one_line

ROOT = Path(__file__).parents[2]


class Panic(BaseException):
    """As libraries written in Rust raise it."""


def ends(error: BaseException, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    def work(argv: Sequence[str]) -> int:
        raise error

    return run_command(work, flags), capsys.readouterr().err


# --- one line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says", "code"),
    [
        (UsageError("--x must be\n1"), "error: --x must be 1", 2),
        (OSError(errno.ENOSPC, "No space left on device", "a.mp4"), "error: a.mp4: No space", 1),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", b"\xff.mp4"),
            r"error: \udcff.mp4: F",
            1,
        ),
        (MemoryError(), "error: not enough memory", 1),
        (RuntimeError("[enforce fail] can't allocate memory: 7"), "error: not enough memory", 1),
        (RecursionError("maximum recursion depth exceeded"), "error: something is nested too", 1),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "error: text that cannot", 1),
        (KeyError("name"), "error: 'name' (unforeseen, test_ending.py:", 1),
        (ValueError(""), "error: something failed without a reason (unforeseen", 1),
        (Panic("index out of range"), "error: index out of range (unforeseen", 1),
    ],
)
def test_any_error_is_one_line_without_its_class(
    error: BaseException, says: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    got, err = ends(error, capsys)
    assert got == code and err.startswith(says) and err.count("\n") == 1, err
    assert "Traceback" not in err and type(error).__name__ not in err
    assert ("--debug" in err) == (code == 1)  # what is wrong with flags needs no more


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    _, err = ends(KeyError("name"), capsys, "--debug")
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: 'name'")


def test_no_line_is_longer_than_a_screen_or_steers_a_terminal() -> None:
    text = one_line("begin\x1b[2J " + "x" * 10_000 + "\tend")
    assert len(text) < LONGEST and text.startswith(r"begin\x1b[2J xxx") and text.endswith("end")
    assert len(in_words(ValueError("y" * 10_000))) < LONGEST


def test_ctrl_c_and_the_leaving_of_argparse(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = ends(KeyboardInterrupt(), capsys)
    assert code == 130 and err == "interrupted\n"
    with pytest.raises(SystemExit):
        ends(SystemExit(0), capsys)


def test_only_the_first_of_several_processes_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert ends(UsageError("no"), capsys) == (2, "")
    assert ends(KeyboardInterrupt(), capsys) == (130, "")


# --- the process --------------------------------------------------------------------------------------

COMMAND = """
import os, sys
if "slow" in sys.argv:
    import time
    print("importing", flush=True)
    try:
        time.sleep(20)
    except BaseException:
        raise ImportError("an import may replace it") from None

def main():
    if "open" in sys.argv:
        print(open(__file__).fileno() > 2)
    print("\\udcff.mp4")
    print("said", file=sys.stderr, flush=True)
    if "long" in sys.argv:
        print("x" * 200_000)
    return 0
"""


def command(tmp_path: Path, *words: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    """A command line of a few lines as a process; ``shell`` is what its caller does with streams."""
    (tmp_path / "small.py").write_text(COMMAND)
    code = "from wmreward.commands.ending import start; start('small')"
    return subprocess.run(
        [
            "bash",
            "-c",
            f'set -o pipefail; "$@" {shell}',
            "bash",
            sys.executable,
            "-c",
            code,
            *words,
        ],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("shell", "code", "out", "err"),
    [
        ("", 0, "True\n\\udcff.mp4\n", "said\n"),
        ("2>&-", 0, "True\n\\udcff.mp4\n", ""),
        (">&-", 0, "", "said\n"),
        ("<&- >&- 2>&-", 0, "", ""),
        ("2>/dev/full", 0, "True\n\\udcff.mp4\n", ""),
        (">/dev/full", 1, "", "said\nerror: standard output cannot be written: No space left"),
        ("2>&1 >/dev/full | head -c 1000", 1, "said\nerror: standard output", ""),
    ],
)
def test_closed_and_full_streams(shell: str, code: int, out: str, err: str, tmp_path: Path) -> None:
    done = command(tmp_path, "open", shell=shell)
    assert done.returncode == code, done
    assert done.stdout.startswith(out) and done.stderr.startswith(err)
    assert bool(done.stdout) == bool(out) and bool(done.stderr) == bool(err)
    assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr + done.stdout


def test_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    """PyTorch's libraries abort in one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    (tmp_path / "small.py").write_text(COMMAND)
    code = f"import os; os.rmdir({str(gone)!r}); from wmreward.commands.ending import start; start('small')"
    path = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=gone,
        env=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: the working directory was deleted; change to another (cd)\n"


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    done = command(tmp_path, "long", shell="| head -c 5")
    assert done.returncode == 1 and done.stdout == r"\udcf" and done.stderr == "said\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_importing(number: int, code: int, tmp_path: Path) -> None:
    """One line, even where an import turns the interruption into an error of its own."""
    (tmp_path / "small.py").write_text(COMMAND)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from wmreward.commands.ending import start; start('small')",
            "slow",
        ],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    time.sleep(0.05)
    process.send_signal(number)
    assert process.communicate(timeout=20)[1] == "interrupted\n" and process.returncode == code


# --- all of them --------------------------------------------------------------------------------------


def entries() -> list[Path]:
    """Everything that is run as a process."""
    scripts = [ROOT / "compute_wmreward.py", ROOT / "generate_magi1.py"]
    return [
        *scripts,
        *(ROOT / "generation").glob("*.py"),
        *(ROOT / "wmreward").rglob("__main__.py"),
    ]


def test_every_entry_starts_the_same_way() -> None:
    assert len(entries()) >= 9
    for file in entries():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        ]
        assert "start" in calls and "exit" not in calls, file


LIGHT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
loaded = {"torch", "numpy", "av", "magi1", "vjepa2"} & set(sys.modules)
assert not loaded, loaded
"""


def test_no_command_line_and_no_package_of_one_imports_anything_large() -> None:
    """Else Ctrl-C would find Python within such an import, before a command can answer it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "MAGI-1")])
    files = [*(ROOT / "wmreward").rglob("cli.py"), *(ROOT / "wmreward").rglob("flags.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    assert len(names) >= 12
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *names, "compute_wmreward", "generate_magi1"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
