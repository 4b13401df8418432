"""Candidates of one request: made, judged, compared, and the best taken as the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed as dist

from magi1.parallel.groups import Place
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress, say
from wmreward.generation.search.compared import Compared, agree, sentence
from wmreward.generation.workshop import Makes, told_and_drawn
from wmreward.pictures.extra import has_pictures
from wmreward.rewards.compare import sums_evenly
from wmreward.rewards.shown import in_words
from wmreward.search.best_of_n import Choice, FileJudge, prune, search
from wmreward.search.candidates import Candidate, CandidateStore
from wmreward.search.report import choice_gain, choice_table, draw_choice, drowning
from wmreward.search.ways import content_hash, ways_of

_PATIENCE = timedelta(days=30)
"""Groups wait for the slowest one, which may have a long video more to make."""

_FACTS = ("frames", "fps", "size", "seconds", "batch", "peak_memory_bytes", "device")


def searched(workshop: Makes, guard: Callable[[], None]) -> dict[str, Any] | None:
    """Make and judge the candidates, write the best one and what shows the choice.

    Args:
        workshop: The generator.
        guard: See `Output`.

    Returns:
        The record beside the output, on the process that reports.
    """
    job, crew = workshop.job, ProcessCrew(workshop.place)
    plan = job.search
    assert plan is not None
    with Progress(shown=crew.is_first) as progress:
        guided = SeedMaker(workshop, progress, plan.settings, guard)
        choice = _search(workshop, guided, plan.seeds, crew)
        plain = None
        if plan.compare and job.steering.settings():
            settings = {
                key: value
                for key, value in plan.settings.items()
                if key not in (*job.steering.settings(), "together")
            }
            maker = SeedMaker(workshop, progress, settings, guard, steered=False)
            plain = _search(workshop, maker, plan.seeds[:1], crew)
        shown = guided.name(plan.seeds[0])
        gone = plan.compare and not (guided.folder / shown).exists()
        crew.wait()
        if gone and crew.group == 0:  # an earlier run did not keep it
            guided.make(plan.seeds[:1])
    crew.wait()
    return _concluded(workshop, guided, choice, plain) if crew.is_first else None


class SeedMaker:
    """Makes candidates of a request for :func:`wmreward.search.best_of_n.search`.

    Args:
        workshop: The generator and its steering.
        progress: Told of every step.
        settings: All that decides a candidate but its seed.
        guard: See `Output`.
        steered: Whether guidance and particles act.

    Attributes:
        folder: Where videos go.
        batch: Seeds at once.
    """

    def __init__(
        self,
        workshop: Makes,
        progress: Progress,
        settings: Mapping[str, Any],
        guard: Callable[[], None],
        *,
        steered: bool = True,
    ) -> None:
        assert workshop.job.search is not None
        self.workshop, self.progress = workshop, progress
        self.settings, self.guard, self.steered = dict(settings), guard, steered
        self.batch = workshop.job.search.batch if steered else 1
        self.folder = workshop.job.output.beside(".candidates")

    def output(self, seed: int) -> Output:
        """Where the video of a seed goes."""
        settings = self.settings | {"seed": seed}
        key = Output(Path(), self.settings).settings_id[:8]
        name = f"{key}-seed{seed}{self.workshop.job.output.path.suffix}"
        return Output(self.folder / name, settings, guard=self.guard)

    def name(self, seed: int) -> str:
        return self.output(seed).path.name

    def make(self, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        records = {seed: self.output(seed).record() for seed in seeds}
        missing = [seed for seed, record in records.items() if record is None]
        if missing:
            made = self._made(list(seeds) if self.batch is None else missing)
            records |= {record["seed"]: record for record in made}
        return [_facts(record) for record in records.values() if record is not None]

    def _made(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        if self.workshop.place.rank == 0:
            plain = "" if self.steered else ", without guidance, to compare with"
            say(f"seed {', '.join(map(str, seeds))}{plain}")
        outputs = [self.output(seed) for seed in seeds]
        return self.workshop.make(seeds, outputs, self.progress, steered=self.steered)


class ProcessCrew:
    """Groups of processes that share a video each, as `torchrun` started them."""

    def __init__(self, place: Place) -> None:
        self.group, self.groups = place.replica, place.replicas
        self.writes = place.rank == 0
        self.is_first = self.writes and place.replica == 0
        self._all = None
        if dist.is_initialized():
            self._all = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def wait(self) -> None:
        if self._all is not None:
            dist.barrier(self._all)


def _search(workshop: Makes, maker: SeedMaker, seeds: Sequence[int], crew: ProcessCrew) -> Choice:
    plan, rewards = workshop.job.search, workshop.job.steering.rewards
    assert plan is not None and rewards is not None
    prompt = workshop.job.request.prompt
    prompt = prompt if isinstance(prompt, str) else " ".join(prompt)
    before = None if plan.context is None else content_hash(plan.context)
    store = CandidateStore(
        maker.folder / "candidates.jsonl",
        {**maker.settings, "judged_by": rewards.settings()},
        ways_of(rewards, {"before_sha256": before}, lambda _: prompt),
        part=crew.group if crew.groups > 1 else None,
    )
    return search(
        seeds,
        maker,
        FileJudge(workshop.steering, workshop.device, before=plan.context, prompt=prompt),
        workshop.steering,
        store,
        folder=maker.folder,
        crew=crew,
        tell=_tell,
    )


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the store keeps of a record; guidance step by step stays beside the video."""
    facts = {key: record[key] for key in _FACTS}
    if guided := record.get("guidance"):
        facts["guidance"] = {key: guided[key] for key in ("summary", "effect")}
    if particles := record.get("particles"):
        facts["lineage"] = particles["lineage"]
    return facts


def _tell(candidate: Candidate) -> None:
    record = candidate.record
    scores = in_words(record["scores"])
    guided = record.get("guidance")
    say(f"seed {record['seed']}: {scores}" + (f"; {guided['summary']}" if guided else ""))


def _concluded(
    workshop: Makes, maker: SeedMaker, choice: Choice, plain: Choice | None
) -> dict[str, Any]:
    """Write the best candidate, the sheet and the comparison; show the table."""
    job, plan = workshop.job, workshop.job.search
    assert plan is not None

    def seed(place: int) -> str:
        return f"seed {plan.seeds[place]}"

    files = []
    if has_pictures():
        files.append(job.output.beside(".candidates.png"))
        videos = [maker.folder / candidate.name for candidate in choice.candidates]
        prompt = job.request.prompt
        title = prompt if isinstance(prompt, str) else prompt[0]
        draw_choice(files[0], choice, videos.__getitem__, seed, title=title)
    else:
        say("no contact sheet: it needs the extra plot (pip install -e '.[plot]' in the clone)")
    say(choice_table(choice, "candidate", seed))
    if len(plan.seeds) > 1:
        say(choice_gain(choice))
    rewards = job.steering.rewards
    assert rewards is not None
    if sums_evenly(rewards.weights, rewards.how) and (note := drowning(choice)):
        say(f"note: {note}")
    best = maker.output(choice.winner.record["seed"])
    own = best.record()
    assert own is not None, f"{best.path} was just made"
    told_and_drawn(job, own)
    found: dict[str, Any] = {"folder": str(maker.folder), "candidates": choice.rows()}
    last = ""
    if plan.compare:
        files.append(job.output.beside(f".compare{job.output.path.suffix}"))
        found["compared"], last = _compared(workshop, maker.folder, choice, plain, files[-1])
    for path in files:
        say(f"wrote {path}")
    if last:
        say(last)
    record = {
        **own,
        "candidates_id": plan.candidates_id,
        "seed": own["seed"],
        "search": found,
    }
    output = replace(job.output, guard=maker.guard)
    whole = output.adopt(best, {k: v for k, v in record.items() if k not in _OWN})
    prune(choice, maker.folder, plan.keep)
    return whole


_OWN = ("output", "settings_id", "settings")
"""What a record says of the file it stands beside."""


def _compared(
    workshop: Makes, folder: Path, choice: Choice, plain: Choice | None, path: Path
) -> tuple[dict[str, Any], str]:
    """Write plain, guided and chosen side by side; what a record keeps of it, and one sentence."""
    job, plan = workshop.job, workshop.job.search
    assert plan is not None and job.steering.rewards is not None
    steered = "guided" if job.steering.guidance is not None else "particle"
    compared = Compared.of(choice, plain, steered)
    for line in compared.lines():
        say(line)
    compared.write(path, folder, job.request.given)
    own, rewards, judge = compared.scores, job.steering.rewards, plan.judge
    kept: dict[str, Any] = {"by": rewards.settings(), "independent": False, "scores": own}
    said = own
    if judge is not None:
        said = compared.judged(judge, folder, workshop.device, plan.context)
        kept = {"by": judge.settings(), "independent": True, "scores": said}
        kept |= {"guiding_scores": own, "agrees": agree(own, said)}
    return kept, sentence(rewards, judge, own, said)
