"""Jobs to samples, on several processes: real clips once (and kept), generated clips every time.

A worker holds one frame of each clip, one running average and its decoder: below half a GiB at 4K.
PyTorch is not needed.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.files import user_path
from wmreward.physics_iq.cache import (
    cache_name,
    default_folder,
    fingerprint,
    known_take,
    read_looks,
    write_looks,
)
from wmreward.physics_iq.clips import (
    Take,
    change_rate,
    first_frames,
    read_take,
    same_rate,
)
from wmreward.physics_iq.dataset import Job
from wmreward.physics_iq.measures.metrics import Look, looks, measure, sampled
from wmreward.physics_iq.measures.resize import Bilinear, target_size
from wmreward.physics_iq.scores import Sample

MASKS = ("lossless", "mpeg4")
"""How masks get to the comparison: as they are, or through a lossy file as in the published code."""

_Returns = TypeVar("_Returns")
_Takes = ParamSpec("_Takes")


@dataclass(frozen=True)
class Failure:
    """A job that could not be evaluated, and why, in one line."""

    job: Job
    error: str


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        samples: of the jobs that could be evaluated, in their order.
        failures: the others.
        notes: what to know of clips that were evaluated, a line each.
    """

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RealClip:
    """A real clip and how it is looked at.

    Attributes:
        path: the file.
        num_frames: how many of its frames are read.
        num_compared: how many they become by a change of rate; as many where there is none.
        size: height and width of the comparison.
        stored_fps: of the mask file that the masks pass through, if any.
        masks: a mask file to read instead.
    """

    path: Path
    num_frames: int
    num_compared: int
    size: tuple[int, int]
    stored_fps: int | None
    masks: Path | None

    def looks(self) -> Iterator[Look]:
        """Decode it."""
        frames = first_frames(self.path, self.num_frames)
        if self.num_compared != self.num_frames:
            frames = change_rate(frames, self.num_frames, self.num_compared)
        if self.masks is None:
            yield from looks(frames, self.size, stored_fps=self.stored_fps)
            return
        greys = (frame[..., 0] for frame in first_frames(self.masks, self.num_compared))
        shrink: Bilinear | None = None
        for frame, moving in zip(frames, sampled(greys, self.size), strict=True):
            height, width = frame.shape[:2]
            shrink = shrink or Bilinear((height, width), self.size)
            yield Look(shrink(frame), moving)

    def cache_name(self) -> str:
        """The file that its looks are kept in."""
        settings = asdict(self) | {"path": fingerprint(self.path)}
        return cache_name(settings | {"masks": self.masks and fingerprint(self.masks)})


@dataclass(frozen=True)
class Plan:
    """A job with everything settled that its headers can settle.

    Attributes:
        job: what is compared.
        takes: the real clips, and how they are looked at.
        note: what to know of the clip under test, a line; "" if nothing.
    """

    job: Job
    takes: tuple[RealClip, RealClip]
    note: str = ""

    def sample(self, folder: Path) -> Sample:
        """Compare the generated clip with the takes, whose looks are in `folder`."""
        first, second = (read_looks(folder / take.cache_name()) for take in self.takes)
        take = self.takes[0]
        frames = first_frames(self.job.generated, take.num_compared)
        generated = looks(frames, take.size, stored_fps=take.stored_fps)
        metrics = measure(zip(first, second, generated, strict=True))
        job = self.job
        return Sample(job.scenario, job.view, metrics, category=job.category, id=job.id)


def plan_job(
    job: Job,
    *,
    seconds: float = 5.0,
    masks: str = "lossless",
    read: Callable[[Path], Take] = read_take,
) -> Plan:
    """Check the headers of a job's clips and settle what is compared with what.

    Args:
        job: what is compared.
        seconds: what comes later is not looked at.
        masks: one of `MASKS`.
        read: how to learn of a real clip.

    Raises:
        VideoError: naming the clip that cannot be read, is too short, or fits no other.
        UsageError: if the real clips are too small to compare.
    """
    generated = read_take(job.generated)
    rate = generated.rate
    num_generated = min(int(seconds * rate), generated.num_frames)
    headers = read(job.take_1), read(job.take_2)
    spans = [_span(job, header, rate, seconds) for header in headers]
    num_compared = spans[0][1]
    lengths = {job.take_1: num_compared, job.take_2: spans[1][1], job.generated: num_generated}
    for path, length in lengths.items():
        if length < 1:
            raise VideoError(path, f"{job.id}: holds no frame to compare at {rate:g} fps")
        if length != num_compared:
            raise VideoError(
                path,
                f"{job.id}: has {length} frames at {rate:g} fps ({length / rate:.2f} s), where "
                f"{job.take_1.name} has {num_compared} ({num_compared / rate:.2f} s)",
            )
    size = target_size(headers[0].height, headers[0].width)
    stored_fps = round(rate) if masks == "mpeg4" else None
    stored = job.masks or (None, None)
    first, second = (
        RealClip(path, *span, size, stored_fps, mask)
        for path, span, mask in zip((job.take_1, job.take_2), spans, stored, strict=True)
    )
    return Plan(job, (first, second), _note(job, generated, headers[0]))


def _note(job: Job, generated: Take, real: Take) -> str:
    """Every clip is brought to the shape of the first take, as the benchmark does: that may squash it."""
    if generated.is_like(real):
        return ""
    return (
        f"{job.generated.name}: {generated.width} x {generated.height} has other proportions than the "
        f"recordings ({real.width} x {real.height}); stretched to theirs, as the benchmark does"
    )


def _span(job: Job, header: Take, rate: float, seconds: float) -> tuple[int, int]:
    """How many frames of a take are read, and how many they become at the rate of the generated clip."""
    if same_rate(header.rate, rate):
        num_frames = min(int(seconds * rate), header.num_frames)
        return num_frames, num_frames
    if job.masks:
        raise VideoError(
            job.generated,
            f"{job.id}: is at {rate:g} fps and the stored masks at {header.rate:g}; "
            "compute the masks instead",
        )
    duration = min(seconds, header.num_frames / header.rate)
    return int(duration * header.rate), int(duration * rate)


def evaluate(
    jobs: Sequence[Job],
    *,
    seconds: float = 5.0,
    masks: str = "lossless",
    cache: str | Path | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Measure jobs. A clip that cannot be read fails its job; the others go on.

    Real clips at another frame rate than the generated clip are brought to it as the benchmark does.

    Args:
        jobs: from `find_jobs` or `read_list`.
        seconds: what comes later is not looked at.
        masks: "lossless", or "mpeg4" to pass every mask through the codec as the published code does.
        cache: folder for what is known of real clips; `default_folder()` if None, and none if "".
        workers: processes. Above 1, call this below ``if __name__ == "__main__":``.
        progress: show a bar on standard error.

    Raises:
        UsageError: for a setting out of range.
        WMRewardError: if the cache cannot be written.
    """
    if masks not in MASKS:
        raise UsageError(f"unknown masks {masks!r}: choose one of {', '.join(MASKS)}")
    if not 0 < seconds < 1e6:
        raise UsageError(f"seconds must be above 0 and below a million, got {seconds}")
    if workers < 1:
        raise UsageError(f"workers must be 1 or more, got {workers}")
    with _folder(cache) as folder, _executor(min(workers, max(1, 2 * len(jobs)))) as executor:
        # All headers first: what is wrong with a clip shows before anything takes long.
        # Threads will do for that, while the workers start.
        with ThreadPoolExecutor(max_workers=workers) as threads:
            plans = list(threads.map(partial(_plan, seconds, masks, folder), jobs))
        run = _Run(
            executor, folder, workers, [plan for plan in plans if isinstance(plan, Plan)], progress
        )
        run.failures |= {plan.job: plan for plan in plans if isinstance(plan, Failure)}
        samples = run.samples()
    return Evaluation(
        samples=tuple(samples[job] for job in jobs if job in samples),
        failures=tuple(run.failures[job] for job in jobs if job in run.failures),
        notes=tuple(plan.note for plan in plans if isinstance(plan, Plan) and plan.note),
    )


def _plan(seconds: float, masks: str, folder: Path, job: Job) -> Plan | Failure:
    try:
        return plan_job(job, seconds=seconds, masks=masks, read=partial(known_take, folder))
    except (VideoError, UsageError) as error:
        return Failure(job, str(error))


class _Run:
    """Work in the order in which it becomes possible: a job when both of its takes are known."""

    def __init__(
        self, executor: Executor, folder: Path, workers: int, plans: Sequence[Plan], progress: bool
    ) -> None:
        self.failures: dict[Job, Failure] = {}
        self._executor, self._folder, self._workers = executor, folder, workers
        self._plans, self._progress = plans, progress
        self._names = {take: take.cache_name() for plan in plans for take in plan.takes}
        # The same take may serve several jobs.
        self._unknown = {
            take: None for take, name in self._names.items() if not (folder / name).exists()
        }

    def samples(self) -> dict[Job, Sample]:
        from tqdm import tqdm

        samples: dict[Job, Sample] = {}
        waiting: deque[RealClip | Plan] = deque(self._unknown)
        waiting.extend(plan for plan in self._plans if not self._lacks(plan))
        running: dict[Future[Any], RealClip | Plan] = {}
        total = len(self._unknown) + len(self._plans)
        with tqdm(
            total=total, unit="clip", file=sys.stderr, leave=False, disable=not self._progress
        ) as bar:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    work = waiting.popleft()
                    running[self._submit(work)] = work
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    work = running.pop(future)
                    if isinstance(work, RealClip):
                        self._finish_take(work, future, waiting)
                    else:
                        self._finish_job(work, future, samples)
                    bar.update()
        return samples

    def _lacks(self, plan: Plan) -> bool:
        return any(take in self._unknown for take in plan.takes)

    def _submit(self, work: RealClip | Plan) -> Future[Any]:
        if isinstance(work, RealClip):
            return self._executor.submit(_remember, work, self._folder / self._names[work])
        return self._executor.submit(work.sample, self._folder)

    def _finish_take(
        self, take: RealClip, future: Future[Any], waiting: deque[RealClip | Plan]
    ) -> None:
        concerned = [plan for plan in self._plans if take in plan.takes]
        try:
            future.result()
        except VideoError as error:
            self.failures |= {plan.job: Failure(plan.job, str(error)) for plan in concerned}
            return
        del self._unknown[take]
        waiting.extend(plan for plan in concerned if not self._lacks(plan))

    def _finish_job(self, plan: Plan, future: Future[Any], samples: dict[Job, Sample]) -> None:
        try:
            samples[plan.job] = future.result()
        except VideoError as error:
            self.failures[plan.job] = Failure(plan.job, str(error))


def _remember(take: RealClip, path: Path) -> None:
    write_looks(path, take.looks())


@contextmanager
def _folder(cache: str | Path | None) -> Iterator[Path]:
    if cache == "":
        with tempfile.TemporaryDirectory(prefix="physics_iq_") as temporary:
            yield Path(temporary)
    else:
        yield default_folder() if cache is None else user_path(cache)


@contextmanager
def _executor(workers: int) -> Iterator[Executor]:
    if workers == 1:
        yield _Here()
        return
    # Each worker is one of many: BLAS must not start threads for itself in all of them.
    threads = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(dict.fromkeys(threads, "1"))
    pool = ProcessPoolExecutor(workers, _context(), _leave_quietly)
    try:
        for _ in range(workers):
            pool.submit(os.getpid)  # a worker starts when work is handed in
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _context() -> multiprocessing.context.BaseContext:
    """Workers that inherit nothing of this process: it may have threads, locks and a GPU."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # NumPy and FFmpeg are loaded once for all of them
    return context


def _leave_quietly() -> None:
    """In a worker: Ctrl-C ends it, removing what it was writing, without a traceback of its own."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))


class _Here(Executor):
    """Runs everything at once in this process."""

    def submit(
        self,
        fn: Callable[_Takes, _Returns],
        /,
        *args: _Takes.args,
        **kwargs: _Takes.kwargs,
    ) -> Future[_Returns]:
        future: Future[_Returns] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except WMRewardError as error:
            future.set_exception(error)
        return future
