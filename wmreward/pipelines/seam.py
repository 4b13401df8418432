"""Where the given frames of a pipeline's video end: rewards that judge by it are told, as with MAGI-1.

A window across the seam needs its whole context given. One image is too little for that: then such a
reward is plain surprise, which is said once.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator

from torch import Tensor

from wmreward.errors import UsageError, named
from wmreward.protocols import ContinuationReward, Reward, RewardScores
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.world import SeamReward

log = logging.getLogger(__name__)


def continued(
    reward: Reward | RewardMix, pipeline: str, frames: int, given: int, *, sliced: bool
) -> Callable[[Tensor], RewardScores]:
    """The reward of whole videos, judged as the continuation of what was given.

    Args:
        reward: What guides.
        pipeline: Its name.
        frames: Of the whole video.
        given: How many of the first ones were given.
        sliced: Whether only parts of the video are scored at a time.

    Raises:
        UsageError: a reward that goes by the seam would not see it in every part.
    """
    if isinstance(reward, RewardMix):
        reward = reward.guiding()
    if not isinstance(reward, ContinuationReward):
        return reward
    seams = list(_seams(reward))
    for seam in seams:
        if not seam.scorer.seam(frames, given):
            tell_plain(pipeline, given, seam.scorer.config.context_frames)
    if sliced and any(seam.scorer.seam(frames, given) for seam in seams):
        raise UsageError(
            f"{named('reward', SeamReward.name)} needs the frames where given ones end at every step: "
            "Economy(scored=…) scores them in turns"
        )
    return functools.partial(_after, reward, given)


def _after(reward: ContinuationReward, given: int, videos: Tensor) -> RewardScores:
    return reward.after(videos, given)


def _seams(reward: object) -> Iterator[SeamReward]:
    for one in reward.rewards.values() if isinstance(reward, RewardMix) else [reward]:
        if isinstance(one, SeamReward):
            yield one


@functools.cache
def tell_plain(pipeline: str, given: int, context: int) -> None:
    """Say that no window has its context in the given frames; once, and of several processes the first."""
    if os.environ.get("RANK", "0") == "0":
        frames = f"{given or 'no'} given frame{'s' * (given != 1)}"
        log.warning(
            "note: %s is plain surprise here: %s has %s, and a window across their end needs %d or more",
            named("reward", SeamReward.name),
            pipeline,
            frames,
            context,
        )
