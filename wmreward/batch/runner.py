"""The loop of one process: draw a candidate, make it, record it, until there is no more."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from wmfiles import Process
from wmreward.batch.candidates import Candidate, Maker, Unfit, candidates_of
from wmreward.batch.folder import RunFolder
from wmreward.batch.lock import RunLock
from wmreward.batch.processes.queue import ATTEMPTS, Queue
from wmreward.batch.processes.stopping import GRACE_S, Interrupted, Stopping
from wmreward.batch.processes.team import LostContact, Team, error_of
from wmreward.batch.processes.watch import Watch
from wmreward.batch.trouble import disk_trouble
from wmreward.errors import WMRewardError, in_words
from wmreward.prompts.jobs import BatchJob
from wmreward.records.lock import Lock

_SETTLE_S = 60.0
"""Processes that share a candidate end within so long of one another, or something is wrong."""
_LOADING_S = 3600.0
_LOOK_AGAIN_S = 0.05
_MOST_TEXT = 4000


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How a run behaves; nothing here decides what candidates look like.

    Attributes:
        cost: How long a candidate takes, in any unit: the longest are made first.
        grace_s: Time to finish what is being made after SIGTERM.
        progress: Whether there is a bar.
    """

    cost: Callable[[Candidate], float] = lambda _: 1.0
    grace_s: float = GRACE_S
    progress: bool = True


def run_batch(
    run: RunFolder,
    jobs: Sequence[BatchJob],
    variants: Sequence[str],
    load: Callable[[], Maker],
    *,
    team: Team | None = None,
    options: BatchOptions | None = None,
) -> int:
    """Make all candidates that are not there yet. Called on every process of the run.

    Args:
        run: Where; its share says which part.
        jobs: What videos show, each with its seeds.
        variants: How they are made: every job and seed in each way.
        load: Loads the models; called once, if there is anything to make.
        team: The processes; by default those that `torchrun` started.
        options: How it behaves.

    Returns:
        The exit code: 0 when all is there, 1 when something failed, 143 after SIGTERM, 130 after Ctrl-C.
        All but the first process return 0 if they ended as they should.

    Raises:
        WMRewardError: the run cannot begin, or had to stop: the folder is in use, settings differ, the disk
            is full.
        LostContact: another process is gone.
    """
    team, options = team or Team.joined(), options or BatchOptions()
    candidates = run.share.deal(
        sorted(candidates_of(jobs, variants), key=options.cost, reverse=True)
    )
    lock = RunLock(run.locks, run.share)
    with team.failing(), _stopping(run, team, options) as stopping:
        try:
            with stopping.making():
                plan = _Plan.agreed(run, jobs, variants, candidates, team, lock)
        except Interrupted:
            lock.release()
            return stopping.exit_code
        queue = Queue(team, plan.pending)
        worker = _Worker(run, candidates, plan.attempts, load, team, queue, stopping)
        with suppress(Interrupted), _watch(team, queue, lock, plan, options):
            worker.work()
        team.add("left")
        if team.is_first:
            return _end(run, team, queue, plan, lock, stopping)
        return stopping.exit_code


def _stopping(run: RunFolder, team: Team, options: BatchOptions) -> Stopping:
    at_worst = partial(run.leave, team.rank)
    return (
        Stopping(options.grace_s, at_worst, _say)
        if team.is_first
        else Stopping(options.grace_s, at_worst)
    )


def _watch(
    team: Team, queue: Queue, lock: Lock, plan: _Plan, options: BatchOptions
) -> AbstractContextManager[object]:
    if not team.is_first:
        return nullcontext()
    return Watch(queue, lock, before=plan.made, failed=plan.failed, shown=options.progress)


@dataclass(frozen=True)
class _Plan:
    """What is to be done, the same on all processes.

    Attributes:
        pending: Numbers of candidates, the longest first.
        attempts: How often each failed in this launch, by its number.
        made: How many there are already.
        failed: How many have failed for good in this launch.
    """

    pending: list[int]
    attempts: dict[int, int]
    made: int
    failed: int

    @classmethod
    def agreed(
        cls,
        run: RunFolder,
        jobs: Sequence[BatchJob],
        variants: Sequence[str],
        candidates: Sequence[Candidate],
        team: Team,
        lock: Lock,
    ) -> _Plan:
        """Made on the first process, with the lock taken; its error is everyone's."""
        team.tell(f"process/{team.rank}", json.dumps(asdict(Process.this())))
        if not team.is_first:
            told = json.loads(team.await_told("plan"))
            attempts = {int(number): count for number, count in told.pop("attempts").items()}
            return cls(attempts=attempts, **told)
        try:
            told = [team.await_told(f"process/{rank}") for rank in range(team.world)]
            processes = [Process(**json.loads(text)) for text in told]
            run.check()
            lock.acquire(processes, wait=team.restarts > 0, say=_say)
            run.begin(jobs, variants)
            plan = cls._made(run, candidates, team)
        except Exception as error:
            with suppress(WMRewardError, OSError):  # the first error is the one to tell
                lock.release()
            text = disk_trouble(error) or in_words(error)
            raise error_of(text, getattr(error, "exit_code", 1)) from error
        team.tell("plan", json.dumps(asdict(plan)))
        return plan

    @classmethod
    def _made(cls, run: RunFolder, candidates: Sequence[Candidate], team: Team) -> _Plan:
        records = run.recover(candidates, restarted=team.restarts > 0)
        counts = {name: len(failures) for name, failures in records.failed.items()}
        left = [n for n, candidate in enumerate(candidates) if candidate.name not in records.made]
        attempts = {n: counts[name] for n in left if (name := candidates[n].name) in counts}
        pending = [n for n in left if attempts.get(n, 0) < ATTEMPTS]
        return cls(pending, attempts, len(records.made), len(left) - len(pending))


class _Worker:
    """One process at work."""

    def __init__(
        self,
        run: RunFolder,
        candidates: Sequence[Candidate],
        attempts: dict[int, int],
        load: Callable[[], Maker],
        team: Team,
        queue: Queue,
        stopping: Stopping,
    ) -> None:
        self.run, self.candidates, self.attempts = run, candidates, attempts
        self.load, self.team, self.queue, self.stopping = load, team, queue, stopping

    def work(self) -> None:
        """Until nothing is left, something stops the run, or a signal came."""
        maker: Maker | None = None
        while (number := self.queue.draw(lambda: self.stopping.signal is not None)) is not None:
            with self._stops_all():
                maker = maker or self._loaded()
                self._attempt(maker, number)

    @contextmanager
    def _stops_all(self) -> Iterator[None]:
        """An error in here is none of a candidate's: it ends the run."""
        try:
            yield
        except LostContact:
            raise
        except Exception as error:
            self.queue.stop(error)

    def _loaded(self) -> Maker:
        error: Exception | None = None
        maker: Maker | None = None
        try:
            with self.stopping.making():
                maker = self.load()
        except Exception as raised:
            error = raised
        if failure := self._agreed("loaded", error, _LOADING_S):
            raise error or WMRewardError(failure)
        assert maker is not None
        return maker

    def _attempt(self, maker: Maker, number: int) -> None:
        """Make one candidate. Its errors are recorded; those of the disk are raised."""
        candidate, begun = self.candidates[number], time.monotonic()
        facts: dict[str, Any] = {}
        error: Exception | None = None
        try:
            with self.stopping.making():
                if self.team.is_leader:
                    self.run.take(candidate, self.team.rank)
                facts = maker(candidate, self.run.scratch(candidate))
        except Interrupted:
            self._leave()
            raise
        except Exception as raised:
            error = raised
        failure = self._agreed("made", error, _SETTLE_S)
        trouble = disk_trouble(error)
        if self.team.is_leader and trouble is None:
            try:
                self._record(number, facts, failure, error, time.monotonic() - begun)
            except OSError as raised:
                trouble = disk_trouble(raised) or in_words(raised)
        self._leave()
        if trouble:
            raise WMRewardError(f"{trouble}; what was finished is kept: start again to go on")
        if isinstance(error, Unfit):
            raise LostContact(f"this process cannot go on: {error}") from error

    def _leave(self) -> None:
        if self.team.is_leader:
            self.run.leave(self.team.rank)

    def _agreed(self, what: str, error: Exception | None, patience_s: float) -> str | None:
        """What went wrong on any process that shares the candidate."""
        own = "" if error is None else in_words(error)
        if self.team.size == 1:
            return own or None
        return next(filter(None, self.queue.agree(what, own, patience_s)), None)

    def _record(
        self,
        number: int,
        facts: dict[str, Any],
        failure: str | None,
        error: Exception | None,
        seconds: float,
    ) -> None:
        candidate, rank = self.candidates[number], self.team.rank
        known = {"seconds": round(seconds, 3), "host": self.team.host, "rank": rank}
        if failure is None:
            self.run.commit(candidate, rank, {**known, **facts})
            self.queue.finish(failed=False)
        else:
            attempt = self.attempts.get(number, 0) + self.queue.tries(number)
            self.run.reject(candidate, rank, failure, attempt, {**known, **_trace(error)})
            if attempt < ATTEMPTS:
                self.queue.give_back(number)
            else:
                self.queue.finish(failed=True)


def _end(
    run: RunFolder, team: Team, queue: Queue, plan: _Plan, lock: Lock, stopping: Stopping
) -> int:
    """Tidy up and tell how it went, when the other processes have left."""
    latest = time.monotonic() + _SETTLE_S
    while team.add("left", 0) < team.world and time.monotonic() < latest and stopping.left_s() > 1:
        time.sleep(_LOOK_AGAIN_S)
    if team.add("left", 0) == team.world:  # else the lock is found to be a dead one's
        if queue.stopped() is None:
            run.merge()
        if queue.done() == len(plan.pending):
            run.clean()
        lock.release()
    done, failed = queue.done(), queue.failed()
    _say(
        f"{run.path}: {done - failed} made, {plan.made} there before, {plan.failed + failed} failed, "
        f"{len(plan.pending) - done} left"
    )
    if stopping.signal is not None:
        _say("stopped; the same command goes on from here")
        return stopping.exit_code
    if (reason := queue.stopped()) is not None:
        raise reason
    if plan.failed + failed:
        _say(f"why: wmreward batch status {run.path}")
    return 1 if plan.failed + failed else 0


def _trace(error: Exception | None) -> dict[str, str]:
    if error is None or hasattr(error, "exit_code"):
        return {}
    return {"traceback": "".join(traceback.format_exception(error))[-_MOST_TEXT:]}


def _say(text: str) -> None:
    print(text, file=sys.stderr)
