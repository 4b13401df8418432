"""The run behind `wmreward.select.cli`: judge what is not judged yet, compare within groups, report."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from wmreward.commands.flags import Values
from wmreward.devices import find_device
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.files import user_path
from wmreward.protocols import VideoFacts
from wmreward.ranks import Ranks, joined
from wmreward.records.lock import Lock, reserved
from wmreward.records.scored import video_sha256
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.compare import Comparison, Judged
from wmreward.rewards.known import comparing
from wmreward.rewards.mix import RewardMix
from wmreward.scoring.simulated import meaningless
from wmreward.search.best_of_n import Choice, FileJudge, choose
from wmreward.search.candidates import Candidate, CandidateStore
from wmreward.search.ways import ways_of
from wmreward.select.groups import in_groups, videos_of
from wmreward.select.show import Showing, say
from wmreward.surprise.inputs import Sampling
from wmreward.surprise.rates import with_rates
from wmreward.video.ahead import Feed, decode_ahead
from wmreward.video_io import Clip


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        groups: Candidates by what they have in common.
        prompts: Of videos, by their path, as far as a table says.
        rewards: How they are judged.
        sampling: Which of their frames.
        output: Where records are kept, or None.
        showing: What people get.
        workers: Videos decoded ahead.
    """

    groups: Mapping[str, Sequence[Path]]
    prompts: Mapping[str, str]
    rewards: RewardChoice
    sampling: Sampling
    output: Path | None
    showing: Showing
    workers: int


def job_from(flags: Values) -> Job:
    """Check all flags and find the videos, before anything is loaded.

    Raises:
        UsageError: flags that make no sense, videos that are not there.
        WMRewardError: weights that are not there.
    """
    values = with_rates(flags, flags.given)
    rewards = RewardChoice.from_flags(values, default_model="vitg")
    sampling = Sampling(max_frames=values["max_frames"], fps=values["fps"])
    if sampling.fps is None and sampling.max_frames < rewards.min_frames:
        raise UsageError(
            f"--max_frames {sampling.max_frames} is too few: the reward needs {rewards.min_frames}"
        )
    output = None if values["output"] is None else user_path(values["output"])
    showing = Showing.from_flags(flags)
    if output is not None and output.suffix.lower() != ".jsonl":
        raise UsageError(f"--output {output} must end in .jsonl")
    found = videos_of(values["video_path"])
    groups = in_groups(found, values["group_by"])
    for path, prompt in found.items():
        rewards.check_prompt(prompt, of=str(path))
    rewards.check_weights()
    return Job(
        groups=groups,
        prompts={str(path): prompt for path, prompt in found.items() if prompt is not None},
        rewards=rewards,
        sampling=sampling,
        output=output,
        showing=showing,
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
    seen = {"sampling": vars(job.sampling)}
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

    @cached_property
    def mix(self) -> RewardMix:
        return self.rewards.load(self.device)

    def load(self) -> None:
        _ = self.mix

    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        """See `RewardMix.judge`."""
        return self.mix.judge(video, facts, only)


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
    failed: dict[Path, str] = {}

    def plan(path: Path) -> tuple[str, Candidate | None]:
        sha256 = video_sha256(path)
        return sha256, store.find(str(path), sha256)

    def clips(path: Path, known: tuple[str, Candidate | None]) -> Generator[Clip, None, None]:
        if known[1] is None:
            yield from job.sampling.clips(path)

    def work(feed: Feed[tuple[str, Candidate | None]]) -> None:
        try:
            name = str(feed.path)
            sha256, known = feed.plan()
            judged = Judged({}, {}, {})
            if known is None:
                asked = replace(judge, prompt=job.prompts.get(name))
                judged = asked.of(feed.clips(), feed.path, store.missing(name, sha256))
        except VideoError as error:  # what is wrong with one video must not stop the others
            failed[feed.path] = str(error)
            say(str(error))
            return
        own = store.find(name)
        if own is None or own.sha256 != sha256:  # perhaps judged under another name
            lock.check()
            store.add(name, sha256, judged, {"group": share[feed.path]})

    for feed in decode_ahead(share, plan, clips, job.workers):
        work(feed)
    return failed


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
    hashes = {Path(candidate.name): candidate.sha256 for candidate in ranked}
    model = job.rewards.model
    if job.rewards.needs_model and (note := meaningless(model.name, model.weights, hashes)):
        say(note)
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
