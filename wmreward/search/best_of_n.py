"""Best-of-N: a generator makes videos for seeds, rewards judge the files, a store keeps what they say.

    choice = search(seeds, makes, judge, mix, store, folder=folder)
    choice.winner.name                                   # of choice.candidates, in order of the seeds

A finished candidate is never made again: not after the run was killed, not when more are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wmreward.errors import UsageError, VideoError
from wmreward.protocols import VideoFacts
from wmreward.ranks import Ranks
from wmreward.records.lock import reserved
from wmreward.rewards.compare import Judged
from wmreward.search.candidates import Candidate, CandidateStore, ranking
from wmreward.surprise.reduce import tensor_of
from wmreward.surprise.sampling import Sampling
from wmreward.video.content import video_sha256
from wmreward.video_io import MAX_CLIP_BYTES, Clip

ALL_FRAMES = Sampling(max_frames=2**40)

Judge = Callable[[Path, Collection[str]], Judged]

_TOO_LONG = (
    f"its frames take more than the {MAX_CLIP_BYTES >> 30} GiB that are judged at once: a lower --fps, or "
    "--max_frames; wmreward score has no such limit"
)


class Maker(Protocol):
    """A generator. What it makes of a seed is always the same."""

    @property
    def batch(self) -> int | None:
        """Seeds at once, at most; None: all of a run belong together, none can be made alone."""
        ...

    def name(self, seed: int) -> str:
        """File of a seed's video below the folder; other settings have other names."""
        ...

    def make(self, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        """Write the videos of these seeds, and return what is to be known of each: time, memory, …

        A video that is there whole is not made again.
        """
        ...


class Crew(Protocol):
    """The processes of a run."""

    @property
    def writes(self) -> bool:
        """Whether this one judges and writes what its group makes."""
        ...

    @property
    def is_first(self) -> bool:
        """Whether this one also does what is done once."""
        ...

    @property
    def groups(self) -> int:
        """How many groups of processes there are; each makes videos of its own."""
        ...

    @property
    def group(self) -> int:
        """Which of them this one is in."""
        ...

    def wait(self) -> None:
        """Until all processes are here."""
        ...


class Alone:
    """A single process."""

    writes = is_first = True
    groups, group = 1, 0

    def wait(self) -> None:
        pass


@dataclass(frozen=True)
class Choice:
    """The outcome.

    Attributes:
        candidates: In the order in which they were asked for.
        totals: Of each; the highest wins.
        table: Scores of every reward, ``[N]`` each.
    """

    candidates: list[Candidate]
    totals: list[float]
    table: Mapping[str, list[float]]

    def __repr__(self) -> str:
        best = max(self.totals)
        return f"Choice({self.winner.name!r} of {len(self.candidates)}, reward {best:.6g})"

    @property
    def order(self) -> list[int]:
        """Places in ``candidates``, the best first."""
        return ranking(self.totals)

    @property
    def winner(self) -> Candidate:
        return self.candidates[self.order[0]]

    def rows(self) -> list[dict[str, Any]]:
        """One for each candidate, the best first: rank, name, total, and the scores of every reward."""
        return [
            {
                "rank": rank,
                "path": self.candidates[place].name,
                "total": self.totals[place],
                "scores": {name: values[place] for name, values in self.table.items()},
            }
            for rank, place in enumerate(self.order, 1)
        ]


class Compares(Protocol):
    """What compares judged candidates, such as a ``RewardMix``."""

    def table(self, candidates: Sequence[Judged]) -> Mapping[str, Tensor]:
        """Scores ``[N]`` of every reward."""
        ...

    def totals(self, candidates: Sequence[Judged]) -> Tensor:
        """``[N]``; the highest wins."""
        ...


def choose(candidates: Sequence[Candidate], store: CandidateStore, mix: Compares) -> Choice:
    """Compare judged candidates."""
    judged = [store.judged(candidate) for candidate in candidates]
    table = {name: values.tolist() for name, values in mix.table(judged).items()}
    return Choice(list(candidates), mix.totals(judged).tolist(), table)


class JudgesVideos(Protocol):
    """What says what there is to say of a single video."""

    def judge(
        self,
        video: Tensor,
        facts: VideoFacts | None = None,
        only: Collection[str] | None = None,
    ) -> Judged:
        """Of ``[3, T, H, W]`` in [−1, 1], by all rewards or some."""
        ...


@dataclass(frozen=True)
class FileJudge:
    """Judges video files as they are, so that it does not matter who made them, or when.

    Args:
        mix: The rewards, such as a ``RewardMix``.
        device: Where they run.
        sampling: Which frames; all by default.
        before: Frames that the video continues, uint8 ``[T, H, W, 3]``: judged with it.
        prompt: What videos were made to show.
    """

    mix: JudgesVideos
    device: torch.device
    sampling: Sampling = ALL_FRAMES
    before: Tensor | None = None
    prompt: str | None = None

    def __call__(self, path: Path, only: Collection[str] | None = None) -> Judged:
        """What all rewards say, or some; raises ``VideoError`` for a file that is unreadable or too short."""
        return self.of(self.sampling.clips(path), path, only)

    def of(self, clips: Iterable[Clip], path: Path, only: Collection[str] | None = None) -> Judged:
        """The same for a file that is decoded already, to whole frames or by ``RewardMix.reduction``."""
        parts = [] if self.before is None else [self.before.movedim(-1, 0)]
        times: list[float] = []
        size = 0
        for clip in clips:
            size += clip.frames.nbytes
            if size > MAX_CLIP_BYTES:
                raise VideoError(path, _TOO_LONG)
            parts.append(tensor_of(clip))
            times += clip.times_s.tolist()
        video = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).to(self.device)
        if video.dtype == torch.uint8:
            video = video.float().div_(127.5).sub_(1)
        facts = VideoFacts(
            given=0 if self.before is None else len(self.before),
            fps=_rate(times),
            prompt=self.prompt,
        )
        try:
            return self.mix.judge(video, facts, only)
        except UsageError as error:
            raise VideoError(path, str(error)) from error


def _rate(times_s: Sequence[float]) -> float | None:
    """Frames per second; None without a clock."""
    span = times_s[-1] - times_s[0] if times_s else 0.0
    return (len(times_s) - 1) / span if span > 0 else None


def search(
    seeds: Sequence[int],
    maker: Maker,
    judge: Judge,
    mix: Compares,
    store: CandidateStore,
    *,
    folder: Path,
    crew: Crew | None = None,
    tell: Callable[[Candidate], None] = lambda _: None,
) -> Choice:
    """Have all candidates made and judged, and choose.

    Args:
        seeds: Of the candidates.
        maker: The generator.
        judge: From a file, and the rewards that are wanted, to what they say.
        mix: How that is compared.
        store: Where it is kept.
        folder: Where videos go.
        crew: The processes that share the work; all call this.
        tell: Told of every candidate as it is finished.

    Raises:
        InUse: another run makes candidates there.
    """
    crew = crew or Alone()
    with reserved(store.file, Ranks()) if crew.is_first else nullcontext() as lock:
        check = (lambda: None) if lock is None else lock.check
        return _search(seeds, maker, judge, mix, store, folder, crew, tell, check)


def _search(
    seeds: Sequence[int],
    maker: Maker,
    judge: Judge,
    mix: Compares,
    store: CandidateStore,
    folder: Path,
    crew: Crew,
    tell: Callable[[Candidate], None],
    check: Callable[[], None],
) -> Choice:
    def complete(missing: Sequence[int]) -> None:
        work = _batches(missing, seeds, maker.batch, crew.groups)
        for batch in work[crew.group :: crew.groups]:
            for seed, facts in zip(batch, maker.make(batch), strict=True):
                if crew.writes:
                    keep(seed, facts)

    def keep(seed: int, facts: Mapping[str, Any]) -> None:
        name = maker.name(seed)
        sha256, known = video_sha256(folder / name), store.find(name)
        if known is None or known.sha256 != sha256:
            judged = judge(folder / name, store.missing(name, sha256))
            check()
            tell(store.add(name, sha256, judged, {"seed": seed, **facts}))

    def gather() -> None:
        crew.wait()
        if crew.is_first:
            store.recover()
        crew.wait()
        store.load()

    gather()
    missing = [seed for seed in seeds if store.find(maker.name(seed)) is None]
    complete(missing)
    gather()
    choice = choose([_found(store, maker, seed) for seed in seeds], store, mix)
    gone = not (folder / choice.winner.name).exists()  # an earlier run did not keep it
    crew.wait()
    if gone:
        complete([choice.winner.record["seed"]])
        gather()
    return choice


def prune(choice: Choice, folder: Path, keep: int | None) -> None:
    """Remove the videos of all but the ``keep`` best candidates, and their latents; None keeps all."""
    for place in choice.order[keep:] if keep is not None else ():
        video = folder / choice.candidates[place].name
        for file in (video, video.with_suffix(".safetensors")):
            file.unlink(missing_ok=True)


def _batches(
    missing: Sequence[int], seeds: Sequence[int], batch: int | None, groups: int
) -> list[Sequence[int]]:
    """What is made together: at most ``batch``, and fewer where a group would have nothing to do."""
    if not missing:
        return []
    if batch is None:
        return [seeds]
    size = min(batch, -(-len(missing) // groups))
    return [missing[start : start + size] for start in range(0, len(missing), size)]


def _found(store: CandidateStore, maker: Maker, seed: int) -> Candidate:
    found = store.find(maker.name(seed))
    assert found is not None, f"seed {seed} was just made"
    return found
