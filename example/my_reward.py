"""A reward of one's own in ten lines: `--reward example.my_reward:Steady` prefers calm videos."""

from torch import Tensor

from wmreward.protocols import RewardScores


class Steady:
    name, differentiable = "steady", True  # gradients flow, so it can guide, too

    def __call__(self, videos: Tensor) -> RewardScores:
        change = (videos[:, :, 1:] - videos[:, :, :-1]).square().mean(dim=(1, 2, 3, 4))
        return RewardScores(scores=-change, parts={"change": change.detach()})
