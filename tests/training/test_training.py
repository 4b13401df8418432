"""Training: masks, losses, clips, and runs that are stopped, resumed and shared between processes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO_TINY
from processes import Started
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

import simworld
import vjepa2.config
from training import objectives, world_model
from training.clips import CLIP_FRAMES, LONG_FRAMES, ClipStream, mixed_looks, reappearance_starts
from training.degrade import compressed, degrade
from training.masks import Masks, block_masks, causal_masks
from training.objectives import (
    LatentModel,
    PixelModel,
    clip_normalised,
    collapse_diagnostics,
    motion_weight,
    patches_of,
    spread_penalty,
)
from training.world_model import SMOKE, TrainConfig, Trainer, run
from vjepa2 import VJEPA2, VJEPA2Config, load_model
from vjepa2.files.quantise import dequantise, quantise

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SHORT = TrainConfig(pixel_steps=3, latent_steps=3, batch=2, pool=4)


class RandomClips:
    """In the place of :class:`ClipStream`: noise, quick to make."""

    def __init__(self, config: VJEPA2Config, *, batch: int, seed: int, rank: int, **_: Any) -> None:
        self.shape = (batch, 3, 16, config.crop, config.crop)
        self.number = 1000 * seed + 100 * rank

    def batch_at(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.number + step)
        return torch.randn(self.shape, generator=generator)


class OneBatch(RandomClips):
    """The same moving squares at every step."""

    def batch_at(self, step: int) -> Tensor:
        clips = torch.zeros(self.shape)
        for frame in range(16):
            clips[0, :, frame, 20:36, 2 * frame : 2 * frame + 16] = 2
            clips[1, :, frame, 2 * frame : 2 * frame + 16, 8:24] = -2
        return clips


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny`` is very small, and every step is checked and logged."""
    monkeypatch.setitem(vjepa2.config.MODELS, "tiny", NANO_TINY)
    monkeypatch.setattr(world_model, "ClipStream", RandomClips)
    monkeypatch.setattr(world_model, "CHECK_EVERY", 1)
    monkeypatch.delenv("RANK", raising=False)


def train(config: TrainConfig, out: Path, max_minutes: float = 1e9) -> bool:
    return run(config, out, max_minutes=max_minutes, log_every=1, compiled=False)


def log_of(out: Path) -> list[dict[str, Any]]:
    text = (out / "log.jsonl").read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def exported(out: Path) -> dict[str, Any]:
    """Tensors and metadata of the weights file, whose bytes may differ in the order of the metadata."""
    with safe_open(out / "tiny.safetensors", "pt") as file:
        return {**{key: file.get_tensor(key) for key in file.keys()}, "": file.metadata()}  # noqa: SIM118


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


# --- masks


def test_causal_masks_are_the_two_halves() -> None:
    keep, target = causal_masks(8, 3, CPU)
    assert keep.tolist() == list(range(36))
    assert target.tolist() == list(range(36, 72))


def blocks_at(seed: int, count: int = 16, grid: int = 8, **options: Any) -> Masks:
    return block_masks(count, 4, grid, torch.Generator().manual_seed(seed), CPU, **options)


def test_block_masks_hide_whole_columns_in_equal_numbers() -> None:
    keep, target = blocks_at(0)
    assert keep.shape == (16, 4 * 16) and target.shape == (16, 4 * 32)  # 25 % and 50 % of 64 places
    for seen, asked in zip(keep.tolist(), target.tolist(), strict=True):
        assert len({*seen, *asked}) == 4 * 48  # no token twice, none on both sides
        for side in (seen, asked):
            steps = [sorted(index % 64 for index in side if index // 64 == t) for t in range(4)]
            assert steps == [steps[0]] * 4  # through all time, at the same places


def test_block_masks_are_seeded_and_differ_between_clips() -> None:
    first, again, other = blocks_at(1), blocks_at(1), blocks_at(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.target, other.target)
    assert len({tuple(sorted(row)) for row in first.target.tolist()}) == 16


def test_block_masks_hide_blocks() -> None:
    """One rectangle of at most half of the picture: what is asked for lies together."""
    _, target = blocks_at(3, count=64, blocks=1, predict=0.1)
    places = target[:, : 64 // 10] % 64
    rows, columns = places // 8, places % 8
    spread = (rows.amax(1) - rows.amin(1)).float().mean() + (
        columns.amax(1) - columns.amin(1)
    ).float().mean()
    assert spread < 2 * 0.7 * 8 - 2  # six places drawn from the whole picture lie 11 apart
    assert ((rows.amax(1) - rows.amin(1)) < 6).all() and (
        (columns.amax(1) - columns.amin(1)) < 6
    ).all()


# --- objectives


def test_patches_come_in_token_order() -> None:
    pixels = torch.zeros(1, 3, 4, 64, 64)
    pixels[0, :, 2:4, 8:16, 24:32] = 1  # second tubelet, second row, fourth column
    patches = patches_of(pixels, NANO_TINY)
    assert patches.shape == (1, 128, 3 * 2 * 64)
    assert patches.mean(dim=-1)[0].nonzero().flatten().tolist() == [64 + 8 + 3]
    assert (patches[0, 75] == 1).all()


def test_motion_weight_has_mean_one_and_prefers_what_moves() -> None:
    still = torch.randn(2, 12, 6)
    moved = still.clone()
    moved[0, :3] += 5  # far above the range: full weight
    moved[1, 4] += objectives.STILL / 2  # sensor noise: none
    weight = motion_weight(moved, still)
    assert weight.mean().item() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(weight[0, 3:], weight[1, :1].expand(9))
    assert torch.allclose(weight[0, :3] / weight[1, 0], torch.tensor(6.0))
    assert torch.allclose(weight[1], weight[1, :1].expand(12))
    assert torch.equal(motion_weight(still, still), torch.ones(2, 12))


def test_clip_normalised_removes_colour_and_contrast() -> None:
    pixels = torch.randn(3, 3, 4, 8, 8, dtype=torch.float64)
    out = clip_normalised(pixels)
    assert out.mean(dim=(2, 3, 4)).abs().max() < 1e-12
    assert (out.square().mean(dim=(1, 2, 3, 4)) - 1).abs().max() < 0.02
    colour = torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1, 1)
    contrast = torch.tensor([0.8, 2.0, 5.0]).view(3, 1, 1, 1, 1)
    assert (clip_normalised(contrast * pixels + colour) - out).abs().max() < 0.03
    assert torch.equal(
        clip_normalised(torch.full((1, 3, 2, 4, 4), 0.25)), torch.zeros(1, 3, 2, 4, 4)
    )


def directions(count: int, width: int = 64) -> Tensor:
    """``count`` orthogonal features that a LayerNorm only scales."""
    out = torch.zeros(count, width)
    for i in range(count):
        out[i, 2 * i], out[i, 2 * i + 1] = 1, -1
    return out


def test_spread_penalty_is_zero_for_isotropic_features() -> None:
    features = torch.randn(64, 16, 48, requires_grad=True)
    penalty = spread_penalty(features)
    assert penalty.item() == 0
    assert spread_penalty(features, rank=100.0).item() > 0.5


@pytest.mark.parametrize("count", [1, 2, 8])
def test_spread_penalty_measures_the_directions(count: int) -> None:
    one_each = torch.cat([directions(count), -directions(count)])  # [2c, D]
    features = one_each[:, None].expand(-1, 5, -1)
    assert spread_penalty(features).item() == pytest.approx(math.log(24 / count), abs=1e-3)
    assert spread_penalty(7 * features + 3).item() == pytest.approx(math.log(24 / count), abs=1e-3)


def test_spread_penalty_ignores_place() -> None:
    """Each place has a look of its own; only one direction tells clips apart."""
    every = directions(30)
    content = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None] * every[0]  # [4, 1, D]
    features = content + every[1:][None]  # at 29 places
    assert spread_penalty(features).item() == pytest.approx(math.log(24), abs=1e-3)


def test_spread_penalty_pushes_towards_more_directions() -> None:
    features = (torch.randn(32, 4, 1) * directions(1) + 0.05 * torch.randn(32, 4, 64)).double()
    features.requires_grad_()
    before = spread_penalty(features)
    (gradient,) = torch.autograd.grad(before, features)
    assert spread_penalty(features - 0.1 * gradient / gradient.abs().max()) < before


def test_diagnostics_of_known_covariances() -> None:
    base, _ = torch.linalg.qr(torch.randn(4096, 4, dtype=torch.float64))
    base = base - base.mean(dim=0)
    base, _ = torch.linalg.qr(base)  # orthogonal, mean 0
    scales = torch.tensor([2.0, 1.0, 1.0, 0.0])
    latents = (64 * base * scales + 3).view(256, 16, 4)  # standard deviations: the scales
    found = collapse_diagnostics(latents)
    assert found["rank"] == pytest.approx((4 + 1 + 1) ** 2 / (16 + 1 + 1), rel=1e-4)
    assert found["std"] == pytest.approx(1.0, rel=1e-3)
    assert found["clip_std"] == pytest.approx(1.0, rel=0.1)


def test_diagnostics_of_collapsed_features() -> None:
    one = collapse_diagnostics(torch.randn(8, 4, 1) * torch.ones(6))
    assert one["rank"] == pytest.approx(1, abs=1e-4)
    by_place = torch.randn(1, 4, 6).expand(8, -1, -1)  # says where, never what
    assert collapse_diagnostics(by_place)["clip_std"] == 0
    nothing = collapse_diagnostics(torch.full((8, 4, 6), 0.5))
    assert nothing == {"rank": 0.0, "std": 0.0, "clip_std": 0.0}  # and no NaN in the log


def nano_pixel_model() -> PixelModel:
    model = PixelModel(NANO_TINY)
    model.apply(world_model._initialise)
    return model


def test_pixel_model_learns_with_every_part_but_the_latent_projection() -> None:
    model = nano_pixel_model()
    clips = RandomClips(NANO_TINY, batch=2, seed=0, rank=0).batch_at(0)
    loss = model(clips, causal_masks(8, 8, CPU), block_masks(2, 8, 8, torch.Generator(), CPU))
    loss.backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None}
    assert untouched == {"predictor.predictor_proj.weight", "predictor.predictor_proj.bias"}
    assert all(p.grad.abs().max() > 0 for p in model.parameters() if p.grad is not None)


def test_pixel_model_predicts_without_seeing_what_it_predicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the predictor is given does not change with the hidden pixels."""
    model = nano_pixel_model()
    contexts: list[Tensor] = []
    hidden = model.predictor.hidden

    def noted(context: Tensor, keep: Tensor, target: Tensor) -> Tensor:
        contexts.append(context)
        return hidden(context, keep, target)

    monkeypatch.setattr(model.predictor, "hidden", noted)
    causal = causal_masks(8, 8, CPU)
    block = blocks_at(0, count=2)
    block = Masks(*(torch.cat([side, side + 256], dim=1) for side in block))  # 8 tubelets, not 4
    clips = RandomClips(NANO_TINY, batch=2, seed=0, rank=0).batch_at(0)
    model(clips, causal, block)
    tokens = patches_of(torch.arange(clips[0].numel()).view(clips[:1].shape).float(), NANO_TINY)[0]
    future, filled = clips.clone(), clips.clone()
    future[:, :, 8:] = 0
    for i, clip in enumerate(filled):
        clip.view(-1)[tokens[block.target[i]].long().flatten()] = 0
    model(future, causal, block)
    model(filled, causal, block)
    assert torch.equal(contexts[2], contexts[0])
    assert torch.equal(contexts[5], contexts[1])
    assert not torch.equal(contexts[3], contexts[1])


def nano_world_model() -> VJEPA2:
    model = VJEPA2(NANO_TINY)
    model.apply(world_model._initialise)
    for name, parameter in model.named_parameters():
        if "mask_tokens" in name:
            torch.nn.init.normal_(parameter)
    return model


def test_only_the_predictor_learns_latents() -> None:
    world = nano_world_model()
    assert not isinstance(world.predictor, vjepa2.ac_predictor.ActionPredictor)
    model = LatentModel(NANO_TINY, world.encoder, world.predictor)
    step = model(RandomClips(NANO_TINY, batch=2, seed=0, rank=0).batch_at(0))
    step.loss.backward()
    assert not step.latents.requires_grad and step.latents.shape == (2, 512, 32)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.predictor.parameters())


def test_latent_loss_is_between_what_scoring_compares() -> None:
    world = nano_world_model()
    assert not isinstance(world.predictor, vjepa2.ac_predictor.ActionPredictor)
    clips = OneBatch(NANO_TINY, batch=2, seed=0, rank=0).batch_at(0)
    with torch.no_grad():
        latents = world.future_latents(clips, 8)
        loss = LatentModel(NANO_TINY, world.encoder, world.predictor)(clips).loss
    wanted = F.layer_norm(latents.observed, (32,))
    error = (latents.predicted - wanted).abs().mean(dim=-1)
    patches = patches_of(clips, NANO_TINY).unflatten(1, (8, 64))
    weight = motion_weight(patches[:, 4:], patches[:, 3:4])
    assert weight.max() > 2 * weight.min()  # there is motion to weigh
    assert loss.item() == pytest.approx((weight * error).mean().item(), abs=1e-6)


# --- clips


@pytest.fixture(scope="module")
def stream() -> Iterator[Callable[..., ClipStream]]:
    """Streams of coarsely simulated scenes, which takes a sixth of the time."""

    def make(seed: int = 0, rank: int = 0) -> ClipStream:
        return ClipStream(NANO_TINY, batch=2, seed=seed, rank=rank, device=CPU, pool=6, reuse=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simworld.simulate", partial(simworld.simulate, substeps=1))
        yield make


def test_clip_stream_can_be_entered_anywhere(stream: Callable[..., ClipStream]) -> None:
    walked = stream()
    batches = [walked.batch_at(step) for step in range(7)]  # 6 steps to a pool
    for step, clips in enumerate(batches):
        assert clips.shape == (2, 3, 48 if step == 3 else 16, 64, 64)  # every fourth are long
        assert clips.isfinite().all()
        assert clips.std() > 0.1 and clips.min() > -2.2 and clips.max() < 2.7  # normalised greys
    for i, clips in enumerate(batches):
        assert all(not torch.equal(clips, other) for other in batches[:i])
    fresh = stream()
    assert torch.equal(fresh.batch_at(6), batches[6])
    assert torch.equal(walked.batch_at(3), batches[3])


def test_clip_streams_of_ranks_and_seeds_differ(stream: Callable[..., ClipStream]) -> None:
    first = stream().batch_at(0)
    assert not torch.allclose(first, stream(rank=1).batch_at(0))
    assert not torch.allclose(first, stream(seed=1).batch_at(0))


def test_every_scene_is_used_once_per_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """With geometry replaced by its own number, as only the choice matters."""
    chosen: list[list[int]] = []
    fills: list[int] = []
    moments: list[Tensor] = []

    def fill(self: ClipStream, number: int) -> None:
        fills.append(number)
        self._covered, self._filled = torch.zeros(self.pool, self.frames).bool(), number

    def film(self: ClipStream, scenes: Tensor, frames: Tensor, *_: Any) -> Tensor:
        chosen.append(scenes.tolist())
        moments.append(frames)
        return torch.zeros(len(scenes), 3, frames.shape[1], 64, 64)

    monkeypatch.setattr(ClipStream, "_fill", fill)
    monkeypatch.setattr(ClipStream, "_film", film)
    monkeypatch.setattr("training.clips.mixed_looks", lambda count, generator: (count, count))
    clips = ClipStream(NANO_TINY, batch=12, seed=0, rank=0, device=CPU, pool=36, reuse=2)
    batches = [clips.batch_at(step) for step in range(12)]
    assert batches[0][:, 0].min().item() == pytest.approx(-0.485 / 0.229)  # black, normalised
    assert fills == [0, 1]  # a new pool of other scenes after 2 rounds
    assert sorted(chosen[0] + chosen[1] + chosen[2]) == list(range(36))
    for step, frames in enumerate(moments):
        length = 48 if step % 4 == 3 else 16
        assert frames.shape == (4 if length == 48 else 12, length)
        assert frames.min() >= 0 and frames.max() < 56
        strides = frames.diff(dim=1)
        assert (strides == strides[:, :1]).all()
        assert set(strides[:, 0].tolist()) == ({1} if length == 48 else {1, 2, 3})


def test_a_scene_is_simulated_for_as_long_as_a_clip() -> None:
    with pytest.raises(ValueError, match="frames=40 must be at least 48"):
        ClipStream(NANO_TINY, batch=2, seed=0, rank=0, device=CPU, pool=4, frames=40)


def test_clips_show_the_scenes_at_their_moments(stream: Callable[..., ClipStream]) -> None:
    """Every third frame of a clip of every frame, and pieces of long clips in their order."""
    clips = stream()
    clips._fill(0)
    looks, style = mixed_looks(2, torch.Generator().manual_seed(0))
    looks = replace(looks, noise=torch.zeros(2))
    which, every = torch.tensor([1, 4]), torch.arange(48).expand(2, 48)
    full = clips._film(which, every, looks, style, torch.Generator())
    assert full.shape == (2, 3, 48, 64, 64)
    third = clips._film(which, every[:, ::3], looks, style, torch.Generator())
    assert torch.equal(third, full[:, :, ::3])


def test_a_pool_holds_at_least_one_batch() -> None:
    with pytest.raises(ValueError, match="pool=4 must hold at least one batch of 8"):
        ClipStream(NANO_TINY, batch=8, seed=0, rank=0, device=CPU, pool=4)


def test_degraded_clips_are_some_of_them_and_stay_in_range() -> None:
    clips = torch.rand(60, 3, 2, 8, 8)
    out = degrade(clips, torch.Generator().manual_seed(0))
    assert out.min() >= 0 and out.max() <= 1
    changed = (out - clips).abs().amax(dim=(1, 2, 3, 4)) > 1e-6
    assert 0.55 < changed.float().mean() < 0.95  # 1 − ⅔ · 0.7 · 0.8 · 0.7 = 0.74
    assert changed[::3].all()  # these went through the codec
    assert torch.equal(out, degrade(clips, torch.Generator().manual_seed(0)))


def test_codec_repeats_what_stands_still_and_loses_detail_of_what_moves() -> None:
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 3, 1, 16, 16, generator=generator).expand(-1, -1, 6, -1, -1)
    faint = still + 0.004 * torch.randn(still.shape, generator=generator)
    out = compressed(faint, torch.tensor([0.1]))
    same = out.diff(dim=2).abs() < 1e-6  # most noise below the step is no change
    assert same.float().mean() > 0.8 and (faint.diff(dim=2) != 0).all()
    clips = torch.rand(1, 3, 6, 16, 16, generator=generator)
    errors = [
        (compressed(clips, torch.tensor([step])) - clips).std().item() for step in (0.0, 0.05, 0.1)
    ]
    assert errors[0] < 1e-4
    assert 0.25 * 0.05 < errors[1] < 0.4 * 0.05  # a uniform error of one step: 0.29 of it, or less
    assert errors[2] == pytest.approx(2 * errors[1], rel=0.2)


# --- runs


def test_run_logs_and_exports_a_model(nano: None, tmp_path: Path) -> None:
    assert train(SHORT, tmp_path / "new" / "run")
    out = tmp_path / "new" / "run"
    log = log_of(out)
    assert [(row["step"], row["stage"]) for row in log] == [
        (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2),
    ]  # fmt: skip
    assert all(row["loss"] > 0 and row["minutes"] >= 0 for row in log)
    for row in log:
        assert ({"rank", "std", "clip_std"} <= row.keys()) == (row["stage"] == 2)
    model, info = load_model("tiny", weights=out / "tiny.safetensors")  # strict
    assert info.mask_token_norms[0] > 0
    clips = RandomClips(NANO_TINY, batch=2, seed=9, rank=0).batch_at(0)
    assert model.future_latents(clips, 8).predicted.isfinite().all()


def test_export_holds_the_averaged_weights(nano: None, tmp_path: Path) -> None:
    train(SHORT, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    live = {k: v for k, v in state["model"].items() if k.startswith("predictor.")}
    average = dict(zip(live, state["average"], strict=True))
    assert any(not torch.equal(live[name], average[name]) for name in live)
    expected = average | {
        f"encoder.{k.removeprefix('teacher.')}": v
        for k, v in state["model"].items()
        if k.startswith("teacher.")
    }
    model, _ = load_model("tiny", weights=tmp_path / "tiny.safetensors")
    for name, value in dequantise(quantise(expected)).items():
        assert torch.equal(model.state_dict()[name], value.float()), name


def test_average_of_the_first_steps_is_known(nano: None, tmp_path: Path) -> None:
    """In stage 1 the average takes 9/10, then 9/11 of the newest weights: nothing old lingers."""
    trainer = Trainer(SHORT, tmp_path, CPU, compiled=False)
    mean = [p.detach().clone() for p in trainer.live.parameters()]
    for seen in range(2):
        trainer.train_step()
        decay = (1 + seen) / (10 + seen)
        mean = [
            decay * old + (1 - decay) * p.detach()
            for old, p in zip(mean, trainer.live.parameters(), strict=True)
        ]
        for ours, theirs in zip(trainer.average, mean, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-7)


def test_teacher_is_the_averaged_encoder_and_stays(
    nano: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(SHORT, tmp_path, CPU, compiled=False)
    average: dict[str, Tensor] = {}
    finish = trainer._finish_pixel_stage

    def noted() -> None:
        names = (name for name, _ in trainer.live.named_parameters())
        average.update(zip(names, [mean.clone() for mean in trainer.average], strict=True))
        finish()

    monkeypatch.setattr(trainer, "_finish_pixel_stage", noted)
    for _ in range(3):
        trainer.train_step()
    assert isinstance(trainer.live, LatentModel)
    predictor = {k: v.clone() for k, v in trainer.live.predictor.state_dict().items()}
    for name, value in predictor.items():  # it keeps what it learned, but for the new projection
        same = torch.equal(value, average[f"predictor.{name}"])
        assert same == (name != "predictor_proj.weight") or "predictor_proj.bias" in name
    for _ in range(2):
        trainer.train_step()
    for name, value in trainer.live.teacher.state_dict().items():
        assert torch.equal(value, average[f"encoder.{name}"]), name
    for name, value in trainer.live.predictor.state_dict().items():
        assert not torch.equal(value, predictor[name]), name


@pytest.mark.parametrize("every", [1, 2])
def test_interrupted_and_resumed_equals_uninterrupted(
    nano: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Stopped after every step, with the change of stage among the stops or between two of them."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(SHORT, whole)
    monkeypatch.setattr(world_model, "CHECK_EVERY", every)
    stops = 0
    while not train(SHORT, parts, max_minutes=-1):
        stops += 1
    assert stops == 5 // every
    left, right = (torch.load(out / "state.pt", weights_only=True) for out in (whole, parts))
    equal_states(left, right)
    equal_states(exported(whole), exported(parts))
    losses = [{row["step"]: row["loss"] for row in log_of(out)} for out in (whole, parts)]
    assert losses[0] == losses[1]


def test_slices_of_stage_two_export_what_there_is(nano: None, tmp_path: Path) -> None:
    config = replace(SHORT, pixel_steps=1, latent_steps=3)
    assert not train(config, tmp_path, max_minutes=-1)
    first = exported(tmp_path)
    load_model("tiny", weights=tmp_path / "tiny.safetensors")
    assert not train(config, tmp_path, max_minutes=-1)
    second = exported(tmp_path)
    assert (first[""]["step"], second[""]["step"]) == ("1", "2")
    assert not torch.equal(
        first["predictor.predictor_proj.weight"], second["predictor.predictor_proj.weight"]
    )


def test_finished_run_stays_as_it_is(nano: None, tmp_path: Path) -> None:
    train(SHORT, tmp_path)
    before = exported(tmp_path)
    log = log_of(tmp_path)
    assert train(SHORT, tmp_path)
    equal_states(exported(tmp_path), before)
    assert log_of(tmp_path) == log


@pytest.mark.parametrize("other", [{"seed": 1}, {"batch": 3}, {"latent_steps": 4}])
def test_other_settings_are_refused(nano: None, tmp_path: Path, other: dict[str, Any]) -> None:
    train(SHORT, tmp_path, max_minutes=-1)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(SystemExit) as refused:
        train(replace(SHORT, **other), tmp_path)
    message = str(refused.value)
    assert "other settings" in message and "\n" not in message and str(tmp_path) in message
    assert (tmp_path / "state.pt").read_bytes() == before


def test_settings_decide_the_weights(nano: None, tmp_path: Path) -> None:
    def weights(name: str, **other: Any) -> str:
        train(replace(SHORT, **other), tmp_path / name)
        return load_model("tiny", weights=tmp_path / name / "tiny.safetensors")[1].sha256

    first = weights("first")
    assert weights("again") == first
    assert weights("seed", seed=1) != first
    assert weights("rate", learning_rate=1e-4) != first
    metadata = exported(tmp_path / "rate")[""]
    assert json.loads(metadata["training"]) == {
        **asdict(SHORT), "learning_rate": 1e-4, "processes": 1,
    }  # fmt: skip


def test_run_starts_from_exported_weights(nano: None, tmp_path: Path) -> None:
    train(SHORT, tmp_path)
    weights = tmp_path / "tiny.safetensors"
    start, _ = load_model("tiny", weights=weights)
    config = replace(SHORT, init_from=str(weights))
    trainer = Trainer(config, tmp_path / "more", CPU, compiled=False)
    assert isinstance(trainer.live, PixelModel)
    equal_states(dict(trainer.live.encoder.state_dict()), dict(start.encoder.state_dict()))
    equal_states(dict(trainer.live.predictor.state_dict()), dict(start.predictor.state_dict()))


def test_loss_falls(nano: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one repeated batch with one set of masks, in both stages."""
    block = block_masks(2, 8, 8, torch.Generator().manual_seed(0), CPU)
    monkeypatch.setattr(world_model, "block_masks", lambda *_: block)
    monkeypatch.setattr(world_model, "ClipStream", OneBatch)
    config = replace(SHORT, pixel_steps=32, latent_steps=24, learning_rate=1e-2)
    train(config, tmp_path)
    losses = [row["loss"] for row in log_of(tmp_path)]
    assert losses[31] < 0.85 * losses[0]
    assert losses[-1] < 0.7 * losses[32]


def test_settings_that_cannot_be_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="batch=1"):
        TrainConfig(batch=1)  # features are compared between clips
    with pytest.raises(ValueError, match="pixel_steps=0"):
        TrainConfig(pixel_steps=0)
    with pytest.raises(SystemExit) as refused:
        world_model.main(["--out", "nowhere", "--batch", "1"])
    assert refused.value.code == 2
    assert "batch=1" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("nowhere").exists()


# --- command line


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[TrainConfig, Path, dict]]]:
    """What the command line would have run."""
    calls: list[tuple[TrainConfig, Path, dict[str, Any]]] = []

    def noted(config: TrainConfig, out: Path, **options: Any) -> bool:
        calls.append((config, out, options))
        return options["max_minutes"] > 1

    monkeypatch.setattr(world_model, "run", noted)
    yield calls


def test_smoke_run_is_small(asked: list[Any], tmp_path: Path) -> None:
    assert world_model.main(["--out", str(tmp_path), "--smoke"]) == 0
    assert world_model.main(["--out", str(tmp_path), "--smoke", "--seed", "0", "--batch", "2"]) == 0
    (config, out, options), (changed, _, _) = asked
    assert config == SMOKE and out == tmp_path and options["max_minutes"] >= 1e9
    assert config.pixel_steps + config.latent_steps <= 20 and config.pool <= 16
    assert changed == replace(SMOKE, batch=2)


def test_every_setting_can_be_given(
    asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "model": "tiny",
        "pixel_steps": 5,
        "latent_steps": 6,
        "batch": 7,
        "learning_rate": 0.25,
        "weight_decay": 0.5,
        "seed": 3,
        "pool": 9,
        "init_from": "some.safetensors",
    }
    words = [str(word) for k, v in values.items() for word in (f"--{k}", v)]
    world_model.main(["--out", str(tmp_path), "--max_minutes", "0.5", "--no_compile", *words])
    world_model.main(["--out", str(tmp_path)])
    (config, _, options), (default, _, _) = asked
    assert asdict(config) == values
    assert options == {"max_minutes": 0.5, "log_every": 200, "compiled": False}
    assert default == TrainConfig()
    assert "run the same command to go on" in capsys.readouterr().err


def test_smoke_command_trains(
    nano: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world_model.main(["--out", str(tmp_path), "--smoke", "--log_every", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(tmp_path / "tiny.safetensors")]
    assert [row["step"] for row in log_of(tmp_path)] == [3, 6, 9, 12, 15, 16]
    load_model("tiny", weights=tmp_path / "tiny.safetensors")


def test_log_has_every_step_asked_for(
    nano: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those at which the clock is not looked at."""
    monkeypatch.setattr(world_model, "CHECK_EVERY", 4)
    run(SHORT, tmp_path, max_minutes=1, log_every=5, compiled=False)
    assert [row["step"] for row in log_of(tmp_path)] == [5, 6]


# --- two processes

WORKER = """
import os, sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[2:]
import vjepa2.config
from training import world_model
from test_training import NANO_TINY, RandomClips

vjepa2.config.MODELS["tiny"] = NANO_TINY
world_model.ClipStream = RandomClips
world_model.CHECK_EVERY = 2
out = Path(sys.argv[1])
rank = int(os.environ["RANK"])
steps, asked = [], []
block_masks = world_model.block_masks

def noted(*arguments):
    masks = block_masks(*arguments)
    asked.append(masks.target)
    return masks

world_model.block_masks = noted

class Watched(world_model.Trainer):
    def _average_gradients(self, parameters):
        parameters = list(parameters)
        own = [p.grad.clone() for p in parameters]
        super()._average_gradients(parameters)
        steps.append((own, [p.grad.clone() for p in parameters]))

    def save(self):
        state = {"steps": steps, "asked": asked, "model": self.live.state_dict()}
        torch.save(state, out / f"rank{rank}.pt")
        super().save()

world_model.Trainer = Watched
flags = "--pixel_steps 3 --latent_steps 2 --batch 2 --pool 4 --log_every 1".split()
sys.exit(world_model.main(["--out", str(out), *flags]))
"""


def test_two_processes_train_one_model(
    nano: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes the gradient of its own clips; both go the way of the average, which is that of all."""
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = (tmp_path, ROOT, ROOT / "tests", Path(__file__).parent)
    ended = Started("worker", words, tmp_path, ranks=2, streams=tmp_path).end()
    assert ended.code == 0, ended.err[-3000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    equal_states(ranks[0]["model"], ranks[1]["model"], "model")
    assert len(ranks[0]["steps"]) == 5
    for (one, mean), (two, same) in zip(ranks[0]["steps"], ranks[1]["steps"], strict=True):
        equal_states(mean, same, "averaged gradient")
        for a, b, averaged in zip(one, two, mean, strict=True):
            assert torch.allclose((a + b) / 2, averaged, rtol=1e-5, atol=1e-8)
    assert any(
        not torch.equal(a, b) for a, b in zip(*(r["steps"][0][0] for r in ranks), strict=True)
    )
    masks = [str(target.tolist()) for rank in ranks for target in rank["asked"]]
    assert len(masks) == len(set(masks)) == 2 * 3  # others for each process and step
    config = replace(SHORT, latent_steps=2)
    # The gradient of a process is that of its own clips and masks, on the same weights.
    for rank in (0, 1):
        own = first_gradient(config, tmp_path / f"alone{rank}", rank)
        for a, b in zip(own, ranks[rank]["steps"][0][0], strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)
    assert [row["step"] for row in log_of(tmp_path)] == [1, 2, 3, 4, 5]  # written by one of them
    assert ended.out.split() == [str(tmp_path / "tiny.safetensors")]
    load_model("tiny", weights=tmp_path / "tiny.safetensors")


def first_gradient(config: TrainConfig, out: Path, rank: int) -> list[Tensor]:
    """What process ``rank`` should find at the first step, computed without a second process."""
    trainer = Trainer(config, out, CPU, compiled=False)
    trainer.rank = rank
    trainer.stream = RandomClips(NANO_TINY, batch=config.batch, seed=config.seed, rank=rank)  # type: ignore[assignment]
    found: list[Tensor] = []
    trainer._average_gradients = lambda parameters: found.extend(  # type: ignore[method-assign]
        p.grad.clone() for p in parameters if p.grad is not None
    )
    trainer.train_step()
    return found


def test_aimed_clips_show_an_object_hide_and_come_back() -> None:
    covered = torch.zeros(4, 40, dtype=torch.bool)
    covered[0, 20:26] = True  # hidden for six frames
    covered[1, 35:] = True  # never comes out
    covered[2, 0:5] = True  # was never seen before
    first, last = reappearance_starts(covered, CLIP_FRAMES, torch.ones(4, dtype=torch.long))
    assert (first <= last).tolist() == [True, False, False, False]
    for start in range(int(first[0]), int(last[0]) + 1):
        clip = covered[0, start : start + CLIP_FRAMES]
        context, future = clip[:8], clip[8:]
        assert not context[:2].any(), "seen before it hides"
        assert clip.sum() == 6, "the whole occlusion is in the clip"
        assert not future[-3:].any(), "and it is out again for three frames"
    assert int(last[0]) - int(first[0]) == 5


@pytest.mark.parametrize(("length", "stride"), [(16, 2), (16, 3), (LONG_FRAMES, 1)])
def test_aimed_clips_of_other_rates_and_lengths(length: int, stride: int) -> None:
    covered = torch.zeros(1, 60, dtype=torch.bool)
    covered[0, 26:36] = True
    first, last = reappearance_starts(covered, length, torch.tensor([stride]))
    assert 0 <= first <= last <= 60 - 1 - (length - 1) * stride
    for start in range(int(first), int(last) + 1):
        context, future = covered[0, start::stride][:length].chunk(2)
        assert not context[:2].any() and context.any() | future.any()
        assert not future[-3:].any(), "out again in the predicted half"
        assert future.any() or covered[0, start + stride * (length // 2) - 1]
