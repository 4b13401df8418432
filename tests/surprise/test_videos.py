"""What a video may be, from Python; and what is said of what it may not be."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import LinearWorldModel

from wmreward import (
    Guidance,
    GuidanceSchedule,
    RewardMix,
    SurpriseBatch,
    SurpriseConfig,
    SurpriseResult,
    SurpriseReward,
    SurpriseScorer,
    UsageError,
    VideoError,
    WMRewardError,
    compute_vjepa_surprise,
    select_best,
)
from wmreward.video_io import write_video

MODEL = LinearWorldModel(mixing=0.5)
SMALL: dict[str, Any] = {"model": MODEL, "window_size": 6, "context_frames": 4}


def frames(count: int = 12, seed: int = 0, size: tuple[int, int] = (4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def score(video: Any, **settings: Any) -> Any:
    return compute_vjepa_surprise(video, **SMALL, **settings)


# --- every kind is the same video


def test_all_kinds_agree() -> None:
    array = frames()
    expected = float(score(array))
    tensor = torch.from_numpy(array)
    read_only = array.copy()
    read_only.flags.writeable = False
    unit = array.astype(np.float32) / 255
    kinds: list[tuple[Any, Any]] = [
        (read_only, None),
        (array[::-1][::-1], None),
        (list(array), None),
        (tuple(array), None),
        (list(tensor), None),  # frames [H, W, 3]
        (list(tensor.movedim(-1, 1)), None),  # frames [3, H, W]
        (tensor, None),
        (tensor.movedim(-1, 0), None),
        (unit, "0,1"),
        (unit.astype(np.float16) * 0 + array, "0,255"),
        (unit.astype(np.longdouble), "0,1"),
        (list(unit), "0,1"),
        (torch.from_numpy(unit), "0,1"),  # laid out like an array
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for video, value_range in kinds:
            result = score(video, value_range=value_range)
            assert isinstance(result, SurpriseResult)
            assert result == pytest.approx(expected, rel=1e-4)


def test_images_of_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    array = frames()
    pictures = [image.fromarray(frame) for frame in array]
    assert score(pictures) == score(array)
    with pytest.raises(UsageError, match=r"frame 0 .* not \[4, 4\].*image\.convert\('RGB'\)"):
        score([picture.convert("L") for picture in pictures])
    with pytest.raises(UsageError, match=r"must be \[H, W, 3\], not \[4, 4, 4\].*image\.convert"):
        score([picture.convert("RGBA") for picture in pictures])


def test_batches_of_arrays_and_tensors() -> None:
    arrays = np.stack([frames(seed=seed) for seed in (0, 1)])
    alone = [float(score(array)) for array in arrays]
    for batch in (arrays, torch.from_numpy(arrays).movedim(-1, 1)):
        found = score(batch)
        assert isinstance(found, SurpriseBatch)
        assert [float(one) for one in found] == pytest.approx(alone, rel=1e-5)
        assert found.per_window.shape == (2, 4) and found.surprise_map.shape[:2] == (2, 4)


def test_a_list_of_videos_of_any_length_and_kind() -> None:
    long, short = frames(16), torch.from_numpy(frames(8, 1)).movedim(-1, 0)
    videos: list[Any] = [long, short, list(frames(8, 2))]
    found = score(videos)
    assert isinstance(found, SurpriseBatch) and found.scores.shape == (3,)
    assert [float(one) for one in found] == [float(score(one)) for one in videos]
    assert [len(one.windows) for one in found] == [6, 2, 2]
    for name in ("per_window", "surprise_map"):
        with pytest.raises(UsageError, match="2 and 6 windows: take those of each result"):
            getattr(found, name)
    assert "SurpriseBatch([SurpriseResult(" in repr(found)


@pytest.mark.filterwarnings("ignore:.*knows simulated balls")
def test_a_list_of_paths(tmp_path: Path) -> None:
    from wmreward import ModelChoice

    paths = []
    for seed, count in enumerate((16, 24)):
        paths.append(tmp_path / f"{seed}.mp4")
        write_video(paths[-1], frames(count, seed, (64, 64)), fps=8)
    tiny = ModelChoice(name="tiny", device="cpu")
    found = compute_vjepa_surprise([str(paths[0]), paths[1]], tiny, stride=8)
    assert isinstance(found, SurpriseBatch)
    assert [result.path for result in found] == paths
    assert found[1] == compute_vjepa_surprise(paths[1], tiny, stride=8)
    with pytest.raises(VideoError, match=r"gone\.mp4: does not exist"):  # before any is scored
        compute_vjepa_surprise([paths[0], tmp_path / "gone.mp4"], "vitg")


def test_a_list_of_tensors_passes_gradients() -> None:
    videos = [torch.rand(3, count, 4, 4, requires_grad=True) for count in (6, 8)]
    score(videos, value_range="0,1").scores.sum().backward()
    for video in videos:
        alone = video.detach().clone().requires_grad_()
        score(alone, value_range="0,1").score.backward()
        torch.testing.assert_close(video.grad, alone.grad)


# --- what is no video


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ([], "an empty list holds no video"),
        (None, "a video is a path, an array .* not a NoneType"),
        (3.5, "not a float"),
        (iter([frames(1)[0]]), "not a list_iterator"),
        (frames()[..., 0], r"\[12, 4, 4\]: grey frames are np\.stack\(\[video\] \* 3, axis=-1\)"),
        (frames()[..., :1], r"grey frames are np\.repeat\(video, 3, axis=-1\)"),
        (np.zeros((12, 4, 4, 4), np.uint8)[..., :4], r"alpha channel it is video\[\.\.\., :3\]"),
        (np.zeros((9, 3, 5, 6), np.uint8), r"np\.moveaxis\(video, -3, -1\)"),
        (np.zeros((3, 9, 5, 6), np.uint8), r"np\.moveaxis\(video, -4, -1\)"),
        (frames(1)[0], "one picture; a video has frames"),
        (torch.zeros(3, 8, 8), "one picture"),
        (torch.zeros(9, 8, 8), r"video\.expand\(3, -1, -1, -1\)"),
        (torch.zeros(1, 9, 8, 8), r"video\.repeat_interleave\(3, dim=-4\)"),
        (torch.zeros(9, 3, 8, 8), r"not \[9, 3, 8, 8\]: .*video\.movedim\(-3, -4\)"),
        (torch.zeros(2, 9, 3, 8, 8), r"video\.movedim\(-3, -4\)"),
        ([frames(1)[0], frames(1, size=(4, 6))[0]], r"frame 0 is .*\[4, 4, 3\], frame 1 .*\[4, 6, 3\]"),
        ([frames(1)[0], torch.zeros(4, 4, 3)], "frame 0 is a ndarray .* frame 1 a Tensor"),
        ([frames(), None], "not a NoneType"),
        ([np.stack([frames()] * 2)], "single videos, not batches of 2"),
        (frames().astype(np.int64), r"uint8 or floating point, not int64; .*astype\(np\.uint8\)"),
        (frames() > 100, "uint8 or floating point, not bool"),
    ],
)  # fmt: skip
def test_what_is_no_video_says_what_to_do(video: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        score(video, value_range="0,1" if isinstance(video, torch.Tensor) else None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (np.zeros((9, 3, 5, 6), np.uint8), lambda video: np.moveaxis(video, -3, -1)),
        (np.zeros((9, 5, 6), np.uint8), lambda video: np.stack([video] * 3, axis=-1)),
        (np.zeros((9, 5, 6, 1), np.uint8), lambda video: np.repeat(video, 3, axis=-1)),
        (torch.zeros(9, 3, 8, 8).byte(), lambda video: video.movedim(-3, -4)),
        (torch.zeros(2, 9, 3, 8, 8).byte(), lambda video: video.movedim(-3, -4)),
        (torch.zeros(9, 8, 8).byte(), lambda video: video.expand(3, -1, -1, -1)),
        (torch.zeros(1, 9, 8, 8).byte(), lambda video: video.repeat_interleave(3, dim=-4)),
    ],
)
def test_the_advice_helps(wrong: Any, right: Any) -> None:
    from wmreward.surprise.inputs import video_tensor

    with pytest.raises(UsageError):
        video_tensor(wrong, None)
    assert video_tensor(right(wrong), None).shape[1:3] == (3, 9)


def test_floats_need_their_range_and_are_told_what_they_hold() -> None:
    for video in (frames() / 255, torch.rand(3, 12, 4, 4)):
        with pytest.raises(UsageError, match=r"value_range=.*\(the values .* go from 0"):
            score(video)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 8.0}, r"fps=8\.0 says which frames of a file"),
        ({"max_frames": 24}, "max_frames=24 says which frames of a file"),
        ({"rates": [4]}, "rates are of a file"),
        ({"compat": "original"}, "compat='original' must be 'released' or None"),
    ],
)
def test_what_has_no_meaning_for_arrays(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(frames(), **settings)


def test_the_range_of_a_file_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(UsageError, match="value_range is of arrays"):
        score(path, value_range="0,1")


def test_no_number_is_an_error() -> None:
    broken = LinearWorldModel(expected=torch.full((1, 4, 24), math.nan))
    with pytest.raises(WMRewardError, match="no finite number: the world model is at fault"):
        compute_vjepa_surprise(frames(), broken, 6, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 2.5}, r"stride=2\.5 must be a whole number"),
        ({"window_size": "16"}, "window_size='16' must be a whole number"),
        ({"frame_strides": 2}, r"frame_strides must be several: \[2\]"),
        ({"batch_size": 2.0}, r"batch_size=2\.0 must be a whole number from 1 on"),
        ({"model": LinearWorldModel}, r"is a class: pass an object .* LinearWorldModel\(\)"),
        ({"model": "vitgac"}, r"needs real actions and states \(motion\)"),  # before any weights
    ],
)
def test_settings_of_the_wrong_kind(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compute_vjepa_surprise(frames(), **{**SMALL, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": 4}, r"rates must be several: \[4\]"),
        ({"fps": "8"}, "fps='8' must be a number"),
        ({"fps": 8, "max_frames": 20}, "max_frames=20 and fps=8 are two ways of taking frames"),
        ({"image_fps": [24]}, r"image_fps=\[24\] must be a number"),
        ({"max_frames": 24.5}, r"max_frames=24\.5 must be a whole number"),
    ],
)
def test_what_of_a_file_of_the_wrong_kind(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compute_vjepa_surprise("a.mp4", MODEL, **settings)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(3, 6, 8, 8).to_sparse(), r"must be dense: video\.to_dense\(\)"),
        (torch.zeros(3, 6, 8, 8, device="meta"), "'meta' has a shape, but no values"),
        (np.ma.masked_less(frames(), 9), r"leaves pixels open: video\.filled\(value\)"),
    ],
)
def test_what_holds_no_pixels(video: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(video)


def test_which_of_a_list_is_wrong() -> None:
    with pytest.raises(UsageError, match="video 1 of the list: too short: 4 frames"):
        score([frames(), frames(4)])


def test_parts_of_the_wrong_kind() -> None:
    scorer = SurpriseScorer(MODEL, SurpriseConfig(window_size=6, context_frames=4))
    schedule: Any = GuidanceSchedule.make(8, scale=0.1)
    config: Any = {"stride": 8}
    for wrong, message in (
        (lambda: SurpriseScorer(MODEL, config), "must be a SurpriseConfig, not a dict"),
        (lambda: Guidance(SurpriseReward(scorer), schedule), r"GuidanceConfig\(schedule=…\)"),
        (lambda: RewardMix({"a": SurpriseReward(scorer)}, {}), "rewards a, weights of none"),
        (lambda: RewardMix.parse(["surprise"]), r"pass surprise=SurpriseScorer\(…\)"),
        (lambda: select_best([frames()], SurpriseReward), "the reward is a class"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=message):
            wrong()
