"""Rewards: surprise, consensus, users' own, and their combinations."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import LinearWorldModel, random_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmreward.errors import RewardError, UsageError
from wmreward.protocols import (
    ContinuationReward,
    Reward,
    RewardCurve,
    RewardScores,
    SetReward,
    VideoFacts,
)
from wmreward.rewards.choice import RewardChoice
from wmreward.rewards.compare import Judged
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.world import Consensus, SeamReward, SurpriseReward
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.video_scorer import VideoScorer

EXAMPLE = "example.my_reward:Steady"


def scorer_of(**settings: Any) -> SurpriseScorer:
    return SurpriseScorer(random_model(), SurpriseConfig(**{"stride": 4, **settings}))


def videos_of(count: int, frames: int = 20, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, frames, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1


# --- surprise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["plain", "top", "excess", "relative"])
@pytest.mark.parametrize("mode", ["mean", "max", "topk2"])
def test_surprise_is_that_of_the_scoring_command(rule: Any, mode: str) -> None:
    scorer, videos = scorer_of(score=rule, mode=mode), videos_of(2)
    judged = SurpriseReward(scorer)(videos)
    expected = scorer(videos)
    torch.testing.assert_close(judged.scores, -expected)
    torch.testing.assert_close(judged.parts["surprise"], expected)


@pytest.mark.parametrize("mode", ["mean", "max", "topk3"])
@pytest.mark.parametrize("rule", ["plain", "top"])
def test_the_seam_is_where_given_frames_end(rule: Any, mode: str) -> None:
    scorer, videos = scorer_of(score=rule, stride=1, mode=mode), videos_of(3, 22)
    seam, windows = SeamReward(scorer), scorer.score_windows(videos).values
    for count in (8, 11, 14):
        found = seam.after(videos, count)
        torch.testing.assert_close(found.scores, -windows[:, count - 8])
        torch.testing.assert_close(found.parts["surprise"], -found.scores)
    # Without a window that is seen in given frames and predicted in new ones, it is the surprise.
    for count in (0, 1, 7, 16):
        torch.testing.assert_close(seam.after(videos, count).scores, -scorer(videos))
    torch.testing.assert_close(seam(videos).scores, -scorer(videos))
    leaf = videos.clone().requires_grad_()
    assert torch.autograd.grad(seam(leaf).scores.sum(), leaf)[0].abs().max() > 0


@pytest.mark.parametrize("rule", ["plain", "excess"])
def test_the_seam_at_several_frame_strides(rule: Any) -> None:
    scorer, videos = scorer_of(score=rule, frame_strides=(1, 2), stride=3), videos_of(2, 34)
    found = SeamReward(scorer).after(videos, 17)
    slower = scorer_of(score=rule, stride=1)
    one = slower(videos[:, :, 9:25])
    two = torch.stack([slower(videos[:, :, 1 + phase :: 2][:, :, :16]) for phase in (0, 1)]).mean(0)
    torch.testing.assert_close(found.parts["frame_stride_1"], one)
    torch.testing.assert_close(found.parts["frame_stride_2"], two)
    torch.testing.assert_close(found.scores, -(one + two) / 2)
    leaf = videos.clone().requires_grad_()
    scores = SeamReward(scorer).after(leaf, 17).scores
    torch.testing.assert_close(scores.detach(), found.scores)
    gradient = torch.autograd.grad(scores.sum(), leaf)[0].abs().amax(dim=(0, 1, 3, 4))
    assert gradient[32].item() > 0  # the future of the slower windows
    # Too few given frames for the slower windows: the others decide.
    few = SeamReward(scorer).after(videos, 12)
    torch.testing.assert_close(few.scores, -slower(videos[:, :, 4:20]))
    assert not any(name.startswith("frame_stride") for name in few.parts)


def test_the_seam_leaves_out_strides_that_do_not_fit() -> None:
    """Where no window lies at the seam, and the video is too short for the largest stride."""
    scorer, videos = scorer_of(frame_strides=(1, 3)), videos_of(2, 24)
    one = scorer_of(frame_strides=(1,))
    seam = SeamReward(scorer)
    assert seam.min_frames == 16 and SurpriseReward(scorer).min_frames == 46
    torch.testing.assert_close(seam.after(videos, 1).scores, -one(videos))
    torch.testing.assert_close(seam(videos).scores, -one(videos))
    with pytest.raises(UsageError, match="too short"):
        SurpriseReward(scorer)(videos)
    with pytest.raises(UsageError, match="too short"):
        seam(videos[:, :, :12])


def test_a_mix_that_guides_knows_where_given_frames_end_if_a_part_does() -> None:
    scorer, videos = scorer_of(stride=1), videos_of(2, 22)
    both = RewardMix.parse(["seam", "surprise=2"], surprise=scorer).guiding()
    assert isinstance(both, ContinuationReward)
    expected = SeamReward(scorer).after(videos, 11).scores - 2 * scorer(videos)
    torch.testing.assert_close(both.after(videos, 11).scores, expected)
    alone = RewardMix.parse(["surprise"], surprise=scorer).guiding()
    assert not isinstance(alone, ContinuationReward)


def strided(one: float, two: float) -> Judged:
    parts = {"seam.frame_stride_1": one, "seam.frame_stride_2": two, "seam.plain": 5.0}
    return Judged({"seam": -(one + two) / 2}, parts, {})


def test_frame_strides_count_alike_in_a_choice() -> None:
    """Also if the surprise of one of them varies a thousand times as much."""
    scorer = scorer_of(frame_strides=(1, 2))
    candidates = [strided(1.0, 0.003), strided(2.0, 0.0), strided(3.0, 0.004), strided(1.1, 0.001)]
    by_sum = RewardMix.parse(["seam"], surprise=scorer).totals(candidates)
    assert by_sum.argmax().item() == 3
    torch.testing.assert_close(by_sum.mean(), by_sum.new_tensor(-(7.1 + 0.008) / 8))
    rescaled = [
        strided(c.parts["seam.frame_stride_1"], 7 * c.parts["seam.frame_stride_2"])
        for c in candidates
    ]
    again = RewardMix.parse(["seam"], surprise=scorer).totals(rescaled)
    assert torch.equal(again.argsort(), by_sum.argsort())
    ranks = RewardMix.parse(["seam"], surprise=scorer, how="rank").totals(candidates)
    assert ranks.tolist() == [2.0, 2.0, 0.0, 2.0]
    # A plain mean would have taken the first; so does a set with records that do not know of strides.
    old = Judged({"seam": -9.0}, {"seam.plain": 9.0}, {})
    mixed = RewardMix.parse(["seam"], surprise=scorer).totals([*candidates, old])
    assert mixed.tolist() == [c.scores["seam"] for c in [*candidates, old]]
    alone = RewardMix.parse(["seam"], surprise=scorer).totals(candidates[:1])
    assert alone.tolist() == pytest.approx([candidates[0].scores["seam"]])


@pytest.mark.parametrize("how", ["sum", "rank"])
def test_of_two_candidates_whose_strides_disagree_one_wins(how: Any) -> None:
    """By spread or by rank both would be equal, and the first would win whatever it scored."""
    candidates = [strided(1.0, 9.0), strided(2.0, 3.0)]
    mix = RewardMix.parse(["seam"], surprise=scorer_of(frame_strides=(1, 2)), how=how)
    assert mix.totals(candidates).argmax().item() == 1
    assert mix.totals(candidates[::-1]).argmax().item() == 0


def test_a_mix_tells_the_seam_what_was_given() -> None:
    scorer, video = scorer_of(), videos_of(1)[0]
    both = RewardMix.parse(["surprise", "seam=2"], surprise=scorer)
    alone, after = both.judge(video), both.judge(video, VideoFacts(given=8))
    assert alone.scores["surprise"] == alone.scores["seam"] == after.scores["surprise"]
    assert after.scores["seam"] == pytest.approx(
        SeamReward(scorer).after(video[None], 8).scores.item()
    )
    assert after.scores["seam"] != after.scores["surprise"]
    assert both.differentiable


def test_surprise_of_a_file_is_that_of_compute_vjepa_surprise() -> None:
    """The tensor path of the public function, with the embedded model."""
    choice = ModelChoice(name="tiny", device="cpu")
    config = SurpriseConfig(stride=8)
    video = videos_of(1, 24).float()
    public = VideoScorer(choice, config).score_tensor(video)
    reward = SurpriseReward(VideoScorer(choice, config).scorer)
    torch.testing.assert_close(reward(video).scores, -public.scores)


def test_parts_of_all_rules_and_the_copy_come_from_one_pass() -> None:
    model = LinearWorldModel(mixing=0.1)
    video = torch.rand(1, 3, 12, 4, 4, dtype=torch.float64)
    config = SurpriseConfig(window_size=8, context_frames=4, stride=2)
    judged = SurpriseReward(SurpriseScorer(model, config))(video)
    assert sum(model.batch_sizes) == 3  # windows, each seen once
    assert set(judged.parts) == {"surprise", "plain", "top", "excess", "relative", "copy"}
    for rule in ("plain", "top", "excess", "relative"):
        alone = SurpriseScorer(model, SurpriseConfig(**{**config.to_json(), "score": rule}))
        torch.testing.assert_close(judged.parts[rule], alone(video))
    moving = SurpriseReward(SurpriseScorer(model, config)).windows(video)
    assert moving["copy"].values.shape == (1, 3) and moving["plain"].maps is not None
    frozen = torch.rand(1, 3, 1, 4, 4, dtype=torch.float64).expand(-1, -1, 12, -1, -1)
    still = SurpriseReward(SurpriseScorer(LinearWorldModel(), config))(frozen)
    assert still.parts["copy"].item() < 1e-6 < judged.parts["copy"].item()


def test_the_published_similarity_has_no_other_rules() -> None:
    judged = SurpriseReward(scorer_of(similarity="token"))(videos_of(1))
    assert set(judged.parts) == {"surprise", "plain", "copy"}


def test_surprise_has_a_gradient() -> None:
    """Through both sides it is the whole one."""
    reward = SurpriseReward(scorer_of(context_grad=True))
    videos = videos_of(1, 16).requires_grad_()
    (slope,) = torch.autograd.grad(reward(videos).scores.sum(), videos)
    direction = videos_of(1, 16, seed=1)
    eps = 1e-6
    with torch.no_grad():
        up, down = (reward(videos + sign * eps * direction).scores for sign in (1, -1))
    torch.testing.assert_close(
        (up - down) / (2 * eps), (slope * direction).sum()[None], rtol=1e-4, atol=1e-9
    )


def test_too_short_videos_are_refused() -> None:
    with pytest.raises(UsageError, match="too short: 12 frames"):
        SurpriseReward(scorer_of())(videos_of(1, 12))


# --- consensus ----------------------------------------------------------------------------------------


def family(seed: int = 0) -> Tensor:
    """Five versions of one video, more and more unlike it, and one that has nothing to do with it."""
    base, noise = videos_of(1, seed=seed), videos_of(5, seed=seed + 1)
    strength = torch.tensor([0.2, 0.05, 0.3, 0.25, 0.35])[:, None, None, None, None]
    return torch.cat((base + strength * noise, videos_of(1, seed=seed + 2)))


def test_the_medoid_wins_and_the_outlier_loses() -> None:
    consensus = Consensus(scorer_of())
    scores = consensus.compare(consensus.embed(family()))
    assert scores.argmax() == 1 and scores.argmin() == 5
    assert (scores <= 1e-3).all() and (scores >= -2).all()


def test_consensus_does_not_depend_on_the_order() -> None:
    consensus = Consensus(scorer_of())
    embedded, order = consensus.embed(family()), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(
        consensus.compare(embedded)[order], consensus.compare(embedded[order])
    )


def test_consensus_is_the_mean_cosine_of_tokens() -> None:
    scorer = scorer_of()
    first, second = (Consensus(scorer).embed(video[None]) for video in family()[[0, 5]])
    latents = [scorer.observed_latents(video[None]) for video in family()[[0, 5]]]
    normal = [torch.nn.functional.layer_norm(x, x.shape[-1:]) for x in latents]
    cosine = torch.nn.functional.cosine_similarity(normal[0], normal[1], dim=-1).mean()
    found = Consensus(scorer).compare(torch.cat((first, second)))
    torch.testing.assert_close(found, (cosine - 1).expand(2), atol=1e-3, rtol=0)
    assert found[0] == found[1]


def test_a_single_candidate_and_equal_ones() -> None:
    consensus = Consensus(scorer_of())
    one = consensus.embed(videos_of(1))
    assert consensus.compare(one).tolist() == [0.0]
    assert consensus.compare(one.expand(3, -1)).abs().max() < 1e-3


# --- combinations -------------------------------------------------------------------------------------


class Brightness:
    name, differentiable = "brightness", True

    def __call__(self, videos: Tensor) -> RewardScores:
        return RewardScores(
            videos.mean(dim=(1, 2, 3, 4)), {"double": 2 * videos.mean((1, 2, 3, 4))}
        )


class Contrast:
    name, differentiable = "contrast", True

    def __call__(self, videos: Tensor) -> RewardScores:
        return RewardScores(videos.flatten(1).std(dim=1), {})


def mix(how: Any = "sum", **weights: float) -> RewardMix:
    rewards: dict[str, Reward | SetReward] = {"brightness": Brightness(), "contrast": Contrast()}
    return RewardMix({name: rewards[name] for name in weights}, weights, how)


def judged(**scores: float) -> Judged:
    return Judged(scores, {}, {})


def test_weighted_sum_and_its_gradient() -> None:
    both, videos = mix(brightness=2.0, contrast=-0.5), videos_of(3).requires_grad_()
    total = both(videos)
    expected = 2 * videos.mean(dim=(1, 2, 3, 4)) - 0.5 * videos.flatten(1).std(dim=1)
    torch.testing.assert_close(total.scores, expected)
    ours, theirs = (torch.autograd.grad(x.sum(), videos)[0] for x in (total.scores, expected))
    torch.testing.assert_close(ours, theirs)
    assert set(total.parts) == {"brightness.double"} and both.differentiable
    apart = [both.judge(video) for video in videos]
    torch.testing.assert_close(both.totals(apart), expected.detach())
    assert apart[0].parts["brightness.double"] == pytest.approx(2 * videos[0].mean().item())


def test_ranks_with_ties() -> None:
    ranked = mix("rank", brightness=1.0, contrast=10.0)
    set_of = [
        judged(brightness=b, contrast=c)
        for b, c in ((5.0, 0.1), (1.0, 0.1), (5.0, 0.3), (0.0, 0.1))
    ]
    # ranks of brightness: 2.5 1 2.5 0; of contrast: 1 1 3 1
    assert ranked.totals(set_of).tolist() == [12.5, 11.0, 32.5, 10.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.randoms())
def test_ranks_do_not_depend_on_scale_or_order(scores: list[float], random: Any) -> None:
    ranked = mix("rank", brightness=1.0)
    totals = ranked.totals([judged(brightness=score) for score in scores])
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = ranked.totals([judged(brightness=scores[i]) for i in order])
    assert shuffled.tolist() == totals[order].tolist()
    assert totals.sum() == len(scores) * (len(scores) - 1) / 2
    doubled = ranked.totals([judged(brightness=2 * score) for score in scores])
    assert doubled.tolist() == totals.tolist()


def test_surprise_and_consensus_together() -> None:
    both = RewardMix.parse(["surprise", "consensus=0.5"], surprise=scorer_of(), how="rank")
    candidates = [both.judge(video) for video in family()]
    table = both.table(candidates)
    assert list(table) == ["surprise", "consensus"]
    assert table["consensus"].argmax() == 1
    assert {"surprise.plain", "surprise.copy"} <= set(candidates[0].parts)
    assert both.totals(candidates).shape == (6,) and not both.differentiable
    with pytest.raises(UsageError, match="'consensus' judges finished videos: it cannot guide"):
        both(videos_of(1))
    longer = both.judge(videos_of(1, 28)[0])
    with pytest.raises(UsageError, match="equal length"):
        both.totals([*candidates, longer])


def test_a_reward_by_import_path() -> None:
    own = RewardMix.parse([f"{EXAMPLE}=0.5", "surprise"], surprise=scorer_of())
    assert own.weights == {EXAMPLE: 0.5, "surprise": 1.0} and own.differentiable
    calm = videos_of(1, 1).expand(-1, -1, 20, -1, -1)
    steady = RewardMix.parse([EXAMPLE], surprise=scorer_of())
    totals = steady.totals([steady.judge(video) for video in (calm[0], videos_of(1)[0])])
    assert totals[0] == 0 > totals[1]


def test_a_reward_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here_only.py").write_text(
        "from wmreward.protocols import RewardScores\n"
        "def make():\n"
        "    return lambda videos: RewardScores(videos.mean((1, 2, 3, 4)), {})\n"
    )
    path = list(sys.path)
    found = RewardMix.parse(["here_only:make"], surprise=scorer_of())
    assert sys.path == path
    assert found.judge(videos_of(1)[0]).scores["here_only:make"] == pytest.approx(0, abs=0.1)
    assert not found.differentiable


def fails_to_start() -> None:
    raise RuntimeError("no GPU")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "no reward is given"),
        (
            ["beauty"],
            "unknown reward 'beauty': use surprise, seam, geometry, consensus, vlm, adherence or package",
        ),
        (["surprise", "surprise=2"], "'surprise' is given twice"),
        (["surprise=much"], "'much' is not a weight"),
        (["surprise="], "'' is not a weight"),
        (["surprise=nan"], "'nan' is not a weight"),
        (["surprise=1_0"], "'1_0' is not a weight"),
        (["surprise=１"], "'１' is not a weight"),
        (["builtins:exit"], "cannot be made: SystemExit"),
        (["test_rewards:fails_to_start"], "cannot be made: RuntimeError: no GPU"),
        (["no_such_module:make"], "cannot be made: No module named"),
        (["wmreward.rewards.mix:no_such"], "cannot be made"),
        (["wmreward.rewards.mix:"], "cannot be made"),
        (["wmreward.rewards.mix:Consensus"], "cannot be made"),
        (["builtins:int"], "is a int, which can neither judge videos nor compare them"),
    ],
)
def test_wrong_rewards(entries: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        RewardMix.parse(entries, surprise=scorer_of())


def test_rewards_are_combined_in_two_ways_only() -> None:
    with pytest.raises(UsageError, match="sum or rank, not 'product'"):
        RewardMix.parse(["surprise"], surprise=scorer_of(), how="product")  # type: ignore[arg-type]


def returning(value: Any) -> RewardMix:
    class Odd:
        name, differentiable = "odd", True

        def __call__(self, videos: Tensor) -> Any:
            return value

    return RewardMix({"odd": Odd()}, {"odd": 1.0})


@pytest.mark.parametrize("value", [torch.tensor([0.5]), torch.tensor(0.5), 0.5, np.float32(0.5)])
def test_plain_scores_will_do(value: Any) -> None:
    judged = returning(value).judge(torch.zeros(3, 4, 8, 8))
    assert judged.scores == {"odd": 0.5} and judged.parts == {}


def test_a_function_of_videos_is_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_reward.py").write_text(
        "def bright(videos, power=1):\n    return videos.mean(dim=(1, 2, 3, 4)) ** power\n"
        "def made():\n    return bright\n"
    )
    monkeypatch.chdir(tmp_path)
    mix = RewardMix.parse(["plain_reward:bright", "plain_reward:made=2"])
    judged = mix.judge(torch.full((3, 4, 8, 8), 0.5))
    assert judged.scores == {"plain_reward:bright": 0.5, "plain_reward:made": 0.5}
    assert not mix.differentiable  # it does not say so


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.zeros(2), r"must return scores \[1\] for 1 videos, as a tensor or in .*, not \[2\]"),
        (torch.zeros(1, 1), r"not \[1, 1\]"),
        ("good", "not str"),
        (RewardScores(torch.zeros(2), {}), r"not \[2\]"),
        (RewardScores(torch.tensor([float("nan")]), {}), "gives nan"),
        (RewardScores(torch.tensor([float("inf")]), {}), "gives inf .* the reward is at fault"),
        (RewardScores(torch.zeros(1, dtype=torch.cfloat), {}), "scores must be real numbers"),
        (RewardScores(torch.zeros(1), {"a": torch.zeros(1) * 1j}), "part 'a' must be real numbers"),
        (RewardScores(torch.zeros(1), None), "dictionary of parts"),  # type: ignore[arg-type]
        (
            RewardScores(torch.zeros(1), {"a": torch.zeros(2)}),
            r"part 'a' must be \[1\] .* not \[2\]",
        ),
        (RewardScores(torch.zeros(1), {"a": torch.tensor([float("nan")])}), "gives a = nan"),
        (
            RewardScores(torch.zeros(1), {}, RewardCurve(torch.zeros(1, 3), [0.0, 1.0])),
            r"its curve must have values \[1, 2\] for 1 videos and 2 places, not \[1, 3\]",
        ),
        (
            RewardScores(torch.zeros(1), {}, RewardCurve(torch.full((1, 1), torch.inf), [0.0])),
            "gives a curve with inf",
        ),
    ],
)
def test_what_a_reward_must_return(value: Any, says: str) -> None:
    with pytest.raises(RewardError, match=says):
        returning(value).judge(videos_of(1)[0])


def test_a_reward_neither_ends_the_process_nor_changes_what_others_see() -> None:
    """A reward that calls `exit` ended a run with code 0; one that works in place blackened the video."""

    def leaves(videos: Tensor) -> Any:
        raise SystemExit(0)

    def blackens(videos: Tensor) -> RewardScores:
        return RewardScores(videos.mul_(0).mean((1, 2, 3, 4)), {})

    for wrong, says in ((leaves, "failed with SystemExit: 0"), (blackens, "work on a copy")):
        for video in (videos_of(1)[0], videos_of(1)[0].requires_grad_()):
            mix = RewardMix({"wrong": wrong}, {"wrong": 1.0})  # type: ignore[dict-item]
            with pytest.raises(RewardError, match=f"reward 'wrong' .*{says}"):
                mix.judge(video)
        with pytest.raises(RewardError, match=f"reward 'wrong' .*{says}"):
            mix(videos_of(1))


def test_the_example_is_as_short_as_it_says() -> None:
    source = (Path(__file__).parents[2] / "example" / "my_reward.py").read_text()
    assert len([line for line in source.splitlines()[1:] if line.strip()]) <= 10


def test_records_tell_the_source_of_a_reward_of_ones_own() -> None:
    source = Path(__file__).parents[2] / "example" / "my_reward.py"
    choice = RewardChoice(
        weights={EXAMPLE: 1.0}, how="sum", model=ModelChoice(name="tiny"), config=SurpriseConfig()
    )
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    own = {"module": EXAMPLE, "module_sha256": sha256}
    assert choice.settings() == {"rewards": {EXAMPLE: 1.0}, "own_rewards": {EXAMPLE: own}}
    assert choice.settings_of(EXAMPLE) == own  # what is known by another version does not count
