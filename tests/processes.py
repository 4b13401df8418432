"""Command lines in processes of their own that have imported torch already: each is forked from a server.

They have their own signals, streams and exit codes. Several are the ranks of a group, with the environment
that torchrun gives them. That real interpreters and torchrun itself start a command is tested by
scoring/test_score_processes.py and generation/test_generation_scripts.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

PRELOADED = (
    "torch._dynamo",  # of checkpoints in a backward pass: seconds, like torch itself
    "batch_worker",
    "fakes",
    "wmreward.generation.run",
    "wmreward.rewards.world",
    "wmreward.surprise.shared",
)


def server() -> ForkServerContext:
    """One for all tests of a process: what is preloaded is what the first of them asked for."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


@dataclass(frozen=True)
class Ended:
    """How a command ended: the exit code (of the first rank that failed), and what all ranks said."""

    code: int
    out: str
    err: str


class Started:
    """A command at work, by one process or by several ranks."""

    def __init__(
        self, module: str, words: Sequence[object], folder: Path, *, ranks: int = 1, streams: Path
    ) -> None:
        """
        Args:
            module: Of the command line, such as ``wmreward.scoring.cli``; see `start`.
            words: After the name of the command.
            folder: Where it works.
            ranks: How many processes.
            streams: An existing folder for what they say.
        """
        given = [str(word) for word in words]
        group = _group(ranks) if ranks > 1 else [{}]
        self.streams = [(streams / f"{rank}.out", streams / f"{rank}.err") for rank in range(ranks)]
        self.processes = [
            server().Process(target=_be, args=(module, given, folder, variables, files))
            for variables, files in zip(group, self.streams, strict=True)
        ]
        for process in self.processes:
            process.start()

    @property
    def works(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            assert process.pid is not None
            os.kill(process.pid, number)

    def end(self, timeout: float = 120) -> Ended:
        """Wait for it; what takes longer is killed, and an error."""
        for process in self.processes:
            process.join(timeout)
        late = self.works
        for process in self.processes:
            process.kill()
            process.join()
        out, err = (
            "".join(path.read_text() for path in paths) for paths in zip(*self.streams, strict=True)
        )
        assert not late, f"still at work after {timeout} s: {err}"
        codes = [process.exitcode or 0 for process in self.processes]
        return Ended(next((code for code in codes if code), 0), out, err)


def _group(ranks: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes on one machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _be(
    module: str, words: list[str], folder: Path, variables: dict[str, str], files: tuple[Path, Path]
) -> None:
    import torch

    from wmreward.commands.ending import start

    torch.set_num_threads(1)
    os.environ |= variables
    os.chdir(folder)
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [module, *words]
    start(module)
