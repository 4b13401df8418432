"""A wish → the plain video beside the guided one, both of the same noise, made by the small generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from magi1.parallel.groups import Place
from magi1.sampling.schedule import ChunkCall
from wmreward.app.limits import LONGEST_PROMPT, check_clip, check_size
from wmreward.app.models import SMALL
from wmreward.devices import find_device
from wmreward.errors import UsageError
from wmreward.generation.configured import configuration
from wmreward.generation.flags import TINY_CONFIG, build_parser
from wmreward.generation.job import Job, context_of, job_from
from wmreward.generation.output import Output
from wmreward.generation.progress import Progress
from wmreward.generation.steering_flags import GUIDANCE_SCALE
from wmreward.generation.workshop import Workshop
from wmreward.pictures.side_by_side import Side, write_side_by_side
from wmreward.prompts.jobs import read_jobs
from wmreward.rewards.shown import shown_score
from wmreward.search.best_of_n import FileJudge
from wmreward.video.types import UInt8Array
from wmreward.video_io import IMAGE_SUFFIXES, read_frames

_SHOWN_BEFORE = 16
"""Given frames that the comparison begins with."""
_PLAIN_SHARE = 0.25
"""Of the time: a guided step takes about three times as long as a plain one."""

_PROMPTS = Path(__file__).parents[2] / "prompt"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be generated.

    Attributes:
        prompt: What the video shows, in English.
        start: An image that opens it, or a clip that it continues.
        seed: Of the noise.
        scale: Strength of the guidance.
    """

    prompt: str
    start: Path | None = None
    seed: int = 0
    scale: float = GUIDANCE_SCALE

    def check(self) -> None:
        """Raise ``UsageError`` or ``VideoError`` unless it can be tried."""
        if not self.prompt.strip():
            raise UsageError("say in a few words what the video shows")
        if len(self.prompt) > LONGEST_PROMPT:
            raise UsageError(
                f"the text has {len(self.prompt)} characters: this page takes up to {LONGEST_PROMPT}"
            )
        if not self.scale > 0:
            raise UsageError("the strength of the guidance must be above 0")
        if self.start is not None:
            (check_size if self.is_image else check_clip)(self.start)

    @property
    def is_image(self) -> bool:
        return self.start is not None and self.start.suffix.lower() in IMAGE_SUFFIXES

    def flags(self) -> list[str]:
        """The same for the command line."""
        if self.start is None:
            mode, given = "t2v", []
        elif self.is_image:
            mode, given = "i2v", [f"--init_image={self.start}"]
        else:
            mode, given = "v2v", [f"--init_video={self.start}"]
        return [
            *(f"--prompt={self.prompt}", f"--mode={mode}", f"--seed={self.seed}"),
            *(f"--guidance_scale={self.scale}", f"--model={SMALL}", *given),
        ]


@dataclass(frozen=True)
class Pair:
    """What came of a wish.

    Attributes:
        video: Plain beside guided, each with its surprise.
        plain, guided: The surprise of each by what guided: of a continued clip at the seam, as
            `wmreward generate --compare` shows it.
        notes: Lines about how the wish was understood.
    """

    video: Path
    plain: float
    guided: float
    notes: list[str]


def generate(
    wish: Wish,
    folder: Path,
    device: str = "auto",
    *,
    config_file: str = TINY_CONFIG,
    on_step: Callable[[float, str], None] = lambda _share, _text: None,
) -> Pair:
    """Make both videos and write the comparison.

    Args:
        wish: What.
        folder: Where to; empty.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        config_file: The generator.
        on_step: Told which share of the work is done, from 0 to 1, and what is being made.

    Raises:
        UsageError, MagiUsageError, VideoError: a wish that cannot be met.
    """
    wish.check()
    flags = [
        f"--output={folder / 'guided.mp4'}",
        f"--device={device}",
        f"--config_file={config_file}",
    ]
    values = build_parser().read([*wish.flags(), *flags])
    job = job_from(configuration(values), values)
    found = find_device(job.device)
    workshop = Workshop(job, found, Place(found))
    made: dict[str, Path] = {}
    frames: dict[str, UInt8Array] = {}
    for name, first, share in (("plain", 0.0, _PLAIN_SHARE), ("guided", _PLAIN_SHARE, 1.0)):
        output = Output(folder / f"{name}.mp4", job.output.settings | {"guided": name == "guided"})
        with _Told(f"{name} video", first, share, on_step) as progress:
            (record,) = workshop.make([job.seed], [output], progress, steered=name == "guided")
        made[name] = output.path
        frames[name] = read_frames(output.path, range(record["frames"]))
    rewards = job.steering.rewards
    assert rewards is not None, "a strength above 0 guides"
    (name,) = rewards.weights  # surprise, or seam where a clip is continued
    judge = FileJudge(
        workshop.steering, found, before=context_of(job.request.given, rewards, job.config)
    )
    scores = {which: shown_score(name, judge(path).scores[name]) for which, path in made.items()}
    video = folder / "plain_beside_guided.mp4"
    _write(video, job, frames, scores)
    return Pair(video, **scores, notes=[str(cut) for cut in job.cut])


class _Told(Progress):
    """Tells a function instead of drawing a bar."""

    def __init__(
        self, what: str, first: float, last: float, on_step: Callable[[float, str], None]
    ) -> None:
        super().__init__(shown=False)
        self.what, self.first, self.last, self.on_step = what, first, last, on_step
        self.done, self.steps = 0, 1

    def start(self, calls: Sequence[ChunkCall], done: int) -> None:
        self.done, self.steps = done, len(calls)
        self._tell()

    def __call__(self, call: ChunkCall, latents: Tensor) -> None:
        self.done += 1
        self._tell()

    def _tell(self) -> None:
        share = self.first + (self.last - self.first) * self.done / self.steps
        self.on_step(share, f"{self.what}, step {self.done} of {self.steps}")


def _write(path: Path, job: Job, frames: dict[str, UInt8Array], scores: dict[str, float]) -> None:
    """Both side by side, after the end of what they continue."""
    given = job.request.given
    # An image is itself the first frame of what was made of it.
    before = [] if given is None or len(given) == 1 else [given[-_SHOWN_BEFORE:].numpy()]
    sides = [
        Side(name, np.concatenate([*before, own]), f"surprise {scores[name]:.4f}")
        for name, own in frames.items()
    ]
    write_side_by_side(path, sides, job.config.runtime_config.fps, given=sum(map(len, before)))


@dataclass(frozen=True)
class Example:
    """A beginning that comes along in a clone, and what happens in it."""

    prompt: str
    start: Path


def examples() -> list[Example]:
    """Those of the job list of the small generator; none where only the package is installed."""
    jobs = _PROMPTS / "embedded_v2v.jsonl"
    if not jobs.is_file():
        return []
    return [Example(job.prompt, job.init_video) for job in read_jobs(jobs) if job.init_video]
