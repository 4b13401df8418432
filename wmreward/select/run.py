"""The run behind `wmreward.select.cli`: judge what is not judged yet, compare within groups, report."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wmreward.commands.flags import Values
from wmreward.devices import find_device
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.files import user_path
from wmreward.protocols import VideoFacts
from wmreward.ranks import Ranks, joined
from wmreward.records.lock import Lock, reserved
from wmreward.records.scored import Record, faults_of
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.compare import Comparison, Judged, in_source
from wmreward.rewards.known import comparing
from wmreward.rewards.mix import RewardMix
from wmreward.scoring.report import rate_warning
from wmreward.scoring.settings import with_rates
from wmreward.search.best_of_n import Choice, FileJudge, choose
from wmreward.search.candidates import Candidate, CandidateStore
from wmreward.search.ways import ways_of
from wmreward.select.show import Showing, say
from wmreward.surprise.models.simulated import meaningless
from wmreward.surprise.result import Clock
from wmreward.surprise.sampling import Sampling
from wmreward.video.ahead import Feed, decode_ahead
from wmreward.video.content import video_sha256
from wmreward.video.find import notes_on
from wmreward.video_io import Clip, Reduction


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        groups: Candidates by what they have in common.
        notes: What is to be known of the videos, a line each.
        prompts: Of videos, by their path, as far as a table says.
        rewards: How they are judged.
        sampling: Which of their frames.
        strict: Refuse videos about which something is doubtful.
        output: Where records are kept, or None.
        showing: What people get.
        workers: Videos decoded ahead.
    """

    groups: Mapping[str, Sequence[Path]]
    notes: tuple[str, ...]
    prompts: Mapping[str, str]
    rewards: RewardChoice
    sampling: Sampling
    strict: bool
    output: Path | None
    showing: Showing
    workers: int


def job_from(
    flags: Values,
    found: Mapping[Path, str | None],
    groups: Mapping[str, Sequence[Path]],
    left_out: Sequence[Path] = (),
) -> Job:
    """Check what of the flags `wmreward.select.early` cannot, before anything is loaded.

    Args:
        flags: Of the command line.
        found, left_out: The videos that they name, see `videos_of`.
        groups: The same, by what they have in common.

    Raises:
        UsageError: flags that make no sense.
        WMRewardError: weights that are not there.
    """
    values = with_rates(flags, flags.given)
    rewards = RewardChoice.from_flags(values, default_model="vitg")
    sampling = Sampling(**{name: values[name] for name in ("max_frames", "fps", "image_fps")})
    output = None if values["output"] is None else user_path(values["output"])
    for path, prompt in found.items():
        rewards.check_prompt(prompt, of=str(path))
    rewards.check_weights()
    return Job(
        groups=groups,
        notes=notes_on(
            list(found), left_out, None if "image_fps" in flags.given else sampling.image_fps
        ),
        prompts={str(path): prompt for path, prompt in found.items() if prompt is not None},
        rewards=rewards,
        sampling=sampling,
        strict=values["strict"],
        output=output,
        showing=Showing.from_flags(flags),
        workers=values["read_ahead"],
    )


def run(job: Job) -> int:
    """Judge, compare and report; returns the exit code."""
    with joined() as ranks, tempfile.TemporaryDirectory() as temporary:
        if job.output is None and ranks.world > 1:
            raise UsageError("several processes need --output FILE to work together")
        with reserved(job.output, ranks) as lock:
            return _run(job, ranks, lock, Path(temporary))


def _run(job: Job, ranks: Ranks, lock: Lock, temporary: Path) -> int:
    for note in job.notes if ranks.is_first else ():
        say(note)
    seen = {"sampling": job.sampling.to_json()}
    store = CandidateStore(
        job.output or temporary / "selection.jsonl",
        {**job.rewards.settings(), **seen},
        ways_of(job.rewards, seen, job.prompts.get),
        part=ranks.rank if ranks.world > 1 else None,
    )
    ranks.on_first(store.recover)
    store.load()
    device = ranks.device(job.rewards.model.device)
    mix = LazyMix(job.rewards, find_device(device))
    if ranks.world > 1:
        ranks.in_turn(mix.load)
    fatal, failed = None, {}
    try:
        failed = _judge_all(job, ranks, lock, store, mix)
    except WMRewardError as error:
        fatal = error
    failures = [found for part in ranks.gather(failed) for found in part.items()]
    ranks.agree(fatal)
    ranks.on_first(store.recover)
    store.load()
    ranks.on_first(lambda: _conclude(job, store, dict(failures)))
    return int(bool(failures))


class LazyMix:
    """Rewards that are loaded when the first video is to be judged: with all of them judged, never."""

    def __init__(self, rewards: RewardChoice, device: torch.device) -> None:
        self.rewards, self.device = rewards, device
        self._once = threading.Lock()
        self._mix: RewardMix | None = None

    def load(self) -> RewardMix:
        """The rewards; threads that decode ask for them, too."""
        with self._once:
            if self._mix is None:
                self._mix = self.rewards.load(self.device)
            return self._mix

    def reduction(self) -> Reduction:
        """See `RewardMix.reduction`."""
        return self.load().reduction()

    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        """See `RewardMix.judge`."""
        return self.load().judge(video, facts, only)


def _judge_all(
    job: Job,
    ranks: Ranks,
    lock: Lock,
    store: CandidateStore,
    mix: LazyMix,
) -> dict[Path, str]:
    """Judge this rank's share; returns what went wrong with which videos."""
    everything = [(path, group) for group, paths in job.groups.items() for path in paths]
    share = dict(item for _, item in ranks.share(everything))
    judge = FileJudge(mix, mix.device, job.sampling)
    # Whole frames of several videos at once would be too much.
    workers = job.workers if job.rewards.sees_little else 0
    failed: dict[Path, str] = {}

    def plan(path: Path) -> tuple[str, Candidate | None]:
        sha256 = video_sha256(path)
        known = store.find(str(path), sha256)
        if job.strict and known is not None and faults_of(known.record) is None:
            known = None  # it does not tell whether anything was doubtful
        return sha256, known

    def clips(path: Path, known: tuple[str, Candidate | None]) -> Generator[Clip, None, None]:
        if known[1] is None:
            yield from job.sampling.clips(path, mix.reduction())

    def work(feed: Feed[tuple[str, Candidate | None]]) -> None:
        try:
            name = str(feed.path)
            sha256, known = feed.plan()
            if known is None:
                asked = replace(judge, prompt=job.prompts.get(name))
                judged, seen = _judged(asked, feed, store.missing(name, sha256))
            else:
                judged, seen = Judged({}, {}, {}), known.record
            faults = faults_of(seen)
            if faults and job.strict:
                raise VideoError(feed.path, f"{faults} (--strict refuses it)")
        except VideoError as error:  # what is wrong with one video must not stop the others
            failed[feed.path] = str(error)
            say(str(error))
            return
        if faults:
            say(f"warning: {feed.path}: {faults}; judged all the same (--strict refuses it)")
        own = store.find(name)
        if known is None or own is None or own.sha256 != sha256:  # perhaps under another name
            lock.check()
            told = {fact: seen[fact] for fact in _SEEN if fact in seen}
            store.add(name, sha256, judged, {"group": share[feed.path], **told})

    for feed in decode_ahead(share, plan, clips, workers):
        work(feed)
    return failed


_SEEN = ("effective_fps", "source_fps", "faults")
"""Of a record: how a video was seen, whatever judges it."""


def _judged(judge: FileJudge, feed: Feed[Any], only: Collection[str]) -> tuple[Judged, Record]:
    """What some rewards say of a video, at frames of the file, and how it was seen."""
    clock = Clock()
    judged = judge.of(clock.noting(feed.clips()), feed.path, only)
    return replace(judged, curves=in_source(judged.curves, clock.indices)), {
        "effective_fps": clock.effective_fps,
        "source_fps": clock.source_fps,
        "faults": clock.faults.to_json(),
    }


def _conclude(job: Job, store: CandidateStore, failed: Mapping[Path, str]) -> None:
    """Compare within groups; write, copy, draw and print."""
    compares = Comparison(job.rewards.weights, job.rewards.how, compare=comparing)
    ranked: list[Candidate] = []
    for number, (group, paths) in enumerate(job.groups.items(), 1):
        names = [str(path) for path in paths if path not in failed]
        candidates = [found for name in names if (found := store.find(name)) is not None]
        if not candidates:
            say(f"no video of group {group!r} could be judged")
            continue
        choice = choose(candidates, store, compares)
        ranked += _ranked(choice, group)
        job.showing.group(number, group, choice)
    records = [candidate.record for candidate in ranked]
    if records and (note := rate_warning(records, asked=job.sampling.fps is not None)):
        say(note)
    hashes = {Path(candidate.name): candidate.sha256 for candidate in ranked}
    for model in job.rewards.world_models:
        if note := meaningless(model.name, model.weights, hashes):
            say(f"note: {note}")
    if job.output is not None:
        store.rewrite(ranked)
    job.showing.end()


def _ranked(choice: Choice, group: str) -> list[Candidate]:
    """Candidates whose records say how they did among the others."""
    out = []
    for rank, place in enumerate(choice.order, 1):
        candidate = choice.candidates[place]
        told = {
            "group": group,
            "rank": rank,
            "candidates": len(choice.candidates),
            "total": choice.totals[place],
            "table": {name: values[place] for name, values in choice.table.items()},
            "winner": rank == 1,
        }
        settings = {"settings": candidate.record["settings"]}
        out.append(Candidate(candidate.name, {**candidate.record, **told, **settings}))
    return out
