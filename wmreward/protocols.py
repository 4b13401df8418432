"""What the method asks of its parts: shapes and value ranges of everything that passes between packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class TokenGrid(Protocol):
    """How a world model cuts a clip into tokens."""

    @property
    def name(self) -> str: ...
    @property
    def crop(self) -> int:
        """Side in pixels of the square it sees."""
        ...

    @property
    def grid(self) -> int:
        """Tokens per side of that square, g."""
        ...

    @property
    def tubelet(self) -> int:
        """Frames per token."""
        ...


class Latents(Protocol):
    """Future latents of a batch of windows: t time steps, n = g² tokens each, D features."""

    @property
    def predicted(self) -> Tensor:
        """What the model expects from the context alone, ``[B, t, n, D]``."""
        ...

    @property
    def observed(self) -> Tensor:
        """What it sees in the whole window, ``[B, t, n, D]``."""
        ...

    @property
    def last_context(self) -> Tensor:
        """The last context time step, ``[B, n, D]``."""
        ...


class WorldModel(Protocol):
    """A frozen network that expects a future and sees one; anything of this shape can be scored with."""

    @property
    def config(self) -> TokenGrid: ...
    @property
    def device(self) -> torch.device: ...

    def preprocess(self, video: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [−1, 1] → pixels ``[B, 3, T, crop, crop]``; differentiable."""
        ...

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> Latents:
        """Latents after the first ``context_frames`` of windows ``[B, 3, w, crop, crop]``.

        ``predicted`` must not depend on the later frames, and carries gradient only with ``context_grad``.
        """
        ...


class RewardCurve(NamedTuple):
    """When in a video something counts against it.

    Attributes:
        values: ``[B, S]``, higher is less plausible, without gradient.
        places: The middle of what each of the S speaks of, in frames of the video.
    """

    values: Tensor
    places: Sequence[float]


class RewardScores(NamedTuple):
    """What a reward says of a batch of videos.

    Attributes:
        scores: ``[B]``, higher is better.
        parts: Numbers that it is made of or that explain it, ``[B]`` each, without gradient.
        curve: The same over time, of a reward that knows it.
    """

    scores: Tensor
    parts: Mapping[str, Tensor]
    curve: RewardCurve | None = None


def as_scores(judged: Any, count: int) -> Any:
    """What a reward said of ``count`` videos, in full where it is plain numbers: a tensor ``[count]``, or a
    single number for one video. Anything else is returned as it is.
    """
    if isinstance(judged, Real) and count == 1:
        judged = torch.tensor([float(judged)])
    if isinstance(judged, Tensor) and judged.ndim < 2 and judged.numel() == count:
        return RewardScores(judged.reshape(count), {})
    return judged


class Reward(Protocol):
    """Judges videos one by one.

    Attributes:
        name: For tables and records.
        differentiable: Whether gradients flow from scores to videos: guidance needs them.
    """

    @property
    def name(self) -> str: ...
    @property
    def differentiable(self) -> bool: ...

    def __call__(self, videos: Tensor) -> RewardScores:
        """Score ``[B, 3, T, H, W]`` in [−1, 1]; plain scores will do, see :func:`as_scores`."""
        ...


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a finished video besides its frames.

    Attributes:
        given: How many of its first frames were given.
        fps: Frames per second; None without a clock.
        prompt: What it was made to show; None if nobody said.
    """

    given: int = 0
    fps: float | None = None
    prompt: str | None = None


@runtime_checkable
class InformedReward(Protocol):
    """A reward that wants to know more of a finished video than its frames.

    One that cannot do without has no plain call: it neither guides nor weighs particles.
    """

    def told(self, videos: Tensor, facts: VideoFacts) -> RewardScores:
        """Score ``[B, 3, T, H, W]`` in [−1, 1], all of them of the same facts."""
        ...


@runtime_checkable
class ContinuationReward(Protocol):
    """A reward that guides by where given frames end.

    It judges every chunk that a generator has in flight as the continuation of what comes before it.
    """

    def after(self, videos: Tensor, given: int) -> RewardScores:
        """Score ``[B, 3, T, H, W]`` in [−1, 1], of which the first ``given`` frames were given."""
        ...


@runtime_checkable
class SetReward(Protocol):
    """Judges each of a set of candidates by its relation to the others."""

    @property
    def name(self) -> str: ...

    def embed(self, videos: Tensor) -> Tensor:
        """What is kept of each video ``[B, 3, T, H, W]`` in [−1, 1] for the comparison: ``[B, D]``."""
        ...

    def compare(self, embeddings: Tensor) -> Tensor:
        """Scores ``[N]`` of a whole set from its embeddings ``[N, D]``, higher is better."""
        ...


@runtime_checkable
class PullsBack(Protocol):
    """A decoder that turns gradients at its video into gradients at its latents by itself.

    Guidance needs two of the same video: the reward's, and that of the edges which it may not blur. A decoder
    that knows of both runs once more for the two, part by part, where PyTorch keeps the graph of the whole.
    """

    def pulled_back(self, latents: Tensor, towards: Sequence[Tensor]) -> list[Tensor]:
        """For every gradient of ``towards``, each like the video of ``latents [B, C, T, H, W]``, that of the
        latents, without a graph.
        """
        ...


class DenoiseStep(Protocol):
    """One step of a generator's denoising loop: chunks of latent frames in flight, each at its own time.

    A latent frame stands for several frames of video. Time runs from 0, noise, to 1, data; x ← x + dt · v.
    """

    @property
    def latents(self) -> Tensor:
        """Their state x_t, ``[B, C, T, H, W]``, T = chunks · ``chunk_width``."""
        ...

    @property
    def velocity(self) -> Tensor:
        """The generator's own velocity, like ``latents``."""
        ...

    @property
    def times(self) -> Tensor:
        """Time of each chunk before the step, ``[chunks]``."""
        ...

    @property
    def next_times(self) -> Tensor:
        """Time of each chunk after it."""
        ...

    @property
    def steps(self) -> tuple[int, ...]:
        """Which of its denoising steps each chunk is at, counted from 0."""
        ...

    @property
    def first_chunk(self) -> int:
        """Index of the first chunk in flight in the video."""
        ...

    @property
    def chunk_width(self) -> int:
        """Latent frames per chunk."""
        ...

    @property
    def decode_unit(self) -> int:
        """Latent frames that are decoded independently of others, counted from the video's beginning."""
        ...

    @property
    def frames_per_latent(self) -> int:
        """Frames of video that a latent frame stands for."""
        ...

    @property
    def given(self) -> int:
        """How many of the first latent frames in flight are given: shown as they are, not generated."""
        ...

    @property
    def finished(self) -> Tensor:
        """All latents before the chunks in flight, ``[B, C, T', H, W]``: fixed context."""
        ...

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        """x₀ = x_t + (1 − t) v of each chunk."""
        ...

    def model(self, latents: Tensor) -> Tensor:
        """The velocity as a differentiable function of the state."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents → video ``[B, 3, T, H, W]`` in about [−1, 1]; differentiable.

        May be a property with an object that also :class:`PullsBack`, which is then asked for gradients.
        """
        ...

    def resample(self, ancestors: Tensor) -> None:
        """Go on, after this step, with copies of the batch's rows ``ancestors [B]``."""
        ...
