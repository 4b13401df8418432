"""`compute_vjepa_surprise`: from a video to its physics surprise."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vjepa2 import VJEPA2
from vjepa2.preprocess import from_uint8
from vjepa2.world_model21 import Levels, Observed, Positions
from wmreward.errors import UsageError, VideoError, VideoWarning
from wmreward.surprise.actions import STEP_RATE, Motion, action_surprise, check_motion
from wmreward.surprise.config import ScoreRule, Similarity, SurpriseConfig
from wmreward.surprise.inputs import Sampling, ValueRange, video_tensor
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.rates import at_rates
from wmreward.surprise.result import SurpriseBatch, SurpriseResult
from wmreward.surprise.scorer import SurpriseScorer, WindowScores
from wmreward.surprise.windows import Window, WindowSpan, frame_maps, reach, window_spans
from wmreward.version import versions
from wmreward.video.types import UInt8Array
from wmreward.video_io import Clip, Faults, Reduction

Video = str | PathLike[str] | NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | Tensor


def compute_vjepa_surprise(
    video: Video,
    model: str | ModelChoice = "vitg",
    window_size: int = 16,
    context_frames: int = 8,
    stride: int = 2,
    mode: str = "mean",
    *,
    frame_strides: Sequence[int] = (1,),
    rates: Sequence[float] | None = None,
    similarity: Similarity = "feature",
    score: ScoreRule = "plain",
    value_range: ValueRange | None = None,
    max_frames: int = 49,
    fps: float | None = None,
    decoder: str = "pyav",
    motion: Motion | None = None,
    context_grad: bool = False,
    weights: str | None = None,
    context_encoder: str | None = None,
    target_encoder: str | None = None,
    mask_token: int | None = None,
    crop: int | None = None,
    positions: Positions | None = None,
    levels: Levels | None = None,
    observed: Observed | None = None,
    teacher_weights: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    compile: bool = False,
    batch_size: int | None = None,
) -> SurpriseResult | SurpriseBatch:
    """How much a latent world model is surprised by a video (arXiv 2601.10553).

    Args:
        video: A path (file or folder of images), a uint8 array ``[T, H, W, 3]``, or a tensor
            ``[3, T, H, W]`` / ``[B, 3, T, H, W]`` with ``value_range``. A tensor that requires
            gradients gives a differentiable ``.score``.
        model: ``vitg`` (the paper's), ``vitl``, ``vith``, ``vitg384``, ``vitgac`` (needs ``motion``), the
            embedded ``tiny``, of V-JEPA 2.1 ``vitb21``, ``vitl21``, ``vitg21``, ``vitG21``, or a
            :class:`.ModelChoice`. Kept in memory between calls.
        window_size, context_frames, stride, mode, frame_strides, similarity, score,
            context_grad: see :class:`~wmreward.surprise.config.SurpriseConfig`.
        rates: Frames per second at which windows see a file, in place of ``frame_strides`` and ``fps``: clips
            of any frame rate are then judged alike. See :func:`~wmreward.surprise.rates.at_rates`.
        value_range: Range of a floating-point tensor: ``"-1,1"``, ``"0,1"`` or ``"0,255"``.
        max_frames, fps, decoder: Which frames of a file are used, see :class:`.Sampling`.
        motion: Real actions and states, for ``vitgac`` only. The video is then sampled at 4 fps.
        weights, context_encoder, target_encoder, mask_token, device, dtype, compile: see
            :class:`~wmreward.surprise.models.ModelChoice`.
        crop, positions, levels, observed, teacher_weights: How a V-JEPA 2.1 model is read, see there.
        batch_size: Windows per forward pass; a fitting number by default.

    Returns:
        A :class:`.SurpriseResult`, or a :class:`.SurpriseBatch` for a batch.

    Raises:
        UsageError: an argument that makes no sense (also a ``ValueError``).
        VideoError: a file that cannot be read.
        WeightsError: weights that cannot be had; says how to get them.

    Warns:
        VideoWarning: a file about which something is doubtful (see ``SurpriseResult.faults``), or values
            outside their range.
    """
    if rates is not None:
        if tuple(frame_strides) != (1,) or fps is not None:
            raise UsageError("rates say which frames are seen: leave out frame_strides and fps")
        if not isinstance(video, str | PathLike):
            raise UsageError("rates are of a file, which has a clock: use frame_strides")
        fps, frame_strides = at_rates(rates)
    config = SurpriseConfig(
        window_size=window_size,
        context_frames=context_frames,
        stride=stride,
        frame_strides=tuple(frame_strides),
        mode=mode,
        similarity=similarity,
        score=score,
        context_grad=context_grad,
    )
    sampling = Sampling(max_frames=max_frames, fps=fps, decoder=decoder)
    choice = (
        model
        if isinstance(model, ModelChoice)
        else ModelChoice(
            name=model,
            weights=weights,
            context_encoder=context_encoder,
            target_encoder=target_encoder,
            mask_token=mask_token,
            crop=crop,
            positions=positions,
            levels=levels,
            observed=observed,
            teacher_weights=teacher_weights,
            device=device,
            dtype=dtype,
            compile=compile,
        )
    )
    if isinstance(video, str | PathLike):
        path = Path(video)
        if not path.exists():  # cheap, before any weights are loaded
            raise VideoError(path, "does not exist")
        scorer = VideoScorer(choice, config, sampling, batch_size=batch_size)
        clips = scorer.sampling.clips(path, scorer.reduction())
        result = scorer.score_clips(clips, path, motion)
        if result.faults:
            warnings.warn(f"{path}: {result.faults}", VideoWarning, stacklevel=2)
        return result
    tensor = video_tensor(video, value_range)
    scorer = VideoScorer(choice, config, sampling, batch_size=batch_size)
    batch = scorer.score_tensor(tensor, motion)
    single = tensor.shape[0] == 1 and np.ndim(video) == 4
    return batch[0] if single else batch


class VideoScorer:
    """A world model with fixed settings, for many videos.

    Args:
        choice: The model.
        config: The surprise.
        sampling: Which frames of a file are used; ``vitgac`` always takes its own 4 a second.
        batch_size: Windows per forward pass.
    """

    def __init__(
        self,
        choice: ModelChoice,
        config: SurpriseConfig,
        sampling: Sampling | None = None,
        *,
        batch_size: int | None = None,
    ) -> None:
        choice.check_comparison(config)
        self.loaded: LoadedModel = load(choice)
        self.choice = choice
        self.config = config
        model = self.loaded.model
        self.sampling = sampling or Sampling()
        if model.config.action_conditioned:
            if config.similarity != "feature" or config.score != "plain":
                raise UsageError(f"model {choice.name!r} has only the plain feature surprise")
            self.sampling = Sampling(fps=STEP_RATE)
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size={batch_size} must be at least 1")
        default = 32 if model.device.type == "cuda" else 4
        self.scorer = SurpriseScorer(model, config, batch_size=batch_size or default)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that determines a score, as it is recorded beside it."""
        choice, info = self.choice, self.loaded.info
        return {
            "model": choice.name,
            "weights_sha256": info.sha256,
            "weights_source": info.source,
            **self.config.to_json(),
            "frame_strides": list(self.config.frame_strides),
            "sampling": asdict(self.sampling),
            "context_encoder": info.context_encoder,
            "target_encoder": info.target_encoder,
            "mask_token": info.mask_token,
            **choice.read_as(),
            **info.compared_with(),
            "dtype": str(choice.torch_dtype()).removeprefix("torch."),
            "device": choice.torch_device().type,
            "versions": versions(),
        }

    def reduction(self) -> Reduction:
        """What is kept of each frame while a video is decoded; see :func:`reduction_for`."""
        model = self.loaded.model
        return reduction_for(model.config.crop, model.device)

    @torch.no_grad()
    def score_clips(
        self, clips: Iterable[Clip], name: Path, motion: Motion | None = None
    ) -> SurpriseResult:
        """Score one video that arrives in parts; memory is bounded by the size of a part.

        ``name`` is the file that messages speak of.
        """
        self._check_motion_given(motion)
        seen: list[Clip] = []

        def parts() -> Iterator[Tensor]:
            for clip in clips:
                # What the result needs of a clip is its clock, not its frames.
                seen.append(_without_frames(clip))
                yield self._video_of(_tensor_of(clip))

        try:
            if motion is not None:
                scores = self._score_motion(torch.cat(list(parts()), dim=2), motion)
            else:
                scores = score_stream(self.scorer, map(self.loaded.model.preprocess, parts()))
            indices = np.concatenate([clip.indices for clip in seen]).tolist()
            times = np.concatenate([clip.times_s for clip in seen]).tolist()
            span = times[-1] - times[0]
            rate = (len(times) - 1) / span if span > 0 else None
            return self._results(
                scores, indices, times, rate, seen[0].source.fps, path=name, faults=seen[-1].faults
            )[0]
        except UsageError as error:  # the video is too short for the settings
            raise VideoError(name, str(error)) from None

    def score_tensor(self, video: Tensor, motion: Motion | None = None) -> SurpriseBatch:
        """Score ``[B, 3, T, H, W]``, uint8 or in [−1, 1]; differentiable if it requires gradients."""
        self._check_motion_given(motion)
        frames = video.shape[2]
        clock = list(range(frames)), [float("nan")] * frames
        if motion is not None:
            scores = self._score_motion(video, motion)
            return self._results(scores, *clock, None, None)
        if video.dtype == torch.uint8 or not (video.requires_grad and torch.is_grad_enabled()):
            with torch.no_grad():
                scores = self.scorer.score_windows(self._video_of(video))
            return self._results(scores, *clock, None, None)
        score, scores = self.scorer.score(video.to(self.loaded.model.device))
        return self._results(scores, *clock, None, None, score)

    def _video_of(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]``, uint8 or in [−1, 1], on any device → in [−1, 1] on the model's."""
        model = self.loaded.model
        video = video.to(model.device, non_blocking=True)
        return from_uint8(video, model.config.crop) if video.dtype == torch.uint8 else video

    def _check_motion_given(self, motion: Motion | None) -> None:
        needs = self.loaded.model.config.action_conditioned
        if needs and motion is None:
            raise UsageError(
                f"model {self.choice.name!r} predicts from what a robot did: it needs real actions and "
                "states (--actions FILE); for other videos use vitg"
            )
        if motion is not None and not needs:
            raise UsageError(f"model {self.choice.name!r} takes no actions; use vitgac")

    def _score_motion(self, video: Tensor, motion: Motion) -> WindowScores:
        check_motion(motion, video.shape[2])
        model = self.loaded.model
        assert isinstance(model, VJEPA2)  # the only one whose configuration knows actions
        video = self._video_of(video)
        actions, states = (
            side.to(model.device)[None].expand(len(video), -1, -1) for side in motion
        )
        steps = action_surprise(
            model, video, actions, states, context_grad=self.config.context_grad
        )
        return WindowScores(
            steps.values, steps.maps, [Window(i) for i in range(video.shape[2] - 1)]
        )

    def _results(
        self,
        scores: WindowScores,
        indices: Sequence[int],
        times: Sequence[float],
        effective_fps: float | None,
        source_fps: float | None,
        score: Tensor | None = None,
        path: Path | None = None,
        faults: Faults | None = None,
    ) -> SurpriseBatch:
        windows, used = self._spans(scores, indices, times)
        values = scores.values
        score = scores.pooled(self.config.mode) if score is None else score
        settings = self.settings
        per_window = values.detach().cpu()
        maps = None if scores.maps is None else scores.maps.detach().cpu()
        results = [
            SurpriseResult(
                score[i],
                per_window=per_window[i],
                surprise_map=None if maps is None else maps[i],
                frame_map=None if maps is None else self._frame_map(maps[i], scores, len(indices)),
                windows=windows,
                effective_fps=effective_fps,
                source_fps=source_fps,
                num_frames=len(indices),
                unused_tail_frames=len(indices) - used,
                settings=settings,
                path=path,
                faults=faults,
            )
            for i in range(len(values))
        ]
        return SurpriseBatch(results, score, per_window, maps)

    def _frame_map(self, maps: Tensor, scores: WindowScores, num_frames: int) -> Tensor:
        model = self.loaded.model.config
        if model.action_conditioned:  # each step predicts the frame after it
            return frame_maps(maps, scores.windows, 1, 1, num_frames)
        return frame_maps(
            maps, scores.windows, self.scorer.target_offset, model.tubelet, num_frames
        )

    def _spans(
        self, scores: WindowScores, indices: Sequence[int], times: Sequence[float]
    ) -> tuple[list[WindowSpan], int]:
        """The windows, and how many frames they reach over."""
        size, target = self.config.window_size, self.scorer.target_offset
        if self.loaded.model.config.action_conditioned:  # one "window" per predicted step
            size, target = 2, 1
        used = max(start + reach(size, step) for start, step in scores.windows)
        return window_spans(scores.windows, size, target, indices, times), used


def reduction_for(crop: int, device: torch.device) -> Reduction:
    """What is kept of each frame while a video is decoded: what a model sees of it, as float32.

    The arithmetic is that of whole frames, so scores are the same to the last bit, and memory does not
    depend on the size of the frames.
    """

    def seen(frame: UInt8Array) -> NDArray[np.float32]:
        pixels = torch.from_numpy(frame).movedim(-1, 0)[None, :, None].to(device)
        small = from_uint8(pixels, crop)[0, :, 0]
        return cast(NDArray[np.float32], small.cpu().numpy())

    return seen


def score_stream(scorer: SurpriseScorer, parts: Iterable[Tensor]) -> WindowScores:
    """Windows of one video whose pixels ``[1, 3, t, crop, crop]`` arrive in parts.

    Keeps only the frames that a later window still needs. The result equals scoring all at once.
    """
    size, stride = scorer.config.window_size, scorer.config.stride
    # The next window of every phase of every frame stride.
    waiting = [Window(phase, step) for step in scorer.config.frame_strides for phase in range(step)]
    scored: list[WindowScores] = []
    kept: Tensor | None = None
    first = total = 0  # number of the first frame that is kept; frames that have come
    for part in parts:
        total += part.shape[2]
        kept = part if kept is None else torch.cat([kept, part], dim=2)
        ready: list[Window] = []
        for place, (start, step) in enumerate(waiting):
            begins = range(start, total - reach(size, step) + 1, stride * step)
            ready += [Window(begin, step) for begin in begins]
            waiting[place] = Window(start + len(begins) * stride * step, step)
        if ready:
            here = [Window(window.start - first, window.frame_stride) for window in ready]
            scored.append(scorer.score_pixels(kept, here)._replace(windows=ready))
        needed = min(window.start for window in waiting)
        kept, first = kept[:, :, max(0, needed - first) :], min(max(first, needed), total)
    windows = scorer.windows(total)  # raises: too short
    place_of = {window: i for i, window in enumerate(w for part in scored for w in part.windows)}
    order = [place_of[window] for window in windows]
    maps = [part.maps for part in scored]
    return WindowScores(
        torch.cat([part.values for part in scored], dim=1)[:, order],
        None if maps[0] is None else torch.cat(cast(list[Tensor], maps), dim=1)[:, order],
        windows,
    )


def _tensor_of(clip: Clip) -> Tensor:
    """``[1, 3, T, H, W]`` of a clip, whose frames are whole or what `VideoScorer.reduction` made of them."""
    frames = torch.from_numpy(clip.frames)
    return (frames.movedim(-1, 0) if frames.dtype == torch.uint8 else frames.movedim(0, 1))[None]


def _without_frames(clip: Clip) -> Clip:
    return replace(clip, frames=np.empty((0, 0, 0, 3), dtype=np.uint8))
