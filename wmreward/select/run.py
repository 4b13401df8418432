"""The run behind `wmreward.select.cli`: judge what is not judged yet, compare within groups, report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wmreward.commands.flags import Values
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.files import user_path
from wmreward.ranks import Ranks, joined
from wmreward.records.lock import Lock, reserved
from wmreward.records.scored import faults_of, to_json, video_sha256
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.mix import Judged, RewardMix
from wmreward.scoring.report import short_names
from wmreward.scoring.settings import with_rates
from wmreward.scoring.simulated import meaningless
from wmreward.search.best_of_n import Choice, FileJudge, choose
from wmreward.search.candidates import Candidate, CandidateStore
from wmreward.search.report import choice_gain, choice_table, draw_choice
from wmreward.select.copies import copy_winners, slug
from wmreward.select.groups import grouped
from wmreward.surprise.reduce import as_floats
from wmreward.surprise.sampling import Sampling
from wmreward.tables.layout import Format
from wmreward.video.ahead import Feed, decode_ahead
from wmreward.video_io import Clip, Faults


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        groups: Candidates by what they have in common.
        rewards: How they are judged.
        sampling: Which of their frames.
        strict: Refuse videos about which something is doubtful.
        output: Where records are kept, or None.
        copy_to: Where winners go, or None.
        sheets: Where contact sheets go, or None.
        workers: Videos decoded ahead.
        as_json: Print JSON lines instead of tables.
        form: Of the tables.
    """

    groups: Mapping[str, Sequence[Path]]
    rewards: RewardChoice
    sampling: Sampling
    strict: bool
    output: Path | None
    copy_to: Path | None
    sheets: Path | None
    workers: int
    as_json: bool
    form: Format


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
    places = {
        name: None if values[name] is None else user_path(values[name])
        for name in ("output", "copy_to", "contact_sheets")
    }
    output = places["output"]
    if output is not None and output.suffix.lower() != ".jsonl":
        raise UsageError(f"--output {output} must end in .jsonl")
    groups = grouped(values["video_path"], values["group_by"])
    rewards.check_weights()
    return Job(
        groups=groups,
        rewards=rewards,
        sampling=sampling,
        strict=values["strict"],
        output=output,
        copy_to=places["copy_to"],
        sheets=places["contact_sheets"],
        workers=values["read_ahead"],
        as_json=values["json"],
        form=values["format"],
    )


def run(job: Job) -> int:
    """Judge, compare and report; returns the exit code."""
    with joined() as ranks, tempfile.TemporaryDirectory() as temporary:
        if job.output is None and ranks.world > 1:
            raise UsageError("several processes need --output FILE to work together")
        with reserved(job.output, ranks) as lock:
            return _run(job, ranks, lock, Path(temporary))


def _run(job: Job, ranks: Ranks, lock: Lock, temporary: Path) -> int:
    store = CandidateStore(
        job.output or temporary / "selection.jsonl",
        {**job.rewards.settings(), "sampling": vars(job.sampling)},
        part=ranks.rank if ranks.world > 1 else None,
    )
    ranks.on_first(store.recover)
    store.load()
    device = ranks.device(job.rewards.model.device)
    rewards = replace(job.rewards, model=replace(job.rewards.model, device=device))
    mix = ranks.in_turn(rewards.load)
    fatal, failed = None, {}
    try:
        failed = _judge_all(job, ranks, lock, store, rewards, mix)
    except WMRewardError as error:
        fatal = error
    failures = [found for part in ranks.gather(failed) for found in part.items()]
    ranks.agree(fatal)
    ranks.on_first(store.recover)
    store.load()
    ranks.on_first(lambda: _conclude(job, store, mix, dict(failures)))
    return int(bool(failures))


def _judge_all(
    job: Job,
    ranks: Ranks,
    lock: Lock,
    store: CandidateStore,
    rewards: RewardChoice,
    mix: RewardMix,
) -> dict[Path, str]:
    """Judge this rank's share; returns what went wrong with which videos."""
    everything = [(path, group) for group, paths in job.groups.items() for path in paths]
    share = dict(item for _, item in ranks.share(everything))
    judge = FileJudge(mix, rewards.model.torch_device(), job.sampling)
    reduction = mix.reduction()
    # Whole frames of several videos at once would be too much.
    workers = 0 if reduction is as_floats else job.workers
    failed: dict[Path, str] = {}

    def plan(path: Path) -> tuple[str, Candidate | None]:
        sha256 = video_sha256(path)
        known = store.find(str(path), sha256)
        if job.strict and known is not None and faults_of(known.record) is None:
            known = None  # it does not tell whether anything was doubtful
        return sha256, known

    def clips(path: Path, known: tuple[str, Candidate | None]) -> Generator[Clip, None, None]:
        if known[1] is None:
            yield from job.sampling.clips(path, reduction)

    def work(feed: Feed[tuple[str, Candidate | None]]) -> None:
        try:
            sha256, known = feed.plan()
            faults: Faults | None
            if known is None:
                judged, faults = _judged(judge, feed)
            else:
                judged, faults = store.judged(known), faults_of(known.record)
            if faults and job.strict:
                raise VideoError(feed.path, f"{faults} (--strict refuses it)")
        except VideoError as error:  # what is wrong with one video must not stop the others
            failed[feed.path] = str(error)
            _say(str(error))
            return
        if faults:
            _say(f"warning: {feed.path}: {faults}; judged all the same (--strict refuses it)")
        own = store.find(str(feed.path))
        if known is None or own is None or own.sha256 != sha256:  # perhaps under another name
            lock.check()
            told = {} if faults is None else {"faults": faults.to_json()}
            store.add(str(feed.path), sha256, judged, {"group": share[feed.path], **told})

    for feed in decode_ahead(share, plan, clips, workers):
        work(feed)
    return failed


def _judged(judge: FileJudge, feed: Feed[Any]) -> tuple[Judged, Faults]:
    """What there is to say of a video, and what is doubtful about it."""
    faults = Faults()

    def clips() -> Iterator[Clip]:
        nonlocal faults
        for clip in feed.clips():
            faults = clip.faults
            yield clip

    return judge.of(clips(), feed.path), faults


def _conclude(job: Job, store: CandidateStore, mix: RewardMix, failed: Mapping[Path, str]) -> None:
    """Compare within groups; write, copy, draw and print."""
    winners: dict[str, Path] = {}
    ranked: list[Candidate] = []
    for number, (group, paths) in enumerate(job.groups.items(), 1):
        names = [str(path) for path in paths if path not in failed]
        candidates = [found for name in names if (found := store.find(name)) is not None]
        if not candidates:
            _say(f"no video of group {group!r} could be judged")
            continue
        choice = choose(candidates, store, mix)
        winners[group] = Path(choice.winner.name)
        ranked += _ranked(choice, group)
        _show(job, group, choice)
        if job.sheets is not None:
            _draw(job.sheets / f"{number:03d}-{slug(group)}.png", choice)
    hashes = {Path(candidate.name): candidate.sha256 for candidate in ranked}
    model = job.rewards.model
    if job.rewards.needs_model and (note := meaningless(model.name, model.weights, hashes)):
        _say(note)
    if job.output is not None:
        store.rewrite(ranked)
    if job.copy_to is not None:
        for copy in copy_winners(winners, job.copy_to):
            _say(f"wrote {copy}")


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


def _show(job: Job, group: str, choice: Choice) -> None:
    if job.as_json:
        line = {"group": group, "winner": choice.winner.name, "candidates": choice.rows()}
        print(to_json(line), flush=True)
        return
    short = short_names([Path(candidate.name) for candidate in choice.candidates])
    if group:
        print(f"{group}:")
    print(choice_table(choice, "video", short.__getitem__, job.form))
    if job.form == "text":
        print(f"winner: {choice.winner.name}")
        if len(choice.candidates) > 1:
            print(choice_gain(choice))
    print(flush=True)


def _draw(path: Path, choice: Choice) -> None:
    short = short_names([Path(candidate.name) for candidate in choice.candidates])
    draw_choice(path, choice, lambda place: Path(choice.candidates[place].name), short.__getitem__)
    _say(f"wrote {path}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
