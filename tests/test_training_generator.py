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

from magi1.vae import COLOURS, VAE, ColourConv, VAEConfig
from training import autoencoder, videos
from training.autoencoder import (
    AutoencoderConfig,
    AutoencoderTrainer,
    FramewiseConv,
    motion_weight,
    quality,
    short_units,
)
from training.loop import Process, run, schedule
from training.videos import FRAMES, UNIT, Camera, Footage, UnitPool, late_motion, shoot
from weightfiles import dequantise, read_metadata, read_state

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
    """Instead of simulating: videos out of a small stock, as the generator says."""

    def taken(count: int, generator: torch.Generator, split: str = "train") -> Footage:
        chosen = torch.randint(len(footage.looks), (count,), generator=generator)
        return Footage(footage.trajectories[chosen], footage.looks[chosen])

    for module in (videos, autoencoder):
        monkeypatch.setattr(module, "shoot", taken)


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
    return AutoencoderTrainer(config, out, Process.alone(), compiled=False)


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
    assert losses[29] < 0.6 * losses[4]


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
    assert run(vae_trainer(whole), max_minutes=1e9, log_every=1)
    stops = 0
    while not run(vae_trainer(parts), max_minutes=-1, log_every=1, check_every=2):
        stops += 1
    assert stops == 1
    left, right = (torch.load(out / "state.pt", weights_only=True) for out in (whole, parts))
    equal_states(left, right)
    losses = [{row["step"]: row.get("loss") for row in log_of(out)} for out in (whole, parts)]
    assert losses[0] == losses[1]
    assert log_of(whole)[-1].keys() == log_of(parts)[-1].keys() >= {"psnr", "psnr_moving_int8"}
    with pytest.raises(SystemExit, match="other settings"):
        run(vae_trainer(parts, seed=1), max_minutes=1, log_every=1)


def test_exported_autoencoder_is_the_average(stock: None, tmp_path: Path) -> None:
    trainer = vae_trainer(tmp_path, steps=2)
    run(trainer, max_minutes=1e9, log_every=10)
    for folder, tolerance in (("vae_half", 1e-3), ("vae", 0.02)):
        place = tmp_path / folder
        config = VAEConfig.from_json(json.loads((place / "config.json").read_text()))
        file = place / "diffusion_pytorch_model.safetensors"
        model = VAE(config)
        model.load_state_dict(dequantise(read_state(file)))
        assert read_metadata(file)["step"] == "2"
        for p, mean in zip(model.parameters(), trainer.average, strict=True):
            assert torch.allclose(p, mean, atol=tolerance * mean.abs().max().item())


def test_autoencoder_command(stock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "SMOKE", NANO_VAE)
    assert autoencoder.main(["--out", str(tmp_path), "--smoke", "--steps", "2"]) == 0
    assert log_of(tmp_path)[0]["step"] == 2
    with pytest.raises(SystemExit):
        autoencoder.main(["--out", str(tmp_path), "--batch", "0"])


def test_schedule_rises_and_falls() -> None:
    rates = [schedule(i / 100) for i in range(101)]
    assert rates[0] < 0.01 and max(rates) <= 1 and rates[-1] == pytest.approx(0.02)
    assert rates.index(max(rates)) == 4
