"""Choosing in one call of Python: among videos that are there, or among what a function makes of seeds.

select_best(["a.mp4", "b.mp4"], model="tiny").winner.name
best_of_n(make, range(8), "outputs/balls", settings={"prompt": "a red ball rolls"}).winner.name
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from wmreward.errors import UsageError, VideoError, VideoWarning
from wmreward.factories import origin
from wmreward.protocols import VideoFacts, WorldModel
from wmreward.records.rates import rates_note
from wmreward.rewards.compare import How, sums_evenly
from wmreward.rewards.known import AnyReward, Judges, as_reward
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.names import DESCRIBES, PREDICTS, parse_weights
from wmreward.search.best_of_n import ALL_FRAMES, Choice, FileJudge, search
from wmreward.search.candidates import Candidate, CandidateStore
from wmreward.search.report import drowning
from wmreward.search.ways import settings_hash
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.inputs import Frames, ValueRange, video_tensor
from wmreward.surprise.models import ModelChoice, load
from wmreward.surprise.models.own import described
from wmreward.surprise.models.simulated import meaningless_of
from wmreward.surprise.result import Clock
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.video_io import probe, write_video

Judging = str | AnyReward | RewardMix | Sequence[str | AnyReward]
"""A reward by name, perhaps with a weight as ``name=0.5``, or one of your own; several of either kind; or a
:class:`.RewardMix`."""
Model = str | ModelChoice | WorldModel


def select_best(
    videos: Sequence[str | PathLike[str] | Frames],
    reward: Judging = "surprise",
    *,
    model: Model = "vitg",
    config: SurpriseConfig | None = None,
    how: How = "sum",
    sampling: Sampling | None = None,
    value_range: ValueRange | None = None,
    prompt: str | None = None,
) -> Choice:
    """Judge videos that are there, and rank them, as ``wmreward select`` does.

    Args:
        videos: Paths, arrays or tensors of single videos, as :func:`.compute_vjepa_surprise` takes them.
        reward: What judges; higher is better.
        model: The world model of rewards that are asked for by name.
        config: How its windows are cut, compared and pooled.
        how: How several rewards are combined, ``sum`` or ``rank``.
        sampling: Which frames of files are looked at.
        value_range: Of floating-point arrays and tensors.
        prompt: What the videos were made to show, for rewards that ask.

    Returns:
        The choice: ``order`` has the places of ``videos``, the best first; ``totals`` the reward of each,
        ``table`` those of every reward, and ``winner.name`` says who won.

    Raises:
        UsageError: an argument that makes no sense.
        VideoError: a file that cannot be read, or is too short.
        RewardError: a reward of your own that fails, or returns what is no score.

    Warns:
        VideoWarning: files were not seen at the same rate, or it is not known that an embedded model can
            judge them.
        UserWarning: the sum of several rewards is decided by some of them alone.
    """
    if isinstance(videos, str | PathLike) or not len(videos):
        raise UsageError("select_best takes a list of videos, two or more to choose among")
    checked = [_checked(video, value_range) for video in videos]
    for video in checked:  # what is no video should not end it when others were judged
        if isinstance(video, Path):
            probe(video)
    if (chosen := _asked_for(reward, model)) and (note := meaningless_of(chosen, checked)):
        warnings.warn(note, VideoWarning, stacklevel=2)
    mix = reward_mix(reward, model=model, config=config, how=how)
    for place, video in enumerate(checked):
        if not isinstance(video, Path) and video.shape[1] < mix.min_frames:
            raise UsageError(
                f"video {place} is too short: {video.shape[1]} frames, but {mix.min_frames} are needed"
            )
    device, taken = _device(mix), sampling or Sampling()
    files = FileJudge(mix, device, taken, prompt=prompt)
    judged, candidates = [], []
    for place, video in enumerate(checked):
        clock = Clock()
        if isinstance(video, Path):
            clips = clock.noting(taken.clips(video, mix.reduction()))
            judged.append(files.of(clips, video))
            name, rate = str(video), clock.effective_fps
        else:
            judged.append(mix.judge(video.to(device), VideoFacts(prompt=prompt)))
            name, rate = f"video {place}", None
        candidates.append(Candidate(name, {"path": name, "effective_fps": rate}))
    records = [candidate.record for candidate in candidates]
    if note := rates_note(records, how="sampling=Sampling(fps=F)"):
        warnings.warn(note.removeprefix("note: "), VideoWarning, stacklevel=2)
    choice = Choice(
        candidates,
        mix.totals(judged).tolist(),
        {name: values.tolist() for name, values in mix.table(judged).items()},
    )
    return _weighed(choice, mix)


def best_of_n(
    make: Callable[[int], Frames],
    seeds: Sequence[int],
    folder: str | PathLike[str],
    *,
    settings: Mapping[str, Any],
    reward: Judging = "surprise",
    model: Model = "vitg",
    config: SurpriseConfig | None = None,
    how: How = "sum",
    value_range: ValueRange | None = None,
    fps: float = 24.0,
    prompt: str | None = None,
) -> Choice:
    """Have a video made for each seed, judge it, and choose. What is finished is not made again.

    Args:
        make: From a seed to a video, an array or a tensor; the same one every time.
        seeds: One for each candidate.
        folder: Where videos go, and ``candidates.jsonl``, which says what the rewards said.
        settings: All that decides a video besides its seed, fit for JSON, and all that decides what a reward
            of your own says: with other settings everything is made anew.
        reward, model, config, how, prompt: See :func:`select_best`.
        value_range: Of floating-point videos.
        fps: Frames per second of the files.

    Returns:
        The choice; ``winner.name`` is a file in ``folder``.

    Raises:
        UsageError: an argument that makes no sense, or what ``make`` returns is no video.
        WMRewardError: a file that cannot be written, or another process at work in the folder.

    Warns:
        UserWarning: the sum of several rewards is decided by some of them alone.
    """
    if not len(seeds) or len(set(seeds)) < len(seeds):
        raise UsageError("seeds must be whole numbers, one or more, and each of them once")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    mix = reward_mix(reward, model=model, config=config, how=how)
    ways = {
        name: settings_hash(
            {"reward": name, "prompt": prompt, **_identity(own), "of": dict(settings)}
        )
        for name, own in mix.rewards.items()
    }
    everything = {"rewards": mix.weights, "ways": ways, **settings}
    store = CandidateStore(place / "candidates.jsonl", everything, lambda _: ways)
    maker = _FunctionMaker(make, place, settings_hash(dict(settings)), fps, value_range)
    judge = FileJudge(mix, _device(mix), ALL_FRAMES, prompt=prompt)
    return _weighed(search(list(seeds), maker, judge, mix, store, folder=place), mix)


def _asked_for(reward: Judging, model: Model) -> ModelChoice | None:
    """The world model that judges, where it is one of ours that is asked for by name."""
    entries = [reward] if isinstance(reward, str) or not isinstance(reward, Sequence) else reward
    names = parse_weights([entry for entry in entries if isinstance(entry, str)])
    if not names.keys() & {*PREDICTS, *DESCRIBES}:
        return None
    if isinstance(model, str):
        return ModelChoice(name=model)
    return model if isinstance(model, ModelChoice) else None


def _weighed(choice: Choice, mix: RewardMix) -> Choice:
    """The same choice; warns where some rewards hardly count in it."""
    if sums_evenly(mix.weights, mix.how) and (note := drowning(choice)):
        warnings.warn(note, UserWarning, stacklevel=3)
    return choice


def reward_mix(
    reward: Judging,
    *,
    model: Model = "vitg",
    config: SurpriseConfig | None = None,
    how: How = "sum",
) -> RewardMix:
    """Rewards of whatever form, as a mix; ``model`` is loaded only if one of them is asked for by name."""
    if isinstance(reward, RewardMix):
        return reward
    several = isinstance(reward, Sequence) and not isinstance(reward, str)
    entries: list[Any] = list(reward) if several else [reward]  # type: ignore[arg-type]
    weights = parse_weights([entry for entry in entries if isinstance(entry, str)])
    names = iter(weights)
    rewards: dict[
        str, AnyReward | None
    ] = {}  # in the order of the entries; those by name are to be made
    for entry in entries:
        name, own = (next(names), None) if isinstance(entry, str) else _own(entry)
        if name in rewards:
            raise UsageError(
                f"two rewards are named {name!r}: give one of your own another name (an attribute 'name')"
            )
        rewards[name] = own
    scorer = None
    if weights.keys() & {*PREDICTS, *DESCRIBES}:
        chosen = load(model).model if isinstance(model, ModelChoice) else model
        scorer = SurpriseScorer(chosen, config)
        scorer.config.check_whole(scorer.model.config.tubelet, scorer.model.config.name)
        scorer.batch_size = 32 if scorer.model.device.type == "cuda" else 4
    judges = Judges(scorer)
    made = {name: judges.reward(name) if own is None else own for name, own in rewards.items()}
    return RewardMix(made, {name: weights.get(name, 1.0) for name in made}, how)


def _own(reward: Any) -> tuple[str, AnyReward]:
    """The name of a reward of the caller's, and itself; raises ``UsageError`` if it is none."""
    if isinstance(reward, type):
        raise UsageError(f"the reward is a class: pass an object, such as {reward.__name__}()")
    if isinstance(reward, RewardMix):
        raise UsageError(
            "a RewardMix is passed alone, not in a list: put the other rewards into it"
        )
    name = getattr(reward, "name", getattr(reward, "__name__", type(reward).__name__))
    return name, as_reward(reward, name)


@dataclass(frozen=True)
class _FunctionMaker:
    """A function of a seed as a `Maker`."""

    function: Callable[[int], Frames]
    folder: Path
    settings_id: str
    fps: float
    value_range: ValueRange | None
    batch = 1

    def name(self, seed: int) -> str:
        return f"{self.settings_id}-{seed}.mp4"

    def make(self, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        for seed in seeds:
            file = self.folder / self.name(seed)
            if not file.exists():
                video = _checked(self.function(seed), self.value_range)
                if isinstance(video, Path):
                    raise UsageError(f"make({seed}) returned a path; it must return a video")
                frames = ((video + 1) * 127.5).round().clamp(0, 255).byte()
                write_video(file, frames.movedim(0, -1).cpu().numpy(), self.fps)
        return [{} for _ in seeds]


def _checked(video: Any, value_range: ValueRange | None) -> Path | torch.Tensor:
    """A path that exists, or a video ``[3, T, H, W]`` in [−1, 1], without gradient."""
    if isinstance(video, str | PathLike):
        path = Path(video)
        if not path.exists():
            raise VideoError(path, "does not exist")
        return path
    tensor = video_tensor(video, value_range)
    if len(tensor) != 1:
        raise UsageError(f"a candidate is a single video, not a batch of {len(tensor)}")
    single = tensor[0].detach()
    return single.float() / 127.5 - 1 if single.dtype == torch.uint8 else single


def _device(mix: RewardMix) -> torch.device:
    """Where the network of a reward is; the CPU if none has one."""
    for reward in mix.rewards.values():
        device = getattr(getattr(reward, "network", None), "device", None)
        if isinstance(device, torch.device):
            return device
    return torch.device("cpu")


def _identity(reward: AnyReward) -> dict[str, Any]:
    """What decides what a reward says, as far as can be told."""
    known: dict[str, Any] = dict(origin(reward))
    if "module_sha256" not in known:  # its source may be another one in the next process
        known["process"] = _PROCESS
    scorer = getattr(reward, "scorer", None)
    if isinstance(scorer, SurpriseScorer):
        known |= {"world_model": described(scorer.model).settings(), **scorer.config.to_json()}
    return known


_PROCESS = uuid.uuid4().hex
