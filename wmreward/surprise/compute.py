"""`compute_vjepa_surprise`: from whatever a user has to a physics surprise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vjepa2.world_model21 import Levels, Observed, Positions
from wmreward.errors import UsageError, VideoError, VideoWarning
from wmreward.surprise.actions.motion import Motion
from wmreward.surprise.config import ScoreRule, Similarity, SurpriseConfig
from wmreward.surprise.inputs import ValueRange, video_tensor
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.result import SurpriseBatch, SurpriseResult
from wmreward.surprise.sampling import Sampling, at_rates
from wmreward.surprise.video_scorer import VideoScorer

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
            of any frame rate are then judged alike. See :func:`~wmreward.surprise.sampling.at_rates`.
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
