"""Video tensors → surprise, batched over windows and videos, differentiable in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast, get_args

import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.protocols import Latents, WorldModel
from wmreward.surprise.aggregate import WindowScores, select_windows
from wmreward.surprise.config import ScoreRule, SurpriseConfig
from wmreward.surprise.inputs import check_finite_pixels, check_range
from wmreward.surprise.tokens import copy_surprise, window_surprise
from wmreward.surprise.windows import (
    Layout,
    Window,
    WindowQueue,
    cut_windows,
    gather_windows,
    seam_windows,
)

_Item = TypeVar("_Item")

_TO_UNIT = ": of values from 0 to 1 it is video * 2 - 1, of 0 to 255 video / 127.5 - 1"

_PARTS = ("predicted", "observed", "last_context")
"""What there is of latents."""

_COPY = "copy"
"""The rule of a prediction that copies the last context latent."""


class Chosen(NamedTuple):
    """A window of one of the videos, and its part in the score."""

    video: int
    window: Window
    weight: float = 1.0


class GradientScores(NamedTuple):
    """Scores of a batch of videos, their gradient, and the windows they come from.

    Attributes:
        scores: ``[B]``.
        gradient: ``[B, 3, T, H, W]``: each video's own score with respect to it.
        windows: All windows, without gradient.
    """

    scores: Tensor
    gradient: Tensor
    windows: WindowScores


class SurpriseScorer:
    """The surprise of a world model as a function of a video.

    Args:
        model: Any :class:`wmreward.protocols.WorldModel`; its parameters are expected not to
            require gradients. Or the name of one of ours, such as ``tiny``.
        config: What is computed.
        batch_size: Windows per forward pass. More is faster until the device is busy and costs
            memory in proportion.
        grad_batch_size: Windows per forward-and-backward pass.
    """

    def __init__(
        self,
        model: WorldModel | str,
        config: SurpriseConfig | None = None,
        *,
        batch_size: int = 32,
        grad_batch_size: int = 4,
    ) -> None:
        self.model = _by_name(model) if isinstance(model, str) else model
        self.config = SurpriseConfig() if config is None else config
        if not isinstance(self.config, SurpriseConfig):
            raise UsageError(f"config must be a SurpriseConfig, not a {type(config).__name__}")
        self.batch_size = batch_size
        self.grad_batch_size = grad_batch_size
        tokens = self.model.config
        if getattr(tokens, "action_conditioned", False):
            raise UsageError(
                f"model {tokens.name!r} predicts from what a robot did: use compute_vjepa_surprise with "
                "motion"
            )
        self.config.check_tubelet(tokens.tubelet, tokens.name)

    @property
    def rules(self) -> tuple[str, ...]:
        """What :meth:`score_rules` computes."""
        every: tuple[ScoreRule, ...] = get_args(ScoreRule)
        if self.config.similarity == "token":
            every = (self.config.score,)  # the others compare tokens one by one
        return (*every, _COPY)

    @property
    def target_offset(self) -> int:
        """Frames from a window's start to its first predicted frame: the context in whole tubelets."""
        tubelet = self.model.config.tubelet
        return self.config.context_frames // tubelet * tubelet

    @property
    def layout(self) -> Layout:
        """How the frames of a window are divided."""
        return Layout(self.config.window_size, self.target_offset, self.model.config.tubelet)

    def windows(self, num_frames: int) -> list[Window]:
        """All windows of a clip; raises ``UsageError`` if it is too short for a frame stride."""
        config = self.config
        return cut_windows(num_frames, config.window_size, config.stride, config.frame_strides)

    def seam(self, num_frames: int, given: int) -> list[Window]:
        """The windows whose context was given and whose future is new; see :func:`.seam_windows`."""
        size, strides = self.config.window_size, self.config.frame_strides
        return seam_windows(num_frames, given, size, self.target_offset, strides)

    def __call__(self, video: Tensor, windows: Sequence[Window] | None = None) -> Tensor:
        """Score each video: ``[B, 3, T, H, W]`` in [−1, 1] → ``[B]``; by all windows, or the mean of some.

        Differentiable with respect to ``video`` (once, not twice). Windows are processed
        ``grad_batch_size`` at a time and their gradients added up, so memory does not grow with
        the length of the video. Rules that keep few windows (max, median, topk) score first and
        then differentiate only those.

        Raises:
            UsageError: values far outside [−1, 1], or none. :meth:`score` does not look: what a generator
                decodes on its way may lie there.

        Warns:
            VideoWarning: values a little outside.
        """
        _check_videos(video)
        check_finite_pixels(video)
        check_range(video.detach(), "-1,1", "the [-1, 1] that a scorer takes", _TO_UNIT)
        return self.score(video, windows)[0]

    def score(
        self, video: Tensor, windows: Sequence[Window] | None = None
    ) -> tuple[Tensor, WindowScores]:
        """The same, with the windows (without gradient) that the scores come from."""
        _check_videos(video)
        if not (video.requires_grad and torch.is_grad_enabled()):
            found = self.score_pixels(self.model.preprocess(video), windows)
            return found.pooled(self._mode(windows)), found
        scored = self.score_and_gradient(video.detach(), windows)
        return with_gradient(video, scored.scores, scored.gradient), scored.windows

    def _mode(self, windows: Sequence[Window] | None) -> str:
        """Chosen windows are all meant."""
        return self.config.mode if windows is None else "mean"

    def score_windows(self, video: Tensor) -> WindowScores:
        """Score every window of ``[B, 3, T, H, W]`` in [−1, 1], by plain autograd if the video
        requires gradients.
        """
        _check_videos(video)
        return self.score_pixels(self.model.preprocess(video))

    def score_pixels(self, pixels: Tensor, windows: Sequence[Window] | None = None) -> WindowScores:
        """Score all windows of preprocessed ``[B, 3, T, crop, crop]``, or some."""
        windows = self.windows(pixels.shape[2]) if windows is None else windows
        return self._score_chosen(pixels, windows, _of_all(pixels, windows), self.batch_size)

    @torch.no_grad()
    def score_parts(self, parts: Iterable[Tensor]) -> WindowScores:
        """Score all windows of one video ``[1, 3, t, H, W]`` in [−1, 1] that arrives in parts.

        Keeps only the frames that a later window still needs. The result equals scoring all at once.
        """
        config, scored = self.config, list[WindowScores]()
        queue = WindowQueue(config.window_size, config.stride, config.frame_strides)
        kept: Tensor | None = None
        first = total = 0  # number of the first frame that is kept; frames that have come
        for pixels in map(self.model.preprocess, parts):
            total += pixels.shape[2]
            kept = pixels if kept is None else torch.cat([kept, pixels], dim=2)
            if ready := queue.complete(total):
                here = [Window(window.start - first, window.frame_stride) for window in ready]
                scored.append(self.score_pixels(kept, here)._replace(windows=ready))
            needed = min(max(first, queue.needed), total)
            kept, first = kept[:, :, needed - first :], needed
        windows = self.windows(total)  # raises: too short
        return WindowScores.joined(scored).ordered(windows)

    def score_rules(
        self, video: Tensor, windows: Sequence[Window] | None = None
    ) -> dict[str, WindowScores]:
        """All windows of ``[B, 3, T, H, W]`` in [−1, 1], or some, by all rules of the surprise, and for a
        prediction that copies the last context latent (``copy``), from one pass; without gradient.
        """
        _check_videos(video)
        windows = self.windows(video.shape[2]) if windows is None else windows
        found: dict[str, list[tuple[Tensor, Tensor | None]]] = {rule: [] for rule in self.rules}
        for latents in self._latents(video, windows):
            for rule, parts in found.items():
                if rule == _COPY:
                    copied = copy_surprise(latents)
                    parts.append((copied.mean(dim=(1, 2)), copied))
                else:
                    parts.append(
                        window_surprise(latents, replace(self.config, score=cast(ScoreRule, rule)))
                    )
        return {name: self._joined(parts, len(video), windows) for name, parts in found.items()}

    def observed_latents(self, video: Tensor, windows: Sequence[Window] | None = None) -> Tensor:
        """The latents of the future of every window, or some, ``[B, W, t, n, D]``, as the model sees them."""
        _check_videos(video)
        windows = self.windows(video.shape[2]) if windows is None else windows
        every = self._latents(video, windows)
        observed = torch.cat([latents.observed for latents in every])
        return observed.unflatten(0, (len(video), -1))

    @torch.no_grad()
    def _latents(self, video: Tensor, windows: Sequence[Window]) -> Iterator[Latents]:
        """Of windows, in portions."""
        pixels = self.model.preprocess(video)
        for chunk in even_chunks(_of_all(pixels, windows), self.batch_size):
            yield self._future(self._gathered(pixels, chunk))

    def _future(self, frames: Tensor, *, context_grad: bool = False) -> Latents:
        """Latents of windows ``[N, 3, w, crop, crop]``; raises ``UsageError`` if they are none."""
        latents = self.model.future_latents(
            frames, self.config.context_frames, context_grad=context_grad
        )
        tokens = self.model.config
        if not all(isinstance(getattr(latents, part, None), Tensor) for part in _PARTS):
            raise UsageError(
                f"model {tokens.name!r}: future_latents must return an object, such as a NamedTuple, whose "
                f"{', '.join(_PARTS)} are tensors, not a {type(latents).__name__} without: see "
                "wmreward.protocols.Latents"
            )
        z, h = latents.predicted, latents.observed
        if z.ndim != 4 or z.shape != h.shape or z.shape[2] != tokens.grid**2:
            raise UsageError(
                f"model {tokens.name!r} must predict and observe latents [B, t, {tokens.grid**2}, D] alike, "
                f"not {list(z.shape)} and {list(h.shape)}"
            )
        return latents

    def _gathered(self, pixels: Tensor, which: Sequence[Chosen]) -> Tensor:
        places = ((chosen.video, chosen.window) for chosen in which)
        return gather_windows(pixels, places, self.config.window_size)

    def _joined(
        self,
        parts: Sequence[tuple[Tensor, Tensor | None]],
        videos: int,
        windows: Sequence[Window],
    ) -> WindowScores:
        """Portions of windows, put together by video."""
        shape, grid = (videos, -1), self.model.config.grid
        maps = [part for _, part in parts if part is not None]
        return WindowScores(
            torch.cat([values for values, _ in parts]).unflatten(0, shape),
            torch.cat(maps).unflatten(-1, (grid, grid)).unflatten(0, shape) if maps else None,
            windows,
        )

    def _score_chosen(
        self,
        pixels: Tensor,
        windows: Sequence[Window],
        which: Sequence[Chosen],
        batch_size: int,
        gradient: Tensor | None = None,
    ) -> WindowScores:
        """Score ``which``, equally many of each video: ``windows`` says how they are to be called."""
        return self._joined(self._parts(pixels, which, batch_size, gradient), len(pixels), windows)

    def _parts(
        self,
        pixels: Tensor,
        which: Sequence[Chosen],
        batch_size: int,
        gradient: Tensor | None,
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Values and maps of ``which``, in portions.

        With ``gradient`` (like ``pixels``), adds the gradient of every window to it, by its weight.
        """
        parts: list[tuple[Tensor, Tensor | None]] = []
        for chunk in even_chunks(which, batch_size):
            frames = self._gathered(pixels, chunk)
            with torch.set_grad_enabled(gradient is not None or torch.is_grad_enabled()):
                if gradient is not None:
                    frames.requires_grad_()
                latents = self._future(frames, context_grad=self.config.context_grad)
                value, token_map = window_surprise(latents, self.config)
            if gradient is not None:
                weights = value.new_tensor([chosen.weight for chosen in chunk])
                (part,) = torch.autograd.grad(value, frames, weights)
                for chosen, of_frames in zip(chunk, part, strict=True):
                    place = chosen.window.frames(0, self.config.window_size)
                    gradient[chosen.video, :, place] += of_frames
                value, token_map = value.detach(), None if token_map is None else token_map.detach()
            parts.append((value, token_map))
        return parts

    def score_and_gradient(
        self, video: Tensor, windows: Sequence[Window] | None = None
    ) -> GradientScores:
        """Scores and gradients of ``[B, 3, T, H, W]`` in [−1, 1]; see :meth:`__call__`."""
        _check_videos(video)
        mode = self._mode(windows)
        windows = self.windows(video.shape[2]) if windows is None else windows
        leaf = video.detach().requires_grad_()
        with torch.enable_grad():
            preprocessed = self.model.preprocess(leaf)
        pixels = preprocessed.detach()
        gradient = torch.zeros_like(pixels)
        if mode == "mean":
            share = _shares(windows)
            every = [
                chosen._replace(weight=share[chosen.window]) for chosen in _of_all(pixels, windows)
            ]
            found = self._score_chosen(pixels, windows, every, self.grad_batch_size, gradient)
            scores = found.pooled("mean")
        else:
            with torch.no_grad():
                found = self.score_pixels(pixels, windows)
            scores = self._differentiated_again(pixels, found, gradient)
        (gradient,) = torch.autograd.grad(preprocessed, leaf, gradient)
        return GradientScores(scores, gradient, found)

    def _differentiated_again(
        self, pixels: Tensor, found: WindowScores, gradient: Tensor
    ) -> Tensor:
        """Scores from the windows alone that the mode keeps, whose gradients are added to ``gradient``."""
        which: list[list[Chosen]] = [[] for _ in pixels]
        first, strides = 0, found.by_stride()
        for values in strides.values():
            kept = select_windows(values, self.config.mode)
            weight = 1 / (kept.shape[1] * len(strides))
            for video, row in enumerate(kept.tolist()):
                which[video] += [Chosen(video, found.windows[first + i], weight) for i in row]
            first += values.shape[1]
        named = [chosen.window for chosen in which[0]]  # of the other videos they are other windows
        flat = [chosen for row in which for chosen in row]
        return self._score_chosen(pixels, named, flat, self.grad_batch_size, gradient).pooled(
            "mean"
        )


def with_gradient(video: Tensor, scores: Tensor, gradient: Tensor) -> Tensor:
    """Scores ``[B]``, differentiable once: ``gradient`` is that of each with respect to its own ``video``."""
    attached: Tensor = _AttachGradient.apply(video, scores, gradient)
    return attached


class _AttachGradient(torch.autograd.Function):
    """Gives scores the gradient that was computed with them, as each chunk's graph is freed at once."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, scores: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return scores.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_scores.to(gradient.dtype)[:, None, None, None, None], None, None


def _by_name(name: str) -> WorldModel:
    from wmreward.surprise.models import ModelChoice, load  # only a name needs to know our models

    return load(ModelChoice(name=name)).model


def _check_videos(video: Any) -> None:
    """Raise ``UsageError`` for anything but floating-point ``[B, 3, T, H, W]``."""
    if not isinstance(video, Tensor):
        found = f"a {type(video).__name__}"
    elif video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point():
        found = f"{str(video.dtype).removeprefix('torch.')} {list(video.shape)}"
    else:
        return
    raise UsageError(
        f"a scorer takes tensors [B, 3, T, H, W] in [-1, 1], not {found}: of one video it is video[None], of "
        "uint8 frames video.float() / 127.5 - 1; compute_vjepa_surprise takes more"
    )


def _of_all(pixels: Tensor, windows: Sequence[Window]) -> list[Chosen]:
    """These windows of every video."""
    return [Chosen(video, window) for video in range(len(pixels)) for window in windows]


def _shares(windows: Sequence[Window]) -> dict[Window, float]:
    """The part of each window in a mean over windows and frame strides."""
    counts = Counter(window.frame_stride for window in windows)
    return {window: 1 / (counts[window.frame_stride] * len(counts)) for window in windows}


def even_chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Split into the fewest chunks of at most ``size``, as equal as can be.

    Equal shapes keep compiled kernels from being built again for an odd last chunk.
    """
    count = -(-len(items) // size)
    step, extra = divmod(len(items), count)
    start = 0
    for i in range(count):
        end = start + step + (i < extra)
        yield items[start:end]
        start = end
