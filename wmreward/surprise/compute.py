"""`compute_vjepa_surprise`: from whatever a user has to a physics surprise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import signature
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from vjepa2.reading import Levels, Observed, Positions
from wmreward.errors import UsageError, VideoError, VideoWarning, WMRewardError
from wmreward.protocols import WorldModel
from wmreward.surprise.actions.motion import Motion, check_given
from wmreward.surprise.config import ScoreRule, Similarity, SurpriseConfig
from wmreward.surprise.inputs import Frames, ValueRange, is_batch, is_several, video_tensor
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.models.fault import fault_of
from wmreward.surprise.models.simulated import meaningless_of
from wmreward.surprise.released import RELEASED_SETTINGS
from wmreward.surprise.result import SurpriseBatch, SurpriseResult
from wmreward.surprise.sampling import IMAGE_FPS, Sampling, at_rates
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video.images import images_in
from wmreward.video_io import VIDEO_SUFFIXES, probe

Video = str | PathLike[str] | Frames
Given = Mapping[str, Any]
"""All arguments by name."""


def compute_vjepa_surprise(
    video: Video | Sequence[Video],
    model: str | ModelChoice | WorldModel = "vitg",
    window_size: int = 16,
    context_frames: int = 8,
    stride: int | None = None,
    mode: str = "mean",
    *,
    frame_strides: Sequence[int] = (1,),
    rates: Sequence[float] | None = None,
    similarity: Similarity | None = None,
    score: ScoreRule = "plain",
    compat: Literal["released"] | None = None,
    value_range: ValueRange | None = None,
    max_frames: int = 49,
    fps: float | None = None,
    decoder: str = "pyav",
    image_fps: float = IMAGE_FPS,
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
        video: One of

            * a path, of a file or a folder of images;
            * an array ``[T, H, W, 3]``, or a list of frames ``[H, W, 3]`` (arrays or images of Pillow);
            * a tensor ``[3, T, H, W]``; one that requires gradients gives a differentiable ``.score``;
            * a batch ``[B, T, H, W, 3]`` or ``[B, 3, T, H, W]``;
            * a list of any of these but batches, of any lengths.

            uint8, or floating point with ``value_range``.
        model: ``vitg`` (the paper's), ``vitl``, ``vith``, ``vitg384``, ``vitgac`` (needs ``motion``), the
            embedded ``tiny``, of V-JEPA 2.1 ``vitb21``, ``vitl21``, ``vitg21``, ``vitG21``, or a
            :class:`.ModelChoice`; these are kept in memory between calls. Or a world model of your own: an
            object as :class:`wmreward.protocols.WorldModel` says, or ``package.module:factory``.
        window_size, context_frames, stride, mode, frame_strides, similarity, score,
            context_grad: see :class:`~wmreward.surprise.config.SurpriseConfig`, whose defaults they have.
        rates: Frames per second at which windows see a file, in place of ``frame_strides`` and ``fps``: clips
            of any frame rate are then judged alike. See :func:`~wmreward.surprise.sampling.at_rates`.
        compat: ``released`` computes what the published command line computes (``RELEASED_SETTINGS``), with
            models of V-JEPA 2.
        value_range: Range of floating-point values: ``"-1,1"``, ``"0,1"`` or ``"0,255"``.
        max_frames, fps, decoder: Which frames of a file are used, see :class:`.Sampling`.
        image_fps: Frames per second that a folder of images stands for, which says none itself.
        motion: Real actions and states, for ``vitgac`` only. The video is then sampled at 4 fps.
        weights, context_encoder, target_encoder, mask_token, device, dtype, compile: see
            :class:`~wmreward.surprise.models.ModelChoice`.
        crop, positions, levels, observed, teacher_weights: How a V-JEPA 2.1 model is read, see there.
        batch_size: Windows per forward pass; a fitting number by default.

    Returns:
        A :class:`.SurpriseResult`, or a :class:`.SurpriseBatch` for a batch or a list of videos.

    Raises:
        UsageError: an argument that makes no sense (also a ``ValueError``).
        VideoError: a file that cannot be read; of a list, the first such.
        WeightsError: weights that cannot be had; says how to get them.
        WMRewardError: a surprise that is no finite number, and why.

    Warns:
        VideoWarning: a file about which something is doubtful (see ``SurpriseResult.faults``), values outside
            their range, or a file of which it is not known that an embedded model can judge it.
    """
    given: Given = dict(locals())
    several = is_several(video)
    videos: Sequence[Any] = cast(Sequence[Any], video) if several else [video]
    given = _at_rates(_released(given), videos)
    config = SurpriseConfig(**_fields_of(SurpriseConfig, given))
    sampling = Sampling(**_fields_of(Sampling, given))
    _check_kinds(given, videos)
    choice = _model(given)
    # All that can be found wrong is, before any weights are loaded.
    if isinstance(choice, ModelChoice):
        check_given(motion, choice.acts, choice.name)
    checked = [_checked(one, value_range, several) for one in videos]
    if isinstance(choice, ModelChoice) and (note := meaningless_of(choice, checked)):
        warnings.warn(note, VideoWarning, stacklevel=2)
    scorer = VideoScorer(choice, config, sampling, batch_size=batch_size)
    if isinstance(checked[0], Tensor) and is_batch(video):
        batch = scorer.score_tensor(checked[0], motion)
        return SurpriseBatch([_finite(result, scorer) for result in batch], batch.scores)
    if not several:
        return _of_one(scorer, checked[0], motion)
    results = [
        _of_one(scorer, one, motion, f"video {place} of the list: ")
        for place, one in enumerate(checked)
    ]
    return SurpriseBatch(results, torch.stack([result.score for result in results]))


_DEFAULTS = {
    name: parameter.default
    for name, parameter in signature(compute_vjepa_surprise).parameters.items()
}


def _fields_of(kind: Any, given: Given) -> dict[str, Any]:
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _released(given: Given) -> Given:
    """The arguments, with those that ``compat`` decides; without it, less those that were left out.

    What the published command line computes otherwise than we do is None unless somebody asks for it: our own
    values contradict ``compat`` as any others.
    """
    if given["compat"] is None:
        left_out = {name for name in ("stride", "similarity") if given[name] is None}
        return {name: value for name, value in given.items() if name not in left_out}
    if given["compat"] != "released":
        raise UsageError(f"compat={given['compat']!r} must be 'released' or None")
    for name, value in RELEASED_SETTINGS.items():
        if given[name] not in (_DEFAULTS[name], value):
            raise UsageError(
                f"compat='released' means {name}={value!r}, not {given[name]!r}: leave out one of the two"
            )
    return {**given, **RELEASED_SETTINGS}


def _at_rates(given: Given, videos: Sequence[Any]) -> Given:
    """The arguments, with ``rates`` put into ``fps`` and ``frame_strides``."""
    if given["rates"] is None:
        return given
    if tuple(given["frame_strides"]) != (1,) or given["fps"] is not None:
        raise UsageError("rates say which frames are seen: leave out frame_strides and fps")
    if not all(map(_is_path, videos)):
        raise UsageError("rates are of a file, which has a clock: use frame_strides")
    fps, frame_strides = at_rates(given["rates"])
    return {**given, "fps": fps, "frame_strides": frame_strides}


def _check_kinds(given: Given, videos: Sequence[Any]) -> None:
    """Refuse what has no meaning for the kind of videos that are given."""
    if given["fps"] is not None and given["max_frames"] != _DEFAULTS["max_frames"]:
        raise UsageError(
            f"max_frames={given['max_frames']!r} and fps={given['fps']!r} are two ways of taking frames: "
            "leave out one"
        )
    files = [_is_path(video) for video in videos]
    if not any(files):
        for name in ("fps", "max_frames", "decoder", "image_fps"):
            if given[name] not in (_DEFAULTS[name], RELEASED_SETTINGS.get(name)):
                raise UsageError(
                    f"{name}={given[name]!r} says which frames of a file are taken: leave it out, of an "
                    "array or a tensor all are"
                )
    elif all(files) and given["value_range"] is not None:
        raise UsageError("value_range is of arrays and tensors: leave it out, a file has its own")
    if len(videos) > 1 and given["motion"] is not None:
        raise UsageError("motion is what was done in one video: score such videos one by one")


def _model(given: Given) -> ModelChoice | WorldModel:
    """Which model; raises ``UsageError`` for options that one of the caller's leaves no choice of."""
    model, options = given["model"], _fields_of(ModelChoice, given)
    if given["compat"] is not None:
        _check_published(model)
    if isinstance(model, str):
        return ModelChoice(name=model, **options)
    decided = RELEASED_SETTINGS if given["compat"] is not None else {}
    for name, value in options.items():
        if value != _DEFAULTS[name] and name not in decided:
            where = "say it in the ModelChoice"
            if not isinstance(model, ModelChoice):
                where = f"make your {type(model).__name__} so"
            raise UsageError(
                f"{name}={value!r} is of a model that is asked for by name: leave it out, or {where}"
            )
    return model


def _check_published(model: str | ModelChoice | WorldModel) -> None:
    """Raise ``UsageError`` for a model of which nothing is published, or that is not read as it was."""
    if isinstance(model, str):
        model = ModelChoice(name=model)
    if not isinstance(model, ModelChoice):
        raise UsageError(
            "compat='released' computes what was published with V-JEPA 2, not with a model of your own"
        )
    model.check_released()
    for name, value in _fields_of(ModelChoice, RELEASED_SETTINGS).items():
        if getattr(model, name) not in (None, value):
            raise UsageError(
                f"compat='released' means {name}={value!r}: leave it out of the ModelChoice"
            )


def _checked(video: Any, value_range: ValueRange | None, within_list: bool) -> Path | Tensor:
    """A path that exists, or a tensor ``[B, 3, T, H, W]``."""
    if not _is_path(video):
        tensor = video_tensor(video, value_range)
        if within_list and len(tensor) > 1:
            raise UsageError(f"a list holds single videos, not batches of {len(tensor)}")
        return tensor
    path = Path(video)
    if not path.exists():
        raise VideoError(path, "does not exist")
    if path.suffix.lower() == ".txt" or (path.is_dir() and _holds_videos(path)):
        raise UsageError(
            f"{path} names several videos: pass them as a list, such as "
            f"wmreward.video_io.list_videos([{str(path)!r}])"
        )
    if within_list:  # what is no video should not end it when others were scored
        probe(path)
    return path


def _holds_videos(folder: Path) -> bool:
    """Whether a folder is no video by itself, as one of images is."""
    inside = list(folder.iterdir())
    if any(path.suffix.lower() in VIDEO_SUFFIXES for path in inside):
        return True
    return any(path.is_dir() for path in inside) and not images_in(folder)


def _is_path(video: Any) -> bool:
    return isinstance(video, str | PathLike)


def _of_one(
    scorer: VideoScorer, video: Path | Tensor, motion: Motion | None, which: str = ""
) -> SurpriseResult:
    """The result of a path or a tensor; ``which`` begins what is said of a tensor, as it has no name."""
    if isinstance(video, Tensor):
        try:
            return _finite(scorer.score_tensor(video, motion)[0], scorer)
        except UsageError as error:
            raise UsageError(f"{which}{error}") from None
    result = scorer.score_file(video, motion)
    if result.faults:
        warnings.warn(f"{video}: {result.faults}", VideoWarning, stacklevel=3)
    return _finite(result, scorer)


def _finite(result: SurpriseResult, scorer: VideoScorer) -> SurpriseResult:
    if isfinite(result):
        return result
    reason = f"its surprise is no finite number: {fault_of(scorer.loaded.model)}"
    if result.path is not None:
        raise VideoError(result.path, reason)
    raise WMRewardError(f"the video: {reason}")
