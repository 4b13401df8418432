"""Training of the embedded generator: its videos, its autoencoder, its transformer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from magi1.config import MagiConfig
from magi1.files.checkpoint import load_dit
from magi1.sampling.schedule import time_steps
from magi1.text.byte_t5 import ByteT5, ByteT5Config, tokenize
from magi1.transformer.dit import DiT
from magi1.vae import COLOURS, VAE, ColourConv, VAEConfig
from simworld import Looks, Trajectories
from training import autoencoder, generator, latents, videos
from training.autoencoder import (
    AutoencoderConfig,
    AutoencoderTrainer,
    FramewiseConv,
    motion_weight,
    quality,
    short_units,
)
from training.generator import (
    GeneratorConfig,
    GeneratorTrainer,
    swap_sides,
    velocity_error,
    write_shards,
)
from training.latents import ASPECTS, CAPTION_TOKENS, Examples, LatentPool, encode, prompts
from training.loop import Process, schedule, train
from training.noising import CLEAN, Plan, bend, noised, plan_lone, plan_pairs
from training.videos import FRAMES, UNIT, Camera, Footage, UnitPool, late_motion, shoot
from wmweights import dequantise, read_metadata, read_state

CPU = torch.device("cpu")
NANO_VAE = AutoencoderConfig(
    steps=4,
    batch=2,
    width=16,
    heads=2,
    encoder_depth=1,
    decoder_depth=1,
    pool=4,
    held_out=4,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def log_of(out: Path) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def equal_states(a: Any, b: Any, where: str = "state") -> None:
    """Two checkpoints hold the same, tensors bit for bit."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            equal_states(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            equal_states(left, right, f"{where}.{i}")
    else:
        assert a == b, where


# --- videos


@pytest.fixture(scope="module")
def footage() -> Footage:
    return shoot(24, torch.Generator().manual_seed(0))


@pytest.fixture
def stock(footage: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of simulating and rendering: flat pictures of a small stock, as the generator says."""

    def taken(count: int, generator: torch.Generator, split: str = "train") -> Footage:
        chosen = torch.randint(len(footage.looks), (count,), generator=generator)
        return Footage(footage.trajectories[chosen], footage.looks[chosen])

    def flat(
        trajectories: Trajectories, looks: Looks, *, size: int, start: Tensor, frames: int
    ) -> Tensor:
        places = trajectories.position[:, :frames, 0, 0].clamp(0, 1) + 0.01 * start[:, None]
        color = looks.object_color[:, 0, :, None] * places[:, None].clamp(max=1)
        return color[..., None, None].expand(-1, -1, -1, size, size)

    for module in (videos, autoencoder, latents):
        monkeypatch.setattr(module, "shoot", taken)
    monkeypatch.setattr("simworld.render", flat)


def test_something_happens_in_the_second_half(footage: Footage) -> None:
    assert len(footage.looks) == len(footage.trajectories) == 24
    assert footage.trajectories.frames == FRAMES
    assert (late_motion(*footage) > 0.05).float().mean() > 0.8


def test_late_motion_ignores_what_is_not_shown(footage: Footage) -> None:
    still = footage.trajectories.retime(torch.full((24, FRAMES), 30))
    assert late_motion(still, footage.looks).max() == 0
    away = replace(still, position=still.position + 5)
    assert late_motion(away, footage.looks).max() == 0


def test_film_comes_in_portions(footage: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_AT_ONCE", 2)
    few = Footage(footage.trajectories[:3], footage.looks[:3])
    start = torch.tensor([0, 5, 9])
    parts = list(Camera(False).film(few, start, 2))
    assert [len(part) for part in parts] == [2, 1] and parts[0].dtype == torch.uint8
    whole = Camera(False).film(few, start + 1, 1)
    assert torch.equal(torch.cat(list(whole))[:, :, 0], torch.cat(parts)[:, :, 1])


def unit_pool(rank: int = 0, seed: int = 0) -> UnitPool:
    return UnitPool(
        units=4, batch=2, reuse=2, seed=seed, rank=rank, device=CPU, compiled=False
    )  # fmt: skip


def test_units_depend_on_seed_rank_and_step_alone(stock: None) -> None:
    pool = unit_pool()
    first = [pool.batch_at(step) for step in range(5)]
    assert torch.equal(unit_pool().batch_at(4), first[4])  # of the second pool, right away
    assert torch.equal(pool.batch_at(1), first[1])
    for other in (unit_pool(rank=1), unit_pool(seed=1)):
        assert not torch.equal(other.batch_at(0), first[0])
    assert first[0].shape == (2, 3, UNIT, 64, 64)
    assert first[0].min() >= -1 and first[0].max() <= 1
    with pytest.raises(ValueError, match="pool=4"):
        UnitPool(units=4, batch=5, reuse=1, seed=0, rank=0, device=CPU, compiled=False)


# --- autoencoder


def test_framewise_convolution_is_the_same() -> None:
    torch.manual_seed(0)
    plain, framewise = (kind(4, COLOURS, 3, padding=1) for kind in (ColourConv, FramewiseConv))
    framewise.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 5, 6, 7, requires_grad=True)
    cotangent = torch.randn(2, 3, 5, 6, 7)
    grads = []
    for module in (plain, framewise):
        out = module(x)
        grads.append(torch.autograd.grad((out * cotangent).sum(), [x, *module.parameters()]))
        assert torch.allclose(out, plain(x), atol=1e-5)
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_motion_weight_marks_what_moves() -> None:
    video = torch.full((1, 3, UNIT, 16, 16), -0.5)
    for frame in range(UNIT):
        video[:, 0, frame, 4:8, frame : frame + 4] = 1.0
    weight = motion_weight(video, 10.0)
    assert weight.shape == (1, 1, UNIT, 16, 16)
    assert (weight[..., :4, :] == 1).all() and (weight[..., 8:, :] == 1).all()
    assert (weight[0, 0, 0, 4:8, :4] == 11).all()
    assert motion_weight(video[:, :, :1], 10.0).max() == 1


def test_short_units_are_cuts_and_still_pictures() -> None:
    video = torch.arange(2.0 * 12).view(2, 1, 12, 1, 1).expand(2, 3, 12, 1, 1)
    short = short_units(video)[:, 0, :, 0, 0]
    assert short.tolist()[:2] == [[0, 1, 2, 3], [4, 4, 4, 4]]
    assert short.shape == (6, 4) and short[4].tolist() == [16, 17, 18, 19]


class Offset(nn.Module):
    """An autoencoder that is wrong by a constant, in [-1, 1] units."""

    def encode(self, video: Tensor) -> Tensor:
        return video

    def decode(self, latent: Tensor) -> Tensor:
        return latent + 0.2


def test_quality_of_a_known_error() -> None:
    video = torch.zeros(3, 3, UNIT, 8, 8)
    video[:, :, ::2, :4] = 0.5
    found = quality(Offset(), video)  # type: ignore[arg-type]
    for name in ("psnr", "psnr_4_frames", "psnr_1_frame", "psnr_moving"):
        assert found[name] == pytest.approx(20.0, abs=1e-3)  # 0.1 of the range
    assert found["latent_std"] == pytest.approx(video.std().item())


def vae_trainer(out: Path, **changes: Any) -> AutoencoderTrainer:
    config = replace(NANO_VAE, **changes)
    return AutoencoderTrainer(config, out, Process.current(), compiled=False)


class OneUnit:
    """The same units at every step."""

    def __init__(self, **_: Any) -> None:
        grid = torch.linspace(-1, 1, 32)
        self.video = (grid[:, None] * grid).expand(2, 3, UNIT, 32, 32).clone()
        for frame in range(UNIT):
            self.video[:, 0, frame, 10:18, 2 * frame : 2 * frame + 8] = 1.0

    def batch_at(self, step: int) -> Tensor:
        return self.video


def test_autoencoder_learns_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "UnitPool", OneUnit)
    monkeypatch.setattr(autoencoder, "SIZE", 32)
    trainer = vae_trainer(tmp_path, steps=30, learning_rate=1e-2)
    losses = [trainer.train_step().item() for _ in range(30)]
    assert losses[28] < 0.5 * losses[0]  # 29 and every fifth before it is on short units
    assert losses[29] < 0.8 * losses[4]


def test_every_parameter_of_the_autoencoder_learns(stock: None, tmp_path: Path) -> None:
    trainer = vae_trainer(tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.live.named_parameters()}
    for _ in range(2):
        assert torch.isfinite(trainer.train_step())
    for name, p in trainer.live.named_parameters():
        assert not torch.equal(p, before[name]), name
        assert torch.isfinite(p).all(), name


def test_autoencoder_resumes_where_it_stopped(stock: None, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(vae_trainer(whole), max_minutes=1e9, log_every=1)
    stops = 0
    while not train(vae_trainer(parts), max_minutes=-1, log_every=1, check_every=2):
        stops += 1
    assert stops == 1
    left, right = (torch.load(out / "state.pt", weights_only=True) for out in (whole, parts))
    equal_states(left, right)
    losses = [{row["step"]: row.get("loss") for row in log_of(out)} for out in (whole, parts)]
    assert losses[0] == losses[1]
    assert log_of(whole)[-1].keys() == log_of(parts)[-1].keys() >= {"psnr", "psnr_moving_int8"}
    with pytest.raises(SystemExit, match="other settings"):
        train(vae_trainer(parts, seed=1), max_minutes=1, log_every=1)


def test_exported_autoencoder_is_the_average(stock: None, tmp_path: Path) -> None:
    trainer = vae_trainer(tmp_path, steps=2)
    train(trainer, max_minutes=1e9, log_every=10)
    for folder, tolerance in (("vae_half", 1e-3), ("vae", 0.02)):
        place = tmp_path / folder
        config = VAEConfig.from_json(json.loads((place / "config.json").read_text()))
        file = place / "diffusion_pytorch_model.safetensors"
        model = VAE(config)
        model.load_state_dict(dequantise(read_state(file)))
        assert read_metadata(file)["step"] == "2"
        for p, mean in zip(model.parameters(), trainer.average, strict=True):
            assert torch.allclose(p, mean, atol=tolerance * mean.abs().max().item())
    again = vae_trainer(tmp_path / "more", init_from=str(tmp_path / "vae_half"))
    assert json.loads(again.record()["training"])["init_from"] == "vae_half"
    for p, mean in zip(again.live.parameters(), trainer.average, strict=True):
        assert torch.allclose(p, mean, rtol=1e-3, atol=1e-4)


def test_autoencoder_command(stock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "SMOKE", NANO_VAE)
    assert autoencoder.main(["--out", str(tmp_path), "--smoke", "--steps", "2"]) == 0
    assert log_of(tmp_path)[0]["step"] == 2
    with pytest.raises(SystemExit):
        autoencoder.main(["--out", str(tmp_path), "--batch", "0"])


# --- noise and conditions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def share(of: Tensor) -> float:
    return of.float().mean().item()


def test_times_are_those_of_the_sampler() -> None:
    assert torch.allclose(bend(torch.linspace(0, 1, 17)), time_steps(16), atol=1e-6)


def test_pairs_come_in_the_stated_shares() -> None:
    plan = plan_pairs(40_000, seeded())
    finished = plan.clean[:, 0]
    assert share(finished) == pytest.approx(0.42, abs=0.01)
    assert not plan.clean[:, 1].any()
    assert (plan.time[finished, 0] == CLEAN).all()
    assert (plan.time[~finished, 0] >= plan.time[~finished, 1]).all()
    assert plan.time.min() >= 0 and plan.time.max() <= 1
    first, second = plan.time[~finished].unbind(1)
    even = ((first - second) - 0.25).abs() < 1e-6
    # bent times, straightened again
    places = (plan.time[~finished] * 3 / (1 + 2 * plan.time[~finished])).sqrt()
    bent = (places[:, 0] - places[:, 1] - 0.25).abs() < 1e-5
    assert share(even) * share(~finished) == pytest.approx(0.15, abs=0.01)
    assert share(bent) * share(~finished) == pytest.approx(0.15, abs=0.01)
    assert share(~plan.text[:, 1]) == pytest.approx(0.12, abs=0.01)
    told = plan.text[:, 1]
    assert not plan.text[finished, 0].any()
    assert torch.equal(plan.text[~finished, 0], told[~finished])
    assert torch.equal(plan.dropped[:, 1], ~told)
    assert torch.equal(plan.dropped[~finished, 0], ~told[~finished])
    assert plan.dropped[finished & ~told, 0].all()
    assert share(plan.dropped[finished & told, 0]) == pytest.approx(0.5, abs=0.02)
    for frames, expected in ((0, 0.68), (1, 0.20), (4, 0.12)):
        assert share(plan.prefix == frames) == pytest.approx(expected, abs=0.01)


def test_lone_chunks_mostly_open_a_video_from_its_prompt() -> None:
    plan, chunk = plan_lone(40_000, seeded())
    told = plan.text[:, 0]
    assert share(told) == pytest.approx(0.75, abs=0.01)
    assert not chunk[told].any() and share(chunk[~told] == 1) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(plan.dropped, ~plan.text) and not plan.clean.any()
    assert not plan.prefix[chunk == 1].any()
    assert share(told & (plan.prefix == 0)) > 0.5  # where only the prompt says what is where
    assert share(plan.time < 0.1) > 0.25  # and while it can still be decided


def test_plans_depend_on_the_generator_alone() -> None:
    for make in (plan_pairs, lambda n, g: plan_lone(n, g)[0]):
        a, b, c = make(8, seeded(1)), make(8, seeded(1)), make(8, seeded(2))
        equal_states(tuple(a), tuple(b))
        assert not torch.equal(a.time, c.time)


def plan_of(time: list[list[float]], clean: list[bool], prefix: list[int]) -> Plan:
    finished = torch.tensor([[first, False][: len(time[0])] for first in clean])
    text = torch.ones_like(finished)
    return Plan(torch.tensor(time), finished, torch.tensor(prefix), text, ~text)


def test_noised_latents_lie_on_the_straight_line() -> None:
    data, noise = torch.randn(2, 3, 4, 12, 2, 2, generator=seeded()).unbind(0)
    plan = plan_of([[1.0, 0.0], [0.5, 0.25], [0.6, 0.1]], [False] * 3, [0, 1, 4])
    x, velocity = noised(data, noise, plan)
    assert torch.equal(x[0, :, :6], data[0, :, :6]) and torch.equal(x[0, :, 6:], noise[0, :, 6:])
    assert torch.equal(x[1, :, :1], data[1, :, :1]) and torch.equal(x[2, :, :4], data[2, :, :4])
    t = plan.time.repeat_interleave(6, 1)[:, None, :, None, None]
    free = plan.learned()[:, None, :, None, None]
    assert torch.allclose((x + (1 - t) * velocity) * free, data * free, atol=1e-5)
    assert plan.learned().sum(1).tolist() == [12, 11, 8]


def test_nothing_is_learned_from_what_is_given() -> None:
    plan = plan_of([[CLEAN, 0.5], [0.9, 0.1]], [True, False], [0, 4])
    assert plan.learned().tolist() == [[False] * 6 + [True] * 6, [False] * 4 + [True] * 8]
    found, wanted = torch.zeros(2, 3, 12, 2, 2), torch.zeros(2, 3, 12, 2, 2)
    found[0, :, :6] = 100.0
    found[1, :, :4] = 100.0
    assert velocity_error(found, wanted, plan) == 0
    found[1, :, 4] = 2.0
    assert velocity_error(found, wanted, plan).item() == pytest.approx(4 / 14)


# --- latents and prompts


NANO = GeneratorConfig(
    steps=4,
    batch=2,
    width=64,
    layers=2,
    heads=1,
    groups=1,
    text_width=32,
    text_layers=1,
    pool=4,
    reuse=2,
    held_out=4,
)


@pytest.fixture(scope="module")
def vae() -> VAE:
    return generator.load_autoencoder("")


def test_prefixes_are_encoded_as_they_will_be_given(vae: VAE) -> None:
    video = torch.randint(0, 256, (2, 3, FRAMES, 64, 64), generator=seeded(), dtype=torch.uint8)
    made, image, fourth = encode(vae, video)
    pixels = video.float() / 127.5 - 1
    assert torch.allclose(made[:, :, 3:6], vae.encode(pixels[:, :, 12:24]), atol=1e-5)
    assert torch.allclose(image, vae.encode(pixels[:, :, 3:4])[:, :, 0], atol=1e-5)
    assert torch.allclose(fourth, vae.encode(pixels[:, :, 12:16])[:, :, 0], atol=1e-5)
    none = torch.zeros(2, CAPTION_TOKENS, dtype=torch.long)
    examples = Examples(made, image, fourth, none, none, none)
    given = examples.with_prefix(torch.tensor([1, 4]))
    assert torch.equal(given[0, :, 0], image[0]) and torch.equal(given[0, :, 1:], made[0, :, 1:])
    assert torch.equal(given[1, :, 3], fourth[1]) and torch.equal(given[1, :, :3], made[1, :, :3])
    assert torch.equal(examples.with_prefix(torch.tensor([0, 0])), made)


def latent_pool(vae: VAE, rank: int = 0) -> LatentPool:
    return LatentPool(vae, 2.0, clips=4, batch=2, reuse=2, seed=0, rank=rank, compiled=False)


def test_examples_depend_on_seed_rank_and_step_alone(stock: None, vae: VAE) -> None:
    pool = latent_pool(vae)
    first = pool.batch_at(0)
    assert first.latents.shape == (2, 16, 12, 8, 8) and first.said.shape == (2, len(ASPECTS))
    later = [pool.batch_at(step) for step in (1, 2, 5)]
    equal_states(tuple(latent_pool(vae).batch_at(5)), tuple(later[2]))
    equal_states(tuple(pool.batch_at(0)), tuple(first))
    assert not torch.equal(latent_pool(vae, rank=1).batch_at(0).latents, first.latents)


def test_prompts_say_what_they_are_said_to_say(footage: Footage) -> None:
    ids, mask, said = prompts(footage, seeded())
    assert ids.shape == mask.shape == (24, latents.CAPTIONS, CAPTION_TOKENS)
    assert torch.equal(mask, ids != 0) and (mask.sum(-1) > 5).all()
    spoken = {
        side: torch.tensor(tokenize([side], 12)[0][0][: len(side)].tolist()).short()
        for side in ("left", "right")
    }
    for row, (_, _, side, _) in zip(ids.flatten(0, 1), said.flatten(0, 1).tolist(), strict=True):
        word = {0: "left", 2: "right"}.get(side)
        if word:
            assert any(
                torch.equal(row[i : i + len(word)], spoken[word]) for i in range(CAPTION_TOKENS - 6)
            )


def test_quick_tokens_are_those_of_the_encoder() -> None:
    texts = ["a red ball", "", "x" * 110]
    assert torch.equal(latents.tokens_of(texts).long(), tokenize(texts, CAPTION_TOKENS)[0])


def test_left_and_right_are_exchanged() -> None:
    texts = ["a red ball on the left rolls right", "a box, walls on both sides"]
    ids = tokenize(texts, CAPTION_TOKENS)[0]
    swapped = tokenize(["a red ball on the right rolls left", texts[1]], CAPTION_TOKENS)[0]
    assert torch.equal(swap_sides(ids), swapped) and torch.equal(swap_sides(swapped), ids)


# --- transformer


def dit_trainer(out: Path, **changes: Any) -> GeneratorTrainer:
    return GeneratorTrainer(replace(NANO, **changes), out, Process.current(), compiled=False)


def test_prompts_reach_the_chunks_that_are_told(stock: None, tmp_path: Path) -> None:
    model = dit_trainer(tmp_path).live
    nn.init.normal_(model.dit.final_linear.linear.weight)
    x = torch.randn(2, 16, 12, 8, 8, generator=seeded())
    plan = plan_of([[0.9, 0.4], [0.9, 0.4]], [False, False], [0, 0])
    plan = plan._replace(text=torch.tensor([[False, True], [True, False]]))
    mask = torch.ones(2, CAPTION_TOKENS, dtype=torch.bool)
    features = torch.randn(2, 2, CAPTION_TOKENS, NANO.text_width, generator=seeded(1)).unbind(0)
    one, other = (model.velocity(x, plan, feature, mask) for feature in features)
    assert torch.equal(one[0, :, :6], other[0, :, :6])  # not told, and sees nothing that is
    assert not torch.allclose(one[0, :, 6:], other[0, :, 6:])
    assert not torch.allclose(one[1, :, :6], other[1, :, :6])


class OneExample:
    """The same examples at every step."""

    def __init__(self, *_: Any, **__: Any) -> None:
        made = torch.randn(4, 16, 12, 8, 8, generator=seeded(3))
        ids, mask = tokenize(["a red ball on the left"] * 4, CAPTION_TOKENS)
        said = torch.tensor([[0, 0, 0, -1]] * 4)
        self.examples = Examples(made, made[:, :, 0], made[:, :, 3], ids, mask.bool(), said)

    def batch_at(self, step: int) -> Examples:
        return self.examples


@pytest.fixture
def one_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "LatentPool", OneExample)
    monkeypatch.setattr(generator, "latent_scale", lambda *_: 1.0)


def test_transformer_learns_one_batch(one_example: None, tmp_path: Path) -> None:
    trainer = dit_trainer(tmp_path, steps=30, learning_rate=5e-3)
    parts = []
    for _ in range(30):
        trainer.train_step()
        parts.append(trainer.diagnostics())
    for name, ratio in (("pairs", 0.93), ("lone", 0.93), ("said", 0.2), ("place", 0.96)):
        last = sum(part[name] for part in parts[-6:]) / 6
        assert last < ratio * parts[0][name], name


def test_every_parameter_of_the_generator_learns(one_example: None, tmp_path: Path) -> None:
    trainer = dit_trainer(tmp_path, batch=2)
    before = {name: p.detach().clone() for name, p in trainer.live.named_parameters()}
    for _ in range(4):
        assert torch.isfinite(trainer.train_step())
    for name, p in trainer.live.named_parameters():
        assert not torch.equal(p, before[name]), name
        assert torch.isfinite(p).all(), name


def test_generator_resumes_where_it_stopped(stock: None, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(dit_trainer(whole), max_minutes=1e9, log_every=1)
    assert not train(dit_trainer(parts), max_minutes=-1, log_every=1, check_every=3)
    assert train(dit_trainer(parts), max_minutes=1e9, log_every=1)
    left, right = (torch.load(out / "state.pt", weights_only=True) for out in (whole, parts))
    equal_states(left, right)
    last = [log_of(out)[-1] for out in (whole, parts)]
    assert last[0] == last[1]
    assert {"held_out_pairs", "held_out_lone", "told", "untold", "mirrored"} <= last[0].keys()


def test_exported_generator_loads_as_magi(
    stock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "SHARD_BYTES", 100_000)
    trainer = dit_trainer(tmp_path, steps=1)
    train(trainer, max_minutes=1e9, log_every=10)
    config = MagiConfig.load(tmp_path / "tiny_config.json")
    assert config.runtime_config.scale_factor == trainer.live.scale.item()
    mean = trainer.averaged_state()
    for folder, tolerance in ((tmp_path / "dit", 0.01), (tmp_path / "half" / "dit", 1e-3)):
        shards = sorted((folder / "inference_weight").glob("*.safetensors"))
        assert len(shards) > 1 and max(path.stat().st_size for path in shards) < 150_000
        model, _ = load_dit(config, folder, dtype=torch.float32)
        for name, value in model.state_dict().items():
            wanted = mean[f"dit.{name}"]
            largest = wanted.abs().max().item()
            assert torch.allclose(value, wanted, atol=tolerance * largest + 1e-6), name
    folder = tmp_path / "byte_t5"
    t5 = ByteT5(ByteT5Config.from_dict(json.loads((folder / "config.json").read_text())))
    t5.load_state_dict(dequantise(read_state(folder / "model.safetensors")))
    again = dit_trainer(tmp_path / "more", init_from=str(tmp_path / "half"))
    for name, value in again.averaged_state().items():
        if not name.endswith(("_head.weight", "_head.bias")):
            assert torch.allclose(value, mean[name], rtol=1e-3, atol=1e-4), name


def test_a_matrix_and_its_scale_share_a_file(tmp_path: Path) -> None:
    state = {f"w{i}": torch.ones(40, 10, dtype=torch.int8) for i in range(3)}
    state |= {f"w{i}.row_scale": torch.ones(40, 1) for i in range(3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "SHARD_BYTES", 500)
        paths = write_shards(state, tmp_path, {})
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(paths) == 3 and set(index.values()) == {path.name for path in paths}
    for i in range(3):
        assert index[f"w{i}"] == index[f"w{i}.row_scale"]


def test_shipped_sizes_stay_in_their_limits() -> None:
    """All weights together at most 28 MiB with a byte per number of a matrix."""
    config = GeneratorConfig()
    with torch.device("meta"):
        models = (
            (DiT(config.model), generator.KEPT),
            (ByteT5(config.text), generator.KEPT),
            (VAE(AutoencoderConfig().shape), autoencoder.KEPT),
        )
    size = 0
    for model, kept in models:
        for name, p in model.state_dict().items():
            whole = p.ndim >= 2 and not any(part in name for part in kept)
            size += p.numel() + 4 * len(p) if whole else 2 * p.numel()
    assert size < 28 * 2**20
    assert 1.1 * generator.SHARD_BYTES < 15 * 2**20


def test_generator_command(
    stock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "SMOKE", NANO)
    assert generator.main(["--out", str(tmp_path), "--smoke", "--steps", "1"]) == 0
    files = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "tiny_config.json") in files and all(Path(f).exists() for f in files)
    with pytest.raises(SystemExit):
        generator.main(["--out", str(tmp_path), "--pool", "1"])


def test_schedule_rises_and_falls() -> None:
    rates = [schedule(i / 100) for i in range(101)]
    assert rates[0] < 0.01 and max(rates) <= 1 and rates[-1] == pytest.approx(0.02)
    assert rates.index(max(rates)) == 4
