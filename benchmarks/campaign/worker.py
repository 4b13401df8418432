"""A process that reads mutants one after the other. It may hang, grow or die; its keeper notices."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.campaign.mutations import mutate
from benchmarks.campaign.targets import Reading, Sample, load
from wmreward.errors import WMRewardError

LONGEST_LINE = 400
"""Characters of a refusal or a warning at most: it fits on a screen."""


def judge(target_name: str, samples: list[Sample], index: int, seed: int) -> tuple[str, str]:
    """Make one mutant, read it, and give the verdict and a detail."""
    target = load(target_name)
    sample = samples[index]
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
            return _refusal(kind, str(error).replace(str(path), sample.name))
        except BaseException as error:
            return "wrong", f"{kind}: {type(error).__name__}: {error}"[:LONGEST_LINE]
        return _reading(kind, expected, found, lambda: target.is_legal(path, expected, found))


def _refusal(kind: str, line: str) -> tuple[str, str]:
    if "\n" in line or len(line) > LONGEST_LINE:
        return "wrong", f"{kind}: a refusal of {len(line)} characters: {line[:80]}"
    return "refused", f"{kind}: {line}"


def _reading(kind, expected: Reading, found: Reading, is_legal) -> tuple[str, str]:  # type: ignore[no-untyped-def]
    if found.warning is not None:
        return "warned", f"{kind}: {found.warning}"
    if found.content == expected.content:
        return "same", kind
    if is_legal():
        return "legal", kind
    return "wrong", f"{kind}: another result and no word"


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

    def judge(self, index: int, seed: int) -> tuple[str, str]:
        """See `judge`; an endless, a dead and a swollen worker are wrong."""
        self._connection.send((index, seed))
        if not self._connection.poll(self._seconds):
            self._restart()
            return "wrong", f"no end within {self._seconds:g} s"
        try:
            verdict: tuple[str, str] = self._connection.recv()
        except EOFError:
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


def _work(connection: Connection, target: str, samples: list[Sample], gibibytes: float) -> None:
    load(target)  # imports, outside the limits
    limit = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        try:
            index, seed = connection.recv()
        except EOFError:
            return
        connection.send(judge(target, samples, index, seed))
