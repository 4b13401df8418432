"""Best-of-N and particles: what is made, kept, chosen and resumed, with generators that are known."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmreward.errors import UsageError, VideoError
from wmreward.pictures.colors import WINNER
from wmreward.pictures.contact_sheet import GAP, TEXT
from wmreward.pictures.text import line_height
from wmreward.protocols import RewardScores
from wmreward.rewards.mix import RewardMix
from wmreward.search.best_of_n import Choice, FileJudge, prune, search
from wmreward.search.candidates import CandidateStore, ranking
from wmreward.search.report import choice_gain, choice_table, draw_choice
from wmreward.search.ways import settings_hash
from wmreward.steering.particles import ParticleConfig, ParticleSteering, systematic_resampling
from wmreward.video_io import read_frames, write_video


class Brightness:
    name, differentiable = "brightness", True

    def __call__(self, videos: Tensor) -> RewardScores:
        scores = videos.mean(dim=(1, 2, 3, 4))
        return RewardScores(scores, {"darkness": -scores})


class Spread:
    """The brightest stands out: consensus by one number."""

    name = "spread"

    def embed(self, videos: Tensor) -> Tensor:
        return videos.mean(dim=(1, 2, 3, 4))[:, None]

    def compare(self, embeddings: Tensor) -> Tensor:
        return -(embeddings - embeddings.median()).abs()[:, 0]


MIX = RewardMix({"brightness": Brightness(), "spread": Spread()}, {"brightness": 1.0, "spread": 0})
JUDGE = FileJudge(MIX, torch.device("cpu"))


@dataclass
class Grey:
    """Makes grey videos: seed s has brightness 10 s mod 256.

    Attributes:
        dies: After so many videos the process is killed.
        made: Seeds of every call.
    """

    folder: Path
    batch: int | None = 1
    dies: int | None = None
    made: list[list[int]] = field(default_factory=list)

    def name(self, seed: int) -> str:
        return f"grey{seed}.mp4"

    def make(self, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
        if self.dies is not None and len(self.made) >= self.dies:
            raise KeyboardInterrupt
        self.made.append(list(seeds))
        for seed in seeds:
            frames = np.full((6, 16, 16, 3), 10 * seed % 256, np.uint8)
            write_video(self.folder / self.name(seed), frames, 8)
        return [{"seconds": 1.5, "peak_memory_bytes": None} for _ in seeds]


def store_in(folder: Path, part: int | None = None, **settings: Any) -> CandidateStore:
    settings = {"prompt": "grey", **settings}
    ways = dict.fromkeys(MIX.rewards, settings_hash(settings))
    return CandidateStore(folder / "candidates.jsonl", settings, lambda _: ways, part)


def run(
    folder: Path, seeds: Sequence[int], maker: Grey | None = None, **options: Any
) -> tuple[Choice, Grey]:
    maker = maker or Grey(folder)
    options = {"store": store_in(folder), "mix": MIX, "judge": JUDGE, **options}
    return search(seeds, maker, folder=folder, **options), maker


# --- best of N ----------------------------------------------------------------------------------------


def test_the_best_candidate_wins_and_everything_is_kept(tmp_path: Path) -> None:
    choice, maker = run(tmp_path, [3, 7, 5])
    assert choice.winner.name == "grey7.mp4" and choice.order == [1, 2, 0]
    assert maker.made == [[3], [7], [5]]
    lines = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [3, 7, 5]
    assert lines[0]["scores"]["brightness"] == pytest.approx(30 / 127.5 - 1, abs=0.02)
    assert lines[0]["parts"]["brightness.darkness"] == -lines[0]["scores"]["brightness"]
    assert lines[0]["seconds"] == 1.5 and lines[0]["settings"] == {"prompt": "grey"}
    assert len(lines[0]["video_sha256"]) == 64
    (embedding,) = lines[0]["embeddings"].items()
    assert embedding[0] == "spread"
    assert (tmp_path / "candidates.embeddings" / embedding[1]).exists()
    rows = choice.rows()
    assert [row["path"] for row in rows] == ["grey7.mp4", "grey5.mp4", "grey3.mp4"]
    assert set(rows[0]["scores"]) == {"brightness", "spread"} and rows[0]["rank"] == 1


def test_more_candidates_reuse_the_earlier_ones(tmp_path: Path) -> None:
    first, _ = run(tmp_path, range(2))
    more, maker = run(tmp_path, range(5))
    assert maker.made == [[2], [3], [4]]
    assert more.candidates[:2] == first.candidates and more.winner.name == "grey4.mp4"
    again, maker = run(tmp_path, range(5))
    assert not maker.made and again.totals == more.totals and again.table == more.table


def test_a_killed_run_goes_on_without_making_anything_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, range(4), Grey(tmp_path, dies=2))
    with (tmp_path / "candidates.jsonl").open("ab") as file:
        file.write(b'{"path": "grey2.mp4", "vid')  # killed while it wrote
    choice, maker = run(tmp_path, range(4))
    assert maker.made == [[2], [3]]
    (tmp_path / "whole").mkdir()
    whole, _ = run(tmp_path / "whole", range(4))
    assert whole.totals == choice.totals


def test_a_candidate_without_its_embedding_is_not_finished(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    next(tmp_path.glob("candidates.embeddings/*")).write_bytes(b"torn")
    _, maker = run(tmp_path, range(2))
    assert len(maker.made) == 1


def test_other_settings_are_other_candidates(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    _, maker = run(tmp_path, range(2), store=store_in(tmp_path, prompt="black"))
    assert len(maker.made) == 2
    _, maker = run(tmp_path, range(2))
    assert not maker.made


@pytest.mark.parametrize(
    ("batch", "made"), [(2, [[0, 1], [2, 3], [4]]), (8, [[0, 1, 2, 3, 4]]), (None, [[*range(5)]])]
)
def test_candidates_are_made_in_batches(tmp_path: Path, batch: int, made: list[list[int]]) -> None:
    _, maker = run(tmp_path, range(5), Grey(tmp_path, batch=batch))
    assert maker.made == made


def test_those_that_belong_together_are_made_together(tmp_path: Path) -> None:
    run(tmp_path, range(2))
    _, maker = run(tmp_path, range(3), Grey(tmp_path, batch=None))
    assert maker.made == [[0, 1, 2]]
    assert len((tmp_path / "candidates.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(("keep", "left"), [(None, [0, 1, 2, 3]), (1, [3]), (2, [2, 3])])
def test_videos_that_are_not_kept_go_and_records_stay(
    tmp_path: Path, keep: int | None, left: list[int]
) -> None:
    choice, _ = run(tmp_path, range(4))
    prune(choice, tmp_path, keep)
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == [f"grey{i}.mp4" for i in left]
    again, maker = run(tmp_path, range(4))
    assert not maker.made and again.totals == choice.totals


def test_a_winner_that_was_not_kept_is_made_again(tmp_path: Path) -> None:
    choice, _ = run(tmp_path, range(4))
    (tmp_path / choice.winner.name).unlink()
    again, maker = run(tmp_path, range(4))
    assert maker.made == [[3]] and (tmp_path / again.winner.name).exists()


@dataclass
class OneOfTwo:
    """A group that really waits for the other one."""

    group: int
    barrier: threading.Barrier
    groups: int = 2
    writes: bool = True

    @property
    def is_first(self) -> bool:
        return self.group == 0

    def wait(self) -> None:
        self.barrier.wait(timeout=30)


@pytest.mark.parametrize(
    ("batch", "shares"), [(1, ([[0], [2]], [[1], [3]])), (8, ([[0, 1]], [[2, 3]]))]
)
def test_groups_share_the_work(
    tmp_path: Path, batch: int, shares: tuple[list[list[int]], list[list[int]]]
) -> None:
    """Each makes its own; the parts they write become one file, and all choose the same."""
    barrier = threading.Barrier(2)

    def work(group: int) -> tuple[Choice, Grey]:
        crew, store = OneOfTwo(group, barrier), store_in(tmp_path, part=group)
        return run(tmp_path, range(4), Grey(tmp_path, batch=batch), crew=crew, store=store)

    with ThreadPoolExecutor(2) as pool:
        (first, one), (second, other) = pool.map(work, range(2))
    assert (one.made, other.made) == shares
    assert first.totals == second.totals and first.winner.name == "grey3.mp4"
    assert not list(tmp_path.glob("*.rank*"))
    assert len((tmp_path / "candidates.jsonl").read_text().splitlines()) == 4


def test_equal_totals_go_to_the_first() -> None:
    assert ranking([1.0, 2.0, 2.0, 0.5]) == [1, 2, 0, 3]


def test_files_are_judged_as_they_are(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.full((5, 16, 16, 3), 200, np.uint8), 8)
    alone = JUDGE(tmp_path / "a.mp4").scores["brightness"]
    black = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    after = FileJudge(MIX, torch.device("cpu"), before=black)(tmp_path / "a.mp4")
    assert after.scores["brightness"] == pytest.approx((alone - 1) / 2, abs=1e-6)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"b\.mp4"):
        JUDGE(tmp_path / "b.mp4")


# --- what people see ----------------------------------------------------------------------------------


def test_the_table_and_what_the_choice_is_worth(tmp_path: Path) -> None:
    choice, _ = run(tmp_path, [3, 7, 5])
    lines = choice_table(choice, "candidate", lambda place: f"seed {(3, 7, 5)[place]}").splitlines()
    assert lines[0].split() == [
        "rank",
        "candidate",
        "reward",
        *["brightness", "reward", "spread", "reward"],
    ]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1", "seed", "7"],
        ["2", "seed", "5"],
        ["3", "seed", "3"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert choice_gain(choice).startswith("the choice among 3 raised the reward by 0.15")


def test_the_contact_sheet_marks_the_winner(tmp_path: Path) -> None:
    choice, _ = run(tmp_path, [3, 7])
    prune(choice, tmp_path, 1)
    path = tmp_path / "sheet.png"
    draw_choice(path, choice, lambda i: tmp_path / choice.candidates[i].name, lambda i: f"seed {i}")
    sheet = read_frames(path, [0])[0]
    line = line_height(TEXT) + 2 * GAP
    assert (sheet[0, :50] == WINNER).all() and not (sheet[-1] == WINNER).all(axis=-1).any()
    assert abs(int(sheet[line + 50, 20, 0]) - 70) < 5  # a frame of the winner
    assert len(sheet) == line + 96 + GAP + line  # the other's video is gone, its scores are not


def test_a_lone_candidate_wins_nothing(tmp_path: Path) -> None:
    choice, _ = run(tmp_path, [3])
    path = tmp_path / "sheet.png"
    draw_choice(path, choice, lambda i: tmp_path / choice.candidates[i].name, lambda i: f"seed {i}")
    assert not (read_frames(path, [0])[0] == WINNER).all(axis=-1).any()


# --- particles ----------------------------------------------------------------------------------------


@dataclass
class GaussianStep:
    """A step of a flow whose data are standard normal: its velocity is known exactly."""

    latents: Tensor
    times: Tensor
    next_times: Tensor
    steps: tuple[int, ...]
    first_chunk: int = 0
    chunk_width: int = 1
    decode_unit: int = 1
    frames_per_latent: int = 1
    given: int = 0
    ancestors: list[Tensor] = field(default_factory=list)

    @property
    def finished(self) -> Tensor:
        return self.latents[:, :, :0]

    @property
    def velocity(self) -> Tensor:
        t = self._frames(self.times)
        return (t / (t**2 + (1 - t) ** 2) * self.latents - self.latents) / (1 - t)

    def _frames(self, times: Tensor) -> Tensor:
        return times.repeat_interleave(self.chunk_width)[:, None, None]

    def clean_estimate(self, latents: Tensor, velocity: Tensor) -> Tensor:
        return latents + (1 - self._frames(self.times)) * velocity

    def model(self, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def resample(self, ancestors: Tensor) -> None:
        self.ancestors[:] = [ancestors]


TARGET = torch.tensor([1.5, -1.0], dtype=torch.float64)


def near(videos: Tensor) -> RewardScores:
    """Log-likelihood of an observation of the data with unit noise, but for a constant."""
    return RewardScores(-(videos[:, :, 0, 0, 0] - TARGET).square().sum(dim=1) / 2, {})


def sampled(
    particles: int, steering: ParticleSteering, *, steps: int = 100, seed: int = 0
) -> Tensor:
    """Samples ``[N, 2]`` of the steered flow."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(particles, 2, 1, 1, 1, generator=generator, dtype=torch.float64)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    for k in range(steps):
        step = GaussianStep(x, times[k, None], times[k + 1, None], (k,))
        x = x + (times[k + 1] - times[k]) * steering(step)
        for rows in step.ancestors:
            x = x[rows]
    return x[:, :, 0, 0, 0]


def always(**options: Any) -> ParticleConfig:
    return ParticleConfig(
        **{
            "beta": 1.0,
            "every": 2,
            "times": (0.0, 1.0),
            "churn": 1.0,
            "context_frames": 0,
            **options,
        }
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_particles_sample_the_posterior(seed: int) -> None:
    """N(0, 1) observed with unit noise as y is N(y/2, 1/2)."""
    steering = ParticleSteering(near, always(seed=seed))
    x = sampled(3000, steering, seed=seed)
    weights = steering.weights
    assert weights is not None and any(record.ancestors for record in steering.records)
    mean = (weights[:, None] * x).sum(dim=0)
    variance = (weights[:, None] * (x - mean).square()).sum(dim=0)
    torch.testing.assert_close(mean, TARGET / 2, atol=0.08, rtol=0)
    torch.testing.assert_close(variance, torch.full_like(mean, 0.5), atol=0.06, rtol=0)


@pytest.mark.parametrize("churn", [0.0, 0.5, 1.0])
def test_renewed_noise_leaves_the_distribution_as_it_is(churn: float) -> None:
    x = sampled(4000, ParticleSteering(near, always(beta=0.0, churn=churn)), steps=200)
    torch.testing.assert_close(x.var(dim=0), torch.ones(2).double(), atol=0.06, rtol=0)
    assert x.mean(dim=0).abs().max() < 0.06


def test_without_churn_and_selection_it_is_the_plain_sampler() -> None:
    steering = ParticleSteering(near, always(beta=0.0, churn=0.0))
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(5, 2, 1, 1, 1, generator=generator, dtype=torch.float64)
    half = torch.tensor([0.5], dtype=torch.float64)
    step = GaussianStep(latents, half, half + 0.1, (5,))
    assert steering(step) is not step.velocity and torch.equal(steering(step), step.velocity)
    assert not step.ancestors and all(record.ancestors is None for record in steering.records)


def test_the_last_step_counts_though_its_time_lies_one_float32_above_1() -> None:
    """As MAGI-1's time steps do."""
    steering = ParticleSteering(near, always())
    ends = torch.tensor([0.5, 1 + 2**-23])
    step = GaussianStep(torch.randn(3, 2, 1, 1, 1), ends[:1], ends[1:], (4,))
    assert steering(step).isfinite().all() and len(steering.records) == 1


def test_copies_part_ways_and_descent_is_told() -> None:
    steering = ParticleSteering(near, always(beta=30.0, times=(0.1, 0.8)))
    x = sampled(64, steering)
    assert steering.lineage is not None and len(set(steering.lineage.tolist())) < 30
    assert len({tuple(row) for row in x.tolist()}) == 64
    told = json.loads(json.dumps(steering.to_json()))
    assert len(told["lineage"]) == 64 and len(told["steps"][0]["rewards"]) == 64
    same = ParticleSteering(near, always(beta=30.0, churn=0.0, times=(0.1, 0.8)))
    assert len({tuple(row) for row in sampled(64, same).tolist()}) < 30


def test_a_new_chunk_begins_its_own_account() -> None:
    """Rewards of other frames say nothing about what this chunk gained."""
    steering = ParticleSteering(near, always(beta=0.1, churn=0.0, threshold=0.0))
    latents = torch.randn(4, 2, 1, 1, 1, dtype=torch.float64)
    half = torch.tensor([0.5], dtype=torch.float64)
    for number, chunk in enumerate((0, 0, 1, 1)):
        step = GaussianStep(latents * (number + 1), half, half + 0.1, (4,), first_chunk=chunk)
        steering(step)
    rewards = [torch.tensor(record.rewards) for record in steering.records]
    expected = (0.1 * (rewards[1] + rewards[3])).double().softmax(dim=0)
    assert steering.weights is not None
    torch.testing.assert_close(steering.weights, expected, atol=1e-6, rtol=1e-5)


def test_a_guide_acts_before_the_particles_are_weighed() -> None:
    seen = []

    def reward(videos: Tensor) -> RewardScores:
        seen.append(videos)
        return near(videos)

    steering = ParticleSteering(reward, always(churn=0.0), guide=lambda step: step.velocity + 1.0)
    latents = torch.zeros(3, 2, 1, 1, 1, dtype=torch.float64)
    half = torch.tensor([0.5], dtype=torch.float64)
    velocity = steering(GaussianStep(latents, half, half + 0.1, (4,)))
    assert torch.equal(velocity, torch.ones_like(latents))
    assert torch.equal(seen[0], torch.full_like(latents, 0.5))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1, exclude_max=True))
def test_systematic_resampling_is_in_proportion(weights: list[float], start: float) -> None:
    w = torch.tensor(weights, dtype=torch.float64) + 1e-3
    w = w / w.sum()
    ancestors = systematic_resampling(w, start)
    assert (ancestors[1:] >= ancestors[:-1]).all()
    counts = torch.bincount(ancestors, minlength=len(w))
    assert ((counts - len(w) * w).abs() < 1 + 1e-9).all() and counts.sum() == len(w)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beta": -1.0}, r"beta=-1\.0 must lie in"),
        ({"threshold": 1.5}, r"threshold=1\.5 must lie in 0 … 1"),
        ({"churn": 2.0}, r"churn=2\.0 must lie in 0 … 1"),
        ({"every": 0}, "every=0 must be at least 1"),
        ({"times": (0.8, 0.2)}, "must rise"),
    ],
)
def test_wrong_particle_settings(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        always(**options)
