"""`compute_vjepa_surprise`: one number whatever a video comes as, with everything that made it."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import NANO, random_model
from safetensors.torch import save_file
from torch import Tensor

from vjepa2 import MODELS, WeightsError, load_model
from vjepa2.preprocess import from_uint8
from wmreward import (
    ModelChoice,
    Motion,
    SurpriseBatch,
    SurpriseConfig,
    SurpriseResult,
    SurpriseScorer,
    UsageError,
    VideoError,
    VideoScorer,
    compute_vjepa_surprise,
)
from wmreward.surprise.inputs import video_tensor
from wmreward.surprise.models import load
from wmreward.surprise.sampling import Sampling
from wmreward.video_io import list_videos, read_uniform, stream_fps, write_png, write_video


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelChoice]:
    """A small model that can be loaded by name."""
    monkeypatch.setitem(MODELS, "nano", NANO)
    state = {k: v.clone() for k, v in random_model(dtype=torch.float32).named_parameters()}
    save_file(state, tmp_path / "nano.safetensors")
    yield ModelChoice(name="nano", weights=str(tmp_path / "nano.safetensors"))
    load.cache_clear()


def frames(count: int = 20, height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def expected_score(array: np.ndarray, config: SurpriseConfig | None = None) -> float:
    """By the parts, in float64."""
    video = torch.from_numpy(array).movedim(-1, 0)[None]
    scorer = SurpriseScorer(random_model(), config or SurpriseConfig())
    return scorer(from_uint8(video, 32).double()).item()


# --- one number whatever a video comes as


def test_arrays_tensors_and_ranges_agree(nano: ModelChoice) -> None:
    array = frames()
    expected = expected_score(array)
    tensor = torch.from_numpy(array).movedim(-1, 0)
    grey = tensor.float()
    videos: list[tuple[Any, str | None]] = [
        (array, None),
        (list(array), None),
        (array[:, ::-1, :][:, ::-1], None),  # negative strides
        (tensor, None),
        (tensor, "0,255"),
        (torch.from_numpy(array), None),  # uint8 with channels last
        (grey, "0,255"),
        (grey / 255, "0,1"),
        (grey / 127.5 - 1, "-1,1"),
        ((grey / 127.5 - 1).double(), "-1,1"),
        (grey.half(), "0,255"),  # whole numbers up to 255 are exact in float16
    ]
    for video, value_range in videos:
        result = compute_vjepa_surprise(video, nano, value_range=value_range)  # type: ignore[arg-type]
        assert isinstance(result, SurpriseResult) and isinstance(result, float)
        assert result == pytest.approx(expected, abs=2e-6)


def test_a_batch_is_each_video_alone(nano: ModelChoice) -> None:
    arrays = [frames(seed=seed) for seed in range(3)]
    batch = compute_vjepa_surprise(np.stack(arrays), nano, batch_size=5)
    assert isinstance(batch, SurpriseBatch) and len(batch) == 3
    assert batch.scores.shape == (3,) and batch.per_window.shape == (3, 3)
    assert batch.surprise_map is not None and batch.surprise_map.shape == (3, 3, 4, 2, 2)
    for i, array in enumerate(arrays):
        assert batch[i] == pytest.approx(float(compute_vjepa_surprise(array, nano)), abs=1e-6)
    assert [float(result) for result in batch] == [float(r) for r in batch[0:3]]
    one = compute_vjepa_surprise(arrays[0][None], nano)
    assert isinstance(one, SurpriseBatch) and len(one) == 1  # a batch of one stays a batch


def test_file_is_its_frames(nano: ModelChoice, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, frames(60), fps=24)
    taken = read_uniform(path, 49)
    result = compute_vjepa_surprise(path, nano, stride=8)
    assert result == pytest.approx(expected_score(taken.frames, SurpriseConfig(stride=8)), abs=2e-6)
    assert compute_vjepa_surprise(str(path), nano, stride=8) == result
    assert (result.num_frames, result.unused_tail_frames) == (49, 1)
    assert result.source_fps == pytest.approx(24)
    assert result.effective_fps == pytest.approx(48 / (59 / 24))
    assert result.speed == pytest.approx(59 / 48)
    assert len(result.windows) == 5
    first = result.windows[0]
    assert first[:3] == tuple(taken.indices[[0, 8, 15]])
    assert first[3:6] == pytest.approx([i / 24 for i in first[:3]])


@pytest.mark.parametrize("part", [1, 7, 16, 64])
def test_true_rate_in_parts_is_the_whole(
    nano: ModelChoice, tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, frames(90), fps=24)
    (whole,) = stream_fps(path, 12, 1000)
    monkeypatch.setattr("wmreward.surprise.sampling.STREAM_FRAMES", part)
    result = compute_vjepa_surprise(path, nano, fps=12)
    assert result == pytest.approx(expected_score(whole.frames), abs=2e-6)
    assert result.num_frames == 45 and result.effective_fps == pytest.approx(12)
    assert result.speed == pytest.approx(2)
    assert result.windows[-1].end == whole.indices[len(result.windows) * 2 + 13]


def test_result_knows_its_parts(nano: ModelChoice) -> None:
    for mode in ("mean", "max", "median", "topk2", "topp50"):
        result = compute_vjepa_surprise(frames(), nano, mode=mode)
        assert isinstance(result, SurpriseResult)
        by_hand = result.per_window.double().sort().values
        kept = {"mean": by_hand, "max": by_hand[-1:], "median": by_hand[1:2]}.get(
            mode, by_hand[-2:]
        )
        assert result == pytest.approx(kept.mean().item(), abs=1e-6)
    result = compute_vjepa_surprise(frames(21), nano)
    assert isinstance(result, SurpriseResult) and result.surprise_map is not None
    assert result.reward == -float(result) and result.score.item() == float(result)
    assert result.surprise_map.shape == (3, 4, 2, 2)
    torch.testing.assert_close(result.surprise_map.mean(dim=(1, 2, 3)), result.per_window)
    assert [span[:3] for span in result.windows] == [(0, 8, 15), (2, 10, 17), (4, 12, 19)]
    assert all(math.isnan(time) for time in result.windows[0][3:6])  # an array has no clock
    assert (result.num_frames, result.unused_tail_frames) == (21, 1)
    assert result.effective_fps is result.source_fps is result.speed is None
    assert repr(result) == f"SurpriseResult({float(result):.6f}, plain, 3 windows)"
    single = compute_vjepa_surprise(frames(16), nano)
    assert repr(single) == f"SurpriseResult({float(single):.6f}, plain, 1 window)"
    with pytest.raises(TypeError, match="float"):
        pickle.dumps(result)


def test_settings_say_everything_and_fit_into_json(nano: ModelChoice) -> None:
    result = compute_vjepa_surprise(frames(), nano, stride=4, similarity="token", mode="max")
    assert isinstance(result, SurpriseResult) and result.surprise_map is None
    settings = json.loads(json.dumps(result.settings))
    _, info = load_model("nano", weights=nano.weights)
    wanted = {
        "model": "nano",
        "weights_sha256": info.sha256,
        "window_size": 16,
        "context_frames": 8,
        "stride": 4,
        "mode": "max",
        "similarity": "token",
        "score": "plain",
        "context_grad": False,
        "context_encoder": "online",
        "target_encoder": "online",
        "mask_token": 1,
        "dtype": "float32",
    }
    assert {key: settings[key] for key in wanted} == wanted
    assert settings["sampling"] == {"max_frames": 49, "fps": None, "decoder": "pyav"}
    assert "torch" in settings["versions"] and "wmreward" in settings["versions"]


def test_model_is_loaded_once(nano: ModelChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nano.weights is not None
    first = load(nano)
    monkeypatch.setattr("wmreward.surprise.models.loading.load_model", None)
    again = compute_vjepa_surprise(frames(), "nano", weights=nano.weights)
    assert again == compute_vjepa_surprise(frames(), nano)
    assert load(ModelChoice(name="nano", weights=nano.weights)) is first


def test_precision(nano: ModelChoice) -> None:
    exact = expected_score(frames())
    for dtype, near in (("float64", 1e-6), ("float32", 2e-6), ("bfloat16", 5e-3)):
        choice = ModelChoice(name="nano", weights=nano.weights, dtype=dtype)
        result = compute_vjepa_surprise(frames(), choice)
        assert isinstance(result, SurpriseResult) and result.settings["dtype"] == dtype
        assert result == pytest.approx(exact, abs=near)


# --- gradients


@pytest.mark.parametrize("batched", [False, True])
def test_differentiable_score(nano: ModelChoice, batched: bool) -> None:
    video = torch.rand(*([2] * batched), 3, 18, 40, 40)
    leaf = video.clone().requires_grad_()
    result = compute_vjepa_surprise(leaf, nano, value_range="0,1", mode="max")
    score = result.scores if isinstance(result, SurpriseBatch) else result.score
    score.sum().backward()
    reference = video.double().requires_grad_()
    scorer = SurpriseScorer(random_model(), SurpriseConfig(mode="max"))
    plain = scorer.score_windows((reference if batched else reference[None]) * 2 - 1)
    plain.values.max(dim=1).values.sum().backward()
    assert leaf.grad is not None and reference.grad is not None
    assert (leaf.grad - reference.grad).norm() <= 3e-5 * reference.grad.norm()
    with torch.no_grad():
        silent = compute_vjepa_surprise(leaf, nano, value_range="0,1", mode="max")
    out = silent.scores if isinstance(silent, SurpriseBatch) else silent.score
    assert not out.requires_grad
    torch.testing.assert_close(out, score.detach(), rtol=0, atol=1e-6)


# --- what makes no sense


@pytest.mark.parametrize(
    ("video", "value_range", "message"),
    [
        (torch.rand(3, 20, 8, 8), None, 'value_range="-1,1", "0,1" or "0,255"'),
        (torch.rand(3, 20, 8, 8), "0,2", 'value_range="-1,1".*, not "0,2"'),
        (torch.full((3, 20, 8, 8), math.nan), "0,1", "NaN or infinity"),
        (torch.zeros(3, 20, 8, 8, dtype=torch.int32), "0,255", r"not torch\.int32"),
        (torch.zeros(3, 20, 8, 8, dtype=torch.uint8), "0,1", "uint8 video go from 0 to 255"),
        (torch.rand(20, 3, 8, 8), "0,1", r"\[3, T, H, W\] .* not \[20, 3, 8, 8\]"),
        (torch.rand(8, 8), "0,1", r"not \[8, 8\]"),
        (torch.rand(3, 0, 8, 8), "0,1", "empty"),
        (np.zeros((20, 8, 8, 3), dtype=np.int64), "0,1", "uint8 or floating point, not int64"),
        (np.zeros((20, 8, 8), dtype=np.uint8), None, r"\[T, H, W, 3\], not \[20, 8, 8\]"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), None, "empty"),
    ],
)
def test_wrong_videos(video: Any, value_range: Any, message: str) -> None:
    """Before any weights are looked for."""
    with pytest.raises(UsageError, match=message) as caught:
        compute_vjepa_surprise(video, "vitg", value_range=value_range)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit_large"}, "unknown model 'vit_large'; choose one of .*vitl"),
        ({"model": "ViT-L"}, r"unknown model 'ViT-L'; .*; did you mean vitl\?$"),
        ({"mode": "best"}, "unknown mode 'best'"),
        ({"mode": "topk"}, "unknown mode 'topk'"),
        ({"stride": 0}, "stride=0"),
        ({"context_frames": 16}, "context_frames=16"),
        ({"max_frames": 1}, "max_frames=1"),
        ({"fps": 0}, "fps=0"),
        ({"fps": 8.0, "decoder": "decord"}, "decoder='pyav'"),
        ({"mask_token": 1.5}, r"mask_token=1\.5 must be a whole number"),
        ({"crop": 256.0, "model": "vitg21"}, r"crop=256\.0 must be a whole number"),
        ({"crop": "256", "model": "vitg21"}, "crop='256' must be a whole number"),
        ({"dtype": "float8"}, "dtype='float8' must be one of auto, float32"),
        ({"target_encoder": "mean"}, "'online' or 'ema', not 'mean'"),
    ],
)
def test_wrong_settings_before_any_weights(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compute_vjepa_surprise(frames(), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "toaster"}, "device='toaster' is not a device"),
        ({"device": "cuda:7"}, "device='cuda:7' is not there"),
    ],
)
def test_devices_that_are_not_there(
    nano: ModelChoice, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compute_vjepa_surprise(frames(), "nano", weights=nano.weights, **settings)


def test_settings_that_show_with_the_model(nano: ModelChoice) -> None:
    with pytest.raises(UsageError, match="batch_size=0"):
        compute_vjepa_surprise(frames(), nano, batch_size=0)
    with pytest.raises(UsageError, match="context_frames=1 of window_size=16: model 'nano' sees"):
        compute_vjepa_surprise(frames(), nano, context_frames=1)
    with pytest.raises(UsageError, match=r"window_size=15 must be a multiple of 2, .*: 14 or 16$"):
        compute_vjepa_surprise(frames(), nano, window_size=15)
    with pytest.raises(UsageError, match=r"context_frames=7 must be a multiple of 2, .*: 6$"):
        compute_vjepa_surprise(frames(), nano, window_size=8, context_frames=7)
    with pytest.raises(UsageError, match="15 frames, but a window needs 16"):
        compute_vjepa_surprise(frames(15), nano)
    with pytest.raises(UsageError, match="mode='topk9' needs 9 windows, but the video has 3"):
        compute_vjepa_surprise(frames(), nano, mode="topk9")
    motion = Motion(torch.zeros(19, 7), torch.zeros(20, 7))
    with pytest.raises(UsageError, match="'nano' takes no actions; use vitgac"):
        compute_vjepa_surprise(frames(), nano, motion=motion)


def test_wrong_files_are_named(nano: ModelChoice, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.mp4: does not exist"):
        compute_vjepa_surprise(tmp_path / "none.mp4", "vitg")  # before any weights
    short = tmp_path / "short.mp4"
    write_video(short, frames(10), fps=24)
    for settings in ({}, {"fps": 24.0}):
        with pytest.raises(VideoError, match=r"short\.mp4: too short: 10 frames") as caught:
            compute_vjepa_surprise(short, nano, **settings)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"broken\.mp4: is not a video"):
        compute_vjepa_surprise([short, broken], nano)  # before the first is scored
    longer = tmp_path / "longer.mp4"
    write_video(longer, frames(18), fps=24)
    with pytest.raises(VideoError, match=r"longer\.mp4: mode='topk5' needs 5 windows"):
        compute_vjepa_surprise(longer, nano, mode="topk5")


@pytest.mark.parametrize("name", ["list.txt", "videos", "runs"])
def test_several_videos_by_one_name_are_passed_as_a_list(tmp_path: Path, name: str) -> None:
    for folder in ("videos", "runs/a"):
        (tmp_path / folder).mkdir(parents=True)
        write_video(tmp_path / folder / "clip.mp4", frames(2), fps=24)
    write_png(tmp_path / "videos/poster.png", frames(1)[0])
    (tmp_path / "list.txt").write_text("videos/clip.mp4\n")
    with pytest.raises(UsageError, match=r"pass them as a list, such as .*list_videos\(\[") as told:
        compute_vjepa_surprise(tmp_path / name, "vitg")
    assert str(tmp_path / name) in str(told.value)
    assert [path.name for path in list_videos([tmp_path / name])] == ["clip.mp4"]


def test_missing_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="does not exist"):
        compute_vjepa_surprise(frames(), "vitl", weights=str(tmp_path / "none.pt"))


# --- pieces


def test_video_tensor_keeps_gradients_and_memory() -> None:
    video = (torch.rand(3, 4, 8, 8) * 2 - 1).requires_grad_()
    assert video_tensor(video, "-1,1").data_ptr() == video.data_ptr()
    bright = (100 * video.detach() + 120).requires_grad_()
    (grad,) = torch.autograd.grad(video_tensor(bright, "0,255").sum(), bright)
    torch.testing.assert_close(grad, torch.full_like(grad, 1 / 127.5))


def test_sampling_is_checked() -> None:
    assert "image_fps" not in Sampling().to_json()  # records from before it keep their hash
    assert Sampling(image_fps=8).to_json()["image_fps"] == 8
    with pytest.raises(UsageError, match="image_fps"):
        Sampling(image_fps=0)
    assert Sampling() == Sampling(max_frames=49, fps=None, decoder="pyav")
    for fps in (-1.0, math.nan, math.inf, 1e6):
        with pytest.raises(UsageError, match="fps="):
            Sampling(fps=fps)


def test_scorer_for_many_videos(nano: ModelChoice, tmp_path: Path) -> None:
    scorer = VideoScorer(nano, SurpriseConfig(), Sampling(max_frames=24))
    for count in (20, 50):
        path = tmp_path / f"{count}.mp4"
        write_video(path, frames(count), fps=10)
        result = scorer.score_clips(scorer.sampling.clips(path), path)
        assert result == compute_vjepa_surprise(path, nano, max_frames=24)


def test_frozen_video_is_easy_but_not_by_the_relative_rule(nano: ModelChoice) -> None:
    """A still costs nothing to copy: 'excess' has nothing to forgive, 'relative' divides by the floor."""
    still = np.repeat(frames(1), 16, axis=0)
    plain = compute_vjepa_surprise(still, nano)
    excess = compute_vjepa_surprise(still, nano, score="excess")
    relative = compute_vjepa_surprise(still, nano, score="relative")
    assert isinstance(excess, SurpriseResult) and excess.surprise_map is not None
    assert float(excess) >= excess.surprise_map.mean().item()
    assert isinstance(relative, float) and isinstance(plain, float) and relative > plain
    assert isinstance(relative, SurpriseResult) and "relative" in repr(relative)


def test_tensor_of_one_gradient_step_lowers_the_surprise(nano: ModelChoice) -> None:
    """The gradient points uphill: a small step against it makes the video more plausible."""
    video: Tensor = (torch.rand(3, 16, 32, 32) * 2 - 1).requires_grad_()
    before = compute_vjepa_surprise(video, nano, value_range="-1,1", context_grad=True)
    assert isinstance(before, SurpriseResult)
    (grad,) = torch.autograd.grad(before.score, video)
    step = 1e-4 * grad / grad.square().mean().sqrt()
    after = compute_vjepa_surprise((video - step).detach(), nano, value_range="-1,1")
    assert isinstance(after, SurpriseResult)
    predicted = (grad * step).sum().item()
    assert float(before) - float(after) == pytest.approx(predicted, rel=0.1)


# --- as released


def test_compat_released_is_what_the_published_command_line_computes(
    nano: ModelChoice, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, frames(60), fps=24)
    by_hand = compute_vjepa_surprise(path, nano, stride=8, similarity="token")
    assert isinstance(by_hand, SurpriseResult)
    for model, options in ((nano, {}), ("nano", {"weights": nano.weights})):
        released = compute_vjepa_surprise(path, model, compat="released", **options)  # type: ignore[arg-type]
        assert isinstance(released, SurpriseResult)
        assert released == by_hand and released.settings == by_hand.settings
    assert compute_vjepa_surprise(frames(), nano, compat="released") == compute_vjepa_surprise(
        frames(), nano, stride=8, similarity="token"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 4}, "means stride=8, not 4: leave out one of the two"),
        ({"stride": 2}, "means stride=8, not 2"),
        ({"similarity": "feature"}, "means similarity='token', not 'feature'"),
        ({"score": "top"}, "means score='plain', not 'top'"),
        ({"rates": [4.0]}, "means rates=None"),
        ({"mask_token": 2}, "means mask_token=1, not 2"),
        ({"model": "vitG21"}, "V-JEPA 2; model vitG21 is 2.1"),
        ({"model": "vitgac"}, "V-JEPA 2; model vitgac needs actions"),
        ({"model": ModelChoice(name="vitg", target_encoder="ema")}, "out of the ModelChoice"),
    ],
)
def test_what_contradicts_compat(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compute_vjepa_surprise(frames(), compat="released", **settings)
