"""How smoothly a video moves through the space of an encoder's features: five signals, one reward.

The signals are those that GeoPhys (arXiv 2606.20707) reports of pooled features f_t. Its code is not public,
so what is marked as ours may differ from what was measured there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wmreward.errors import UsageError
from wmreward.protocols import RewardCurve, RewardScores
from wmreward.rewards.features import Trajectory
from wmreward.rewards.names import GEOMETRY, LEAST_FEATURES

_TINY = 1e-12
_RIDGE = 1e-6
"""Keeps a fit defined where nothing moves, as a share of what the fitted quantities measure."""


@dataclass(frozen=True)
class Signals:
    """Five signals of trajectories, ``[B]`` each. Less counts as more plausible (ours).

    Attributes:
        speed_spread: Standard deviation of the speed ‖f_{t+1} − f_t‖.
        turning: Mean angle between successive steps, in radians.
        turning_spread: Its standard deviation.
        acceleration: Mean of ‖f_{t+1} − 2 f_t + f_{t−1}‖².
        residual: Mean square of what a linear prediction of the next feature leaves (ours, see `_residuals`).
    """

    speed_spread: Tensor
    turning: Tensor
    turning_spread: Tensor
    acceleration: Tensor
    residual: Tensor

    def plausibility(self) -> Tensor:
        """``[B]``, higher is better: minus the mean logarithm of the five (ours).

        Where one of them falls by a part, the score rises alike, whichever it is and whatever its unit. It
        stands for a clip that is judged alone and for a gradient; candidates are compared by ranks.
        """
        every = torch.stack(list(vars(self).values()))
        return -every.clamp_min(_TINY).log().mean(dim=0)


SIGNALS = tuple(Signals.__dataclass_fields__)


@dataclass(frozen=True)
class Bends:
    """How trajectories bend at each feature but the first and the last, ``[B, S − 2]`` each.

    Attributes:
        speeds: Length of the step that leads there; ``last_speed [B]`` is that of the last step.
        angles: By which the direction turns there, in radians. A step of no length stands at a right angle to
            all others, as directions do that have nothing to do with each other.
        accelerations: Squared length of the second difference there.
        residuals: Squared length of what linear prediction leaves of the next feature.
    """

    speeds: Tensor
    last_speed: Tensor
    angles: Tensor
    accelerations: Tensor
    residuals: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Bends:
        """Of ``[B, S, D]``, in double precision; raises ``UsageError`` for fewer than four features."""
        if features.shape[1] < LEAST_FEATURES:
            raise UsageError(
                f"too short: geometry needs {LEAST_FEATURES} features of a video, which has "
                f"{features.shape[1]}"
            )
        features = features.double()
        steps = features.diff(dim=1)
        speeds = steps.square().sum(dim=-1).add(_TINY).sqrt()
        return cls(
            speeds[:, :-1],
            speeds[:, -1],
            _angles(steps / speeds[..., None]),
            steps.diff(dim=1).square().sum(dim=-1),
            _residuals(features).square().sum(dim=-1),
        )

    def signals(self) -> Signals:
        """Over the whole trajectory."""
        speeds = torch.cat((self.speeds, self.last_speed[:, None]), dim=1)
        return Signals(
            speed_spread=_spread(speeds),
            turning=self.angles.mean(dim=1),
            turning_spread=_spread(self.angles),
            acceleration=self.accelerations.mean(dim=1),
            residual=self.residuals.mean(dim=1),
        )

    def curve(self) -> Tensor:
        """``[B, S − 2]``: how irregular it is there, 1 on average (ours).

        The mean over the five signals of what a place contributes to each. It shows when something happens
        in a video, and compares no videos.
        """
        speeds = torch.cat((self.speeds, self.last_speed[:, None]), dim=1)
        change = (speeds - speeds.mean(dim=1, keepdim=True)).square()
        parts = (
            change[:, :-1] + change[:, 1:],
            self.angles,
            (self.angles - self.angles.mean(dim=1, keepdim=True)).square(),
            self.accelerations,
            self.residuals,
        )
        shares = [part / part.mean(dim=1, keepdim=True).clamp_min(_TINY) for part in parts]
        return torch.stack(shares).mean(dim=0)


class GeometryReward:
    """How smoothly videos move through the space of an encoder: the five signals, and one score of them.

    Args:
        trajectory: Where features come from.

    The parts are the signals. Among candidates the score is the mean of their ranks, made by
    :mod:`wmreward.rewards.compare`; here, for a video alone, :meth:`Signals.plausibility`.
    """

    name = GEOMETRY
    differentiable = True

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory

    @property
    def network(self) -> object:
        """What features come from."""
        return self.trajectory.encoder.model

    @property
    def min_frames(self) -> int:
        """Frames of the shortest video that it can judge."""
        return self.trajectory.frames_of(LEAST_FEATURES)

    def __call__(self, videos: Tensor) -> RewardScores:
        """``[B, 3, T, H, W]`` in [−1, 1]; raises ``UsageError`` for videos too short."""
        if not (videos.requires_grad and torch.is_grad_enabled()):
            bends = Bends.of(self.trajectory(videos))
            signals = bends.signals()
            return RewardScores(
                signals.plausibility().to(videos.dtype),
                _parts(signals),
                self._over_time(bends, videos),
            )
        found: list[Signals] = []

        def score(features: Tensor) -> Tensor:
            found.append(Bends.of(features).signals())
            return found[-1].plausibility()

        scores = self.trajectory.differentiated(videos, score)
        return RewardScores(scores, _parts(found[-1]))

    @torch.no_grad()
    def curve(self, videos: Tensor) -> RewardCurve:
        """When videos are irregular, ``[B, S − 2]``; see :meth:`Bends.curve`."""
        return self._over_time(Bends.of(self.trajectory(videos)), videos)

    def _over_time(self, bends: Bends, videos: Tensor) -> RewardCurve:
        return RewardCurve(bends.curve(), self.trajectory.places(videos.shape[2])[1:-1])


def _parts(signals: Signals) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in vars(signals).items()}


def _spread(values: Tensor) -> Tensor:
    """Standard deviation over the second dimension, with a gradient where it is 0, too."""
    variance = (values - values.mean(dim=1, keepdim=True)).square().mean(dim=1)
    return (variance + _TINY).sqrt()


def _angles(directions: Tensor) -> Tensor:
    """Angles ``[B, S − 2]`` between successive unit vectors ``[B, S − 1, D]``.

    By half-angles: the arc cosine has no usable gradient where the direction hardly changes.
    """
    before, after = directions[:, :-1], directions[:, 1:]
    apart = ((after - before).square().sum(dim=-1) + _TINY).sqrt()
    along = ((after + before).square().sum(dim=-1) + _TINY).sqrt()
    return 2 * torch.atan2(apart, along)


def _residuals(features: Tensor) -> Tensor:
    """What linear prediction of order two leaves of each feature but the first two, ``[B, S − 2, D]``.

    The next step is predicted as a · (this step) + b · (deviation from the mean feature): everything that
    moves on, slows down or swings evenly fits. a and b are the video's own, fitted by least squares over
    all features and times.
    """
    steps = features.diff(dim=1)
    centred = features - features.mean(dim=1, keepdim=True)
    known = torch.stack((steps[:, :-1], centred[:, 1:-1]), dim=-1)  # [B, S − 2, D, 2]
    wanted = steps[:, 1:]
    gram = torch.einsum("bsdi,bsdj->bij", known, known)
    scale = gram.diagonal(dim1=1, dim2=2)
    gram = gram + torch.diag_embed(_RIDGE * scale + _TINY)
    moment = torch.einsum("bsdi,bsd->bi", known, wanted)
    weights = torch.linalg.solve(gram, moment)
    return wanted - torch.einsum("bsdi,bi->bsd", known, weights)
