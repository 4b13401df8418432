"""What judges a video in the benchmark: a world model by each of its rules, geometry, a sceptic's baselines.

A judge maps videos ``[B, 3, T, H, W]`` in [−1, 1] to ``{rule: [B]}``, higher = more surprising.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vjepa2.world_model import WorldModel
from wmreward.rewards.encoders import of_world_model
from wmreward.rewards.features import Trajectory
from wmreward.rewards.geometry import SIGNALS, GeometryReward
from wmreward.surprise.aggregate import aggregate
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.tokens import copy_surprise, window_surprise
from wmreward.surprise.windows import cut_windows, gather_windows

Judge = Callable[[Tensor], dict[str, Tensor]]
PairScores = Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]
"""By rule and kind: of the possible and of the impossible videos."""

RULES = (
    ("plain", "mean"),
    ("plain", "max"),
    ("excess", "mean"),
    ("excess", "topk3"),
    ("relative", "topk3"),
)


def _at_once(model: WorldModel) -> int:
    """Windows in one pass: on a CPU as many as its caches hold, which is the faster there."""
    return 128 if model.device.type == "cuda" else 4


def world_model_judge(model: WorldModel, prefix: str = "", batch: int | None = None) -> Judge:
    """Every rule from one forward pass per window."""
    config = SurpriseConfig()
    batch = batch or _at_once(model)

    def judge(videos: Tensor) -> dict[str, Tensor]:
        pixels = model.preprocess(videos)
        cut = cut_windows(pixels.shape[2], config.window_size, config.stride)
        which = [(video, window) for video in range(len(pixels)) for window in cut]
        parts: dict[str, list[Tensor]] = {}
        for first in range(0, len(which), batch):
            windows = gather_windows(pixels, which[first : first + batch], config.window_size)
            with torch.autocast(windows.device.type, torch.bfloat16, enabled=windows.is_cuda):
                latents = model.future_latents(windows, config.context_frames)
            for score in ("plain", "excess", "relative"):
                value, _ = window_surprise(latents, replace(config, score=score))
                parts.setdefault(score, []).append(value)
            parts.setdefault("copy", []).append(copy_surprise(latents).mean(dim=(1, 2)))
        values = {name: torch.cat(part).view(len(pixels), -1) for name, part in parts.items()}
        out = {f"{prefix}copy last latent/max": aggregate(values["copy"], "max")}
        for score, mode in RULES:
            if mode == "topk3" and values[score].shape[1] < 3:
                mode = "mean"  # one or two windows have no top three
            out[f"{prefix}{score}/{mode}"] = aggregate(values[score], mode)
        return out

    return judge


def geometry_judge(model: WorldModel, prefix: str = "") -> Judge:
    """The five signals of the features' trajectory, and what stands for them where a clip is judged alone."""
    reward = GeometryReward(Trajectory(of_world_model(model, 16), batch_size=_at_once(model)))

    def judge(videos: Tensor) -> dict[str, Tensor]:
        if videos.shape[2] < reward.min_frames:
            return {}
        judged = reward(videos)
        signals = {f"{prefix}geometry: {name}": judged.parts[name] for name in SIGNALS}
        return {**signals, f"{prefix}geometry/alone": -judged.scores}

    return judge


def by_ranks(scores: PairScores, prefix: str = "") -> PairScores:
    """Geometry as the reward compares candidates, here the two of a pair: by the mean rank of the signals.

    Args:
        scores: By rule and kind, of the possible and the impossible videos.
        prefix: Of the rules.
    """
    signals = [scores.get(f"{prefix}geometry: {name}", {}) for name in SIGNALS]
    out = {}
    for kind in signals[0]:
        sides = [signal[kind] for signal in signals]
        worse = torch.stack([(b > a).float() + 0.5 * (b == a) for a, b in sides]).mean(dim=0)
        out[kind] = (1 - worse, worse)
    return {f"{prefix}geometry/ranks": out} if out else {}


def baselines(videos: Tensor) -> dict[str, Tensor]:
    """Scores that know nothing of physics, each by its largest window as that suits them best."""
    difference = videos.diff(dim=2)
    signals = {
        "pixel difference": difference.abs(),
        "pixel acceleration": difference.diff(dim=2).abs(),
        "motion energy": difference.square(),
        "flow residual": _flow_residual(videos),
    }
    out = {}
    for name, signal in signals.items():
        per_frame = signal.mean(dim=(1, 3, 4))  # [B, T']
        windows = per_frame.unfold(1, 8, 2).mean(dim=-1)
        out[f"{name}/max"] = windows.amax(dim=1)
    return out


def _flow_residual(videos: Tensor, block: int = 8, reach: int = 4) -> Tensor:
    """What block matching with the previous frame cannot explain, ``[B, 1, T − 1, H/8, W/8]``."""
    batch, _, frames, height, width = videos.shape
    flat = videos.transpose(1, 2).flatten(0, 1)
    previous = F.pad(flat, (reach,) * 4, mode="replicate").unflatten(0, (batch, frames))[:, :-1]
    current = videos.transpose(1, 2)[:, 1:]
    best: Tensor | None = None
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            moved = previous[..., dy : dy + height, dx : dx + width]
            error = (current - moved).abs().mean(dim=2).flatten(0, 1)[:, None]
            cost = F.avg_pool2d(error, block)
            best = cost if best is None else torch.minimum(best, cost)
    assert best is not None
    return best.unflatten(0, (batch, frames - 1)).transpose(1, 2)


def user_judge(reward: Callable[[Tensor], Tensor], name: str) -> Judge:
    """A reward of somebody else's: higher = more plausible, so its negative is the surprise."""
    return lambda videos: {name: -reward(videos)}
