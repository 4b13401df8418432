"""The run behind the command line: decode ahead, score, record, report."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

import torch

from vjepa2 import WeightsError
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.pictures.plot import surprise_figure, write_figure
from wmreward.ranks import Ranks, joined
from wmreward.records.lock import Lock, reserved
from wmreward.records.rates import rates_note
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import (
    Finished,
    Record,
    faults_of,
    in_input_order,
    make_record,
    settings_id,
)
from wmreward.scoring.pictures import WaitingMaps, curve_of, widest
from wmreward.scoring.report import (
    SPEED_TOLERANCE,
    Row,
    printable,
    rate_warning,
    short_names,
    summary,
    table,
)
from wmreward.scoring.settings import Job
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.models.fault import fault_of, has_damaged_weights
from wmreward.surprise.models.simulated import meaningless
from wmreward.surprise.reduce import seen_by
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video.ahead import Feed, decode_ahead
from wmreward.video.content import video_sha256
from wmreward.video_io import Clip


def run(job: Job) -> int:
    """Score all videos of ``job`` and return the exit code."""
    file = job.output.path if job.output else None
    with joined() as ranks, reserved(file, ranks) as lock:
        ranks.on_first(lambda: _recover(job.output))
        choice = replace(job.choice, device=ranks.device(job.choice.device))
        with _begun(job, choice, ranks) as early:
            scorer = ranks.in_turn(lambda: _scorer(job, choice))
            for remark in (*job.notes, *scorer.loaded.info.remarks()) if ranks.is_first else ():
                _say(remark)
            shift = Shift(job, ranks, scorer, lock, early)
            rows = shift.work()
        everyone = [row for part in ranks.gather(rows) for row in part.items()]
        ordered = [row for _, row in sorted(everyone, key=lambda item: item[0])]
        ranks.agree(shift.fatal)
        shift.draw_maps()
        if ranks.is_first:
            shift.conclude(ordered)
        # Nobody leaves, perhaps with exit code 1, before the first has concluded.
        ranks.agree(shift.fatal)
    return int(any(row.record is None for row in ordered))


def load_weights(choice: ModelChoice, *, rehash: bool = False) -> LoadedModel:
    """The model; what is wrong with weights or memory is a ``WMRewardError``."""
    try:
        return load(choice, rehash=rehash)
    except WeightsError as error:
        raise WMRewardError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise WMRewardError(
            f"not enough memory for model {choice.name}; try --dtype bfloat16, --device cpu or --model vitl"
        ) from error


def _recover(output: RecordFile | None) -> None:
    """Take in what a killed run left behind."""
    if output is not None:
        output.repair()
        output.merge_parts()


def _scorer(job: Job, choice: ModelChoice) -> VideoScorer:
    load_weights(choice)
    return VideoScorer(choice, job.config, job.sampling, batch_size=job.batch_size)


@contextmanager
def _begun(job: Job, choice: ModelChoice, ranks: Ranks) -> Iterator[dict[Path, Feed[str]]]:
    """The first video of this rank, hashed and decoded while the weights are on their way.

    Not where an earlier run may have scored it, nor where the model has a way of its own to take frames.
    """

    def clips(path: Path, _: str) -> Generator[Clip, None, None]:
        yield from job.sampling.clips(path, seen_by(choice.config.crop, choice.torch_device()))

    first = [path for _, path in ranks.share(job.videos)][:1]
    other_way = choice.is_own or job.motion is not None
    if other_way or (job.output is not None and job.output.path.exists()):
        first = []
    early = {path: Feed(path, video_sha256, clips) for path in first}
    feeds = list(early.values())
    try:
        yield early
    finally:
        for feed in feeds:
            feed.close()


@dataclass(frozen=True)
class _Plan:
    """What is known of a video before it is decoded.

    Attributes:
        early: Decodes it already, if anything does.
        sha256: Of its content.
        known: Its record by an earlier run.
        pictures: Those that are wanted and not there.
    """

    early: Feed[str] | None
    sha256: str
    known: Record | None = None
    pictures: list[Path] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return self.known is not None and not self.pictures


class Shift:
    """The work of one rank.

    Attributes:
        fatal: What ended it early, if anything did.
    """

    def __init__(
        self,
        job: Job,
        ranks: Ranks,
        scorer: VideoScorer,
        lock: Lock,
        early: dict[Path, Feed[str]],
    ) -> None:
        self.early = early
        self.job, self.ranks, self.scorer, self.lock = job, ranks, scorer, lock
        self.settings = scorer.settings | {"actions_sha256": job.motion_sha256}
        self.id = settings_id(self.settings)
        self.finished = Finished(job.output.read() if job.output else [], self.id)
        self.output = job.output
        if job.output and ranks.world > 1:
            self.output = job.output.part(ranks.rank)
        self.maps = WaitingMaps()
        self.fatal: WMRewardError | None = None
        self.told_rate = False

    def work(self) -> dict[int, Row]:
        """Score this rank's share; rows by place in the whole list."""
        share = self.ranks.share(self.job.videos)
        feeds = decode_ahead([path for _, path in share], self._plan, self._clips, self.job.workers)
        rows: dict[int, Row] = {}
        try:
            for (place, _), feed in zip(share, self._shown(feeds, len(share)), strict=True):
                rows[place] = self._row(feed)
                if self.job.as_json and self.ranks.world == 1:
                    print(rows[place].json_line(), flush=True)
                if self.fatal is not None:
                    break
        except WMRewardError as error:
            self.fatal = error
        except KeyboardInterrupt:
            self._show_unsaved(rows)
            raise
        if self.fatal is not None:
            self._show_unsaved(rows)
        return rows

    def draw_maps(self) -> None:
        """Draw the map videos of this rank, on the one scale of all ranks."""
        scale = widest(self.ranks.gather(self.maps.scale()))
        try:
            for path in self.maps.draw(scale):
                _say(f"wrote {path}")
        except WMRewardError as error:
            self.fatal = error

    def conclude(self, rows: Sequence[Row]) -> None:
        """Merge the output of all ranks and report, on the first of them."""
        if self.job.output is not None and self.ranks.world > 1:
            self.job.output.merge_parts(
                lambda records: in_input_order(records, self.job.videos, self.id)
            )
        names = short_names([row.path for row in rows])
        drawn = (curve_of(row, name) for row, name in zip(rows, names, strict=True))
        if self.job.plot_all and (curves := [curve for curve in drawn if curve is not None]):
            try:
                write_figure(self.job.plot_all, surprise_figure(curves))
                _say(f"wrote {self.job.plot_all}")
            except WMRewardError as error:
                self.fatal = error
        if not self.job.as_json:
            print(table(rows, self.job.form), flush=True)
        elif self.ranks.world > 1:
            print("\n".join(row.json_line() for row in rows), flush=True)
        records, asked = [row.record for row in rows], self.scorer.sampling.fps is not None
        warning = rate_warning(records, asked=asked)
        if warning and not (self.told_rate and len(rows) == 1):
            _say(warning)
        if note := rates_note(record for record in records if record):
            _say(note)
        hashes = {row.path: row.record["video_sha256"] for row in rows if row.record}
        if note := meaningless(self.job.choice.name, self.job.choice.weights, hashes):
            _say(f"note: {note}")
        if len(rows) > 1 or any(row.was_known for row in rows):
            _say(summary(rows))

    def _plan(self, path: Path) -> _Plan:
        early = self.early.pop(path, None)
        sha256 = video_sha256(path) if early is None else early.plan()
        pictures = self.job.pictures.paths(path, sha256, self.id)
        missing = [picture for picture in pictures if not picture.exists()]
        known = self.finished.find(path, sha256)
        if self.job.strict and known is not None and faults_of(known) is None:
            known = None  # it does not tell whether anything was doubtful
        return _Plan(early, sha256, known, missing)

    def _clips(self, path: Path, plan: _Plan) -> Generator[Clip, None, None]:
        if plan.early is not None:
            yield from plan.early.clips()
        elif not plan.is_done:
            yield from self.scorer.sampling.clips(path, self.scorer.reduction())

    def _shown(self, feeds: Iterator[Feed[_Plan]], total: int) -> Iterator[Feed[_Plan]]:
        """The same, with a progress bar where somebody sees it and it is in nobody's way."""
        in_the_way = self.job.as_json and sys.stdout.isatty()
        hidden = total < 2 or in_the_way or not self.ranks.is_first or not sys.stderr.isatty()
        if hidden:
            yield from feeds
            return
        from tqdm import tqdm

        yield from tqdm(feeds, total=total, unit="video", file=sys.stderr, leave=False)

    def _row(self, feed: Feed[_Plan]) -> Row:
        """Score one video; what is wrong with it alone must not stop the others."""
        try:
            return self._score(feed)
        except (VideoError, UsageError) as error:
            reason: str = str(error) if isinstance(error, VideoError) else f"{feed.path}: {error}"
            cause: BaseException = error
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            reason, cause = f"{feed.path}: {self._memory_advice()}", error
        if self.job.debug:
            traceback.print_exception(cause)
        reason = " ".join(reason.splitlines())
        _say(reason)
        return Row(feed.path, error=reason)

    def _score(self, feed: Feed[_Plan]) -> Row:
        begun = time.perf_counter()
        plan = feed.plan()
        record, result = plan.known, None
        if not plan.is_done:
            result = self._result(feed)
            record = record or self._record(feed, plan, result, begun)
        assert record is not None
        if faults := faults_of(record):
            if self.job.strict:
                raise VideoError(feed.path, f"{faults} (--strict refuses it)")
            _say(f"warning: {feed.path}: {faults}; scored all the same (--strict refuses it)")
        if self.output is not None and record not in self.finished:
            self.lock.check()
            self.output.append(record)
        if result is not None:
            self._draw(plan, result)
        return Row(feed.path, record, was_known=plan.known is not None)

    def _result(self, feed: Feed[_Plan]) -> SurpriseResult:
        clips = self._telling_rate(feed.clips(), feed.path)
        result = self.scorer.score_clips(clips, feed.path, self.job.motion)
        if not isfinite(result):
            raise self._no_number(feed.path)
        if self.job.strict and result.faults:
            raise VideoError(feed.path, f"{result.faults} (--strict refuses it)")
        return result

    def _telling_rate(self, clips: Iterable[Clip], path: Path) -> Iterator[Clip]:
        """The same; says once, before the work, that a rate is asked for which a video does not have."""
        for clip in clips:
            asked, own = self.scorer.sampling.fps, clip.source.fps
            if asked is not None and asked > own * (1 + SPEED_TOLERANCE) and not self.told_rate:
                self.told_rate = True
                _say(
                    f"note: {path} has {own:g} frames a second, and {asked:g} are asked for: each comes "
                    f"{asked / own:.1f} times, which takes longer and makes the surprise mean little: "
                    "ask for less"
                )
            yield clip

    def _record(
        self, feed: Feed[_Plan], plan: _Plan, result: SurpriseResult, begun: float
    ) -> Record:
        pictures = self.job.pictures.paths(feed.path, plan.sha256, self.id)
        seconds = time.perf_counter() - begun
        return make_record(feed.path, plan.sha256, result, self.settings, seconds, pictures)

    def _draw(self, plan: _Plan, result: SurpriseResult) -> None:
        """The pictures; where they cannot be written no other can be, and the score is not lost by it."""
        try:
            for picture in self.job.pictures.draw_plot(plan.pictures, result):
                _say(f"wrote {picture}")
            self.maps.add(plan.pictures, result)
        except WMRewardError as error:
            self.fatal = error

    def _no_number(self, path: Path) -> WMRewardError:
        """The error of a surprise that is not finite: of this video, or of all."""
        model = self.scorer.loaded.model
        if has_damaged_weights(model):
            return WMRewardError(fault_of(model))
        return VideoError(path, f"its surprise is no finite number: {fault_of(model)}")

    def _memory_advice(self) -> str:
        where = "GPU memory" if self.scorer.loaded.model.device.type == "cuda" else "memory"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return (
            f"out of {where}; try a smaller --batch_size than {self.scorer.batch_size}, "
            "or --dtype bfloat16"
        )

    def _show_unsaved(self, rows: dict[int, Row]) -> None:
        """Results that are in no file would be lost with an interrupted run."""
        if rows and self.job.output is None and not self.job.as_json:
            print(table(list(rows.values()), self.job.form), flush=True)


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch has a class of its own only for GPUs.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or (
        "allocate memory" in str(error)
    )


def _say(text: str) -> None:
    """One line on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    # A file name may hold line ends and commands for the terminal.
    tqdm.write(printable(text), file=sys.stderr)
