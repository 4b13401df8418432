"""A process that reads mutants one after the other. It may hang, grow or die; its keeper notices."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.campaign.mutations import mutate
from benchmarks.campaign.targets import Sample, Target, load
from wmreward.errors import WMRewardError

LONGEST_LINE = 400
"""Characters of a refusal or a warning at most: it fits on a screen."""


Verdict = tuple[str, str]
"""One of `verdicts.VERDICTS`, and a detail."""


def judge(target: Target, sample: Sample, seed: int) -> Verdict:
    """Make one mutant, read it, and say what became of it."""
    kind, data = mutate(sample.data, seed, sample.name)
    with tempfile.TemporaryDirectory(prefix="campaign_") as folder:
        intact, path = Path(folder, "intact", sample.name), Path(folder, "mutant", sample.name)
        for file, content in ((intact, sample.data), (path, data)):
            file.parent.mkdir()
            file.write_bytes(content)
        expected = target.read(intact)
        try:
            found = target.read(path)
        except WMRewardError as error:
            return _of_refusal(kind, str(error).replace(str(path), sample.name))
        except MemoryError:
            raise
        except Exception as error:
            return "wrong", f"{kind}: {type(error).__name__}: {error}"[:LONGEST_LINE]
        if found.warning is not None:
            return "warned", f"{kind}: {found.warning}"
        if found.content == expected.content:
            return "same", kind
        if target.is_legal(path, expected, found):
            return "legal", kind
        return "wrong", f"{kind}: another result and no word"


def _of_refusal(kind: str, line: str) -> Verdict:
    if "\n" in line or len(line) > LONGEST_LINE:
        return "wrong", f"{kind}: a refusal of {len(line)} characters: {line[:80]!r}"
    return "refused", f"{kind}: {line}"


class Keeper:
    """Starts the worker, waits for it in bounded time, and starts another where it died.

    Args:
        target: its name.
        samples: what is mutated.
        seconds: that one mutant may take.
        gibibytes: of address space that the worker may have.
    """

    def __init__(
        self, target: str, samples: list[Sample], *, seconds: float, gibibytes: float
    ) -> None:
        self._job = target, samples, gibibytes
        self._seconds = seconds
        self._start()

    def judge(self, index: int, seed: int) -> Verdict:
        """`judge` of the sample at ``index``; a worker that does not end, or dies, is wrong."""
        self._connection.send((index, seed))
        if not self._connection.poll(self._seconds):
            self._restart()
            return "wrong", f"no end within {self._seconds:g} s"
        try:
            verdict: Verdict = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(5)
            code = self._process.exitcode
            self._restart()
            return "wrong", f"the process died (code {code})"
        return verdict

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _restart(self) -> None:
        self.close()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, *self._job), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(60) or self._connection.recv() != "ready":
            raise RuntimeError("the worker does not start")


def _work(connection: Connection, name: str, samples: list[Sample], gibibytes: float) -> None:
    target = load(name)  # imports, outside the limits
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        try:
            index, seed = connection.recv()
        except EOFError:
            return
        try:
            verdict = judge(target, samples[index], seed)
        except MemoryError:
            verdict = "wrong", f"more than {gibibytes:g} GiB of memory"
        connection.send(verdict)
