"""The action-conditioned model: real motion or nothing, and one answer for files and tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import NANO, NANO_AC, random_model
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vjepa2 import MODELS
from vjepa2.encoder import Encoder
from wmreward import Motion, UsageError, VideoError, compute_vjepa_surprise, read_motion
from wmreward.surprise.actions.motion import STEP_RATE, check_motion
from wmreward.surprise.actions.surprise import action_surprise
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice, load
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video_io import read_uniform, write_video


@pytest.fixture
def nanoac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelChoice]:
    """A small action-conditioned model that can be loaded by name."""
    monkeypatch.setitem(MODELS, "nanoac", NANO_AC)
    file = tmp_path / "nanoac.safetensors"
    state = {
        name: value.clone()
        for name, value in random_model(NANO_AC, dtype=torch.float32).named_parameters()
    }
    save_file(state, file)
    yield ModelChoice(name="nanoac", weights=str(file))
    load.cache_clear()


def motion(steps: int = 5, seed: int = 0) -> Motion:
    generator = torch.Generator().manual_seed(seed)
    return Motion(
        torch.randn(steps - 1, 7, generator=generator), torch.randn(steps, 7, generator=generator)
    )


def frames(steps: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (steps, 40, 48, 3), dtype=np.uint8)


# --- the surprise


def test_by_hand() -> None:
    """Each step predicted on its own from a sequence that ends there, in float64."""
    model = random_model(NANO_AC)
    video = torch.rand(2, 3, 4, 32, 32, dtype=torch.float64) * 2 - 1
    actions = torch.randn(2, 3, 7, dtype=torch.float64)
    states = torch.randn(2, 4, 7, dtype=torch.float64)
    ours = action_surprise(model, video, actions, states)
    assert ours.values.shape == ours.l1.shape == (2, 3) and ours.maps.shape == (2, 3, 1, 2, 2)

    def encode(frame: Tensor) -> Tensor:
        pixels = model.preprocess(frame[:, :, None]).expand(-1, -1, 2, -1, -1)
        return F.layer_norm(model.encoder(pixels), (24,))

    tokens = [encode(video[:, :, t]) for t in range(4)]
    for step in range(1, 4):
        seen = torch.cat(tokens[:step], dim=1)
        out = model.predictor(seen, actions[:, :step], states[:, :step])[:, -4:]
        out = F.layer_norm(out, (24,))
        cosine = F.cosine_similarity(out, tokens[step], dim=-1)
        torch.testing.assert_close(
            ours.maps[:, step - 1].flatten(1), 1 - cosine, atol=1e-12, rtol=0
        )
        torch.testing.assert_close(
            ours.values[:, step - 1], (1 - cosine).mean(dim=1), atol=1e-12, rtol=0
        )
        l1 = (out - tokens[step]).abs().mean(dim=(1, 2))
        torch.testing.assert_close(ours.l1[:, step - 1], l1, atol=1e-12, rtol=0)


def test_later_frames_and_the_last_state_change_nothing_before() -> None:
    model = random_model(NANO_AC)
    video = torch.rand(1, 3, 5, 32, 32, dtype=torch.float64)
    actions, states = (side[None].double() for side in motion())
    before = action_surprise(model, video, actions, states).values
    changed_states = states.clone()
    changed_states[:, -1] += 1
    assert torch.equal(action_surprise(model, video, actions, changed_states).values, before)
    changed = video.clone()
    changed[:, :, 3:] = torch.rand_like(changed[:, :, 3:])
    after = action_surprise(model, changed, actions, states).values
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-12, rtol=0)
    assert (after[:, 2:] - before[:, 2:]).abs().min() > 1e-4
    changed_actions = actions.clone()
    changed_actions[:, 2] += 1
    after = action_surprise(model, video, changed_actions, states).values
    torch.testing.assert_close(after[:, :2], before[:, :2], atol=1e-12, rtol=0)
    assert (after[:, 2:] - before[:, 2:]).abs().min() > 1e-5


def test_gradient_through_the_observed_side_or_both() -> None:
    model = random_model(NANO_AC)
    actions, states = (side[None].double() for side in motion(3))
    video = torch.rand(1, 3, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(
            action_surprise(model, video, actions, states, context_grad=both).values.sum(), video
        )[0]
        for both in (False, True)
    ]
    assert not grads[0][:, :, 0].any()  # the first frame is only ever context
    assert grads[1][:, :, 0].abs().max() > 0
    torch.testing.assert_close(grads[0][:, :, 2], grads[1][:, :, 2], atol=1e-12, rtol=0)


def test_separate_target_encoder() -> None:
    model = random_model(NANO_AC)
    actions, states = (side[None].double() for side in motion(3))
    video = torch.rand(1, 3, 3, 32, 32, dtype=torch.float64)
    shared = action_surprise(model, video, actions, states)
    other = Encoder(NANO_AC).double().requires_grad_(False)
    other.load_state_dict(model.encoder.state_dict())
    model.target_encoder = other
    torch.testing.assert_close(
        action_surprise(model, video, actions, states).values, shared.values, atol=1e-12, rtol=0
    )
    for parameter in other.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    assert (
        action_surprise(model, video, actions, states).values - shared.values
    ).abs().min() > 1e-4


def test_other_models_know_no_actions() -> None:
    actions, states = (side[None].double() for side in motion())
    with pytest.raises(UsageError, match="'nano' knows no actions; use vitgac"):
        action_surprise(random_model(NANO), torch.zeros(1, 3, 5, 32, 32).double(), actions, states)


# --- end to end


def test_refused_without_motion(nanoac: ModelChoice) -> None:
    with pytest.raises(UsageError, match=r"'nanoac' .* needs real actions and states .* use vitg"):
        compute_vjepa_surprise(frames(), nanoac)


@pytest.mark.parametrize("settings", [{"similarity": "token"}, {"score": "excess"}])
def test_only_the_plain_feature_surprise(nanoac: ModelChoice, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="'nanoac' has only the plain feature surprise"):
        compute_vjepa_surprise(frames(), nanoac, motion=motion(), **settings)


def test_array_tensor_and_file_agree(nanoac: ModelChoice, tmp_path: Path) -> None:
    path = tmp_path / "robot.mp4"
    write_video(path, frames(), fps=STEP_RATE)
    decoded = read_uniform(path, 5).frames
    expected = compute_vjepa_surprise(decoded, nanoac, motion=motion())
    scorer = VideoScorer(nanoac, SurpriseConfig())
    exact = action_surprise(
        random_model(NANO_AC),
        (torch.from_numpy(decoded).double() / 127.5 - 1).movedim(-1, 0)[None],
        *(side[None].double() for side in motion()),
    )
    for ours in (
        expected,
        compute_vjepa_surprise(path, nanoac, motion=motion()),
        compute_vjepa_surprise(
            torch.from_numpy(decoded).movedim(-1, 0) / 255.0,
            nanoac,
            motion=motion(),
            value_range="0,1",
        ),
        scorer.score_clips(scorer.sampling.clips(path), path, motion()),
    ):
        torch.testing.assert_close(ours.per_window, exact.values[0].float(), rtol=0, atol=2e-6)
        assert float(ours) == pytest.approx(exact.values.mean().item(), abs=2e-6)
        assert ours.surprise_map is not None and ours.surprise_map.shape == (4, 1, 2, 2)
        assert [span[:3] for span in ours.windows] == [(i, i + 1, i + 1) for i in range(4)]
        assert ours.unused_tail_frames == 0


def test_files_are_sampled_at_the_rate_of_the_model(nanoac: ModelChoice, tmp_path: Path) -> None:
    path = tmp_path / "robot.mp4"
    write_video(path, frames(25), fps=24)  # frames 0, 6, 12, 18, 24
    ours = compute_vjepa_surprise(path, nanoac, motion=motion(), max_frames=3, mode="max")
    assert ours.num_frames == 5 and ours.effective_fps == pytest.approx(4)
    assert [span.end for span in ours.windows] == [6, 12, 18, 24]
    assert float(ours) == ours.per_window.max().item()
    with pytest.raises(VideoError, match=r"robot.mp4: .* 5 steps at 4 a second, .* holds 7 states"):
        compute_vjepa_surprise(path, nanoac, motion=motion(7))


def test_differentiable(nanoac: ModelChoice) -> None:
    video = (torch.rand(2, 3, 5, 40, 48) * 2 - 1).requires_grad_()
    batch = compute_vjepa_surprise(video, nanoac, motion=motion(), value_range="-1,1")
    batch.scores.sum().backward()
    assert video.grad is not None and video.grad[:, :, 1:].flatten(1).any(dim=1).all()


# --- motion files


def write(path: Path, fields: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **fields)
    else:
        path.write_text(
            json.dumps({key: np.asarray(value).tolist() for key, value in fields.items()})
        )
    return path


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_motion_files(tmp_path: Path, suffix: str) -> None:
    made = motion()
    path = write(
        tmp_path / f"motion{suffix}", {key: v.numpy() for key, v in made._asdict().items()}
    )
    for side, expected in zip(read_motion(path), made, strict=True):
        assert side.dtype == torch.float32 and torch.equal(side, expected)
    assert read_motion(str(path)).actions.shape == (4, 7)


ZEROS = np.zeros((4, 7))
WRONG = {
    "narrow": ({"actions": np.zeros((4, 6)), "states": np.zeros((5, 6))}, r"actions \[4, 6\]"),
    "flat": ({"actions": np.zeros(28), "states": np.zeros((5, 7))}, r"actions \[28\] and states"),
    "batched": ({"actions": ZEROS[None], "states": np.zeros((5, 7))}, r"\[T-1, 7\]"),
    "short": ({"actions": ZEROS, "states": ZEROS}, "4 actions need 5 states .* not 4"),
    "still": (
        {"actions": np.zeros((0, 7)), "states": np.zeros((1, 7))},
        r"1 steps.* 2 to 32|actions \[0\]",
    ),
    "long": ({"actions": np.zeros((32, 7)), "states": np.zeros((33, 7))}, "33 steps.* 2 to 32"),
    "nan": (
        {"actions": ZEROS + np.nan, "states": np.zeros((5, 7))},
        "NaN or infinity|NaN is no finite",
    ),
    "nameless": ({"action": ZEROS, "states": np.zeros((5, 7))}, "has no 'actions'"),
}


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_motion_is_one_line_with_the_file(tmp_path: Path, name: str, suffix: str) -> None:
    fields, message = WRONG[name]
    path = write(tmp_path / f"wrong{suffix}", fields)
    with pytest.raises(UsageError, match=message) as caught:
        read_motion(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


BROKEN = {
    "empty.npz": b"",
    "text.npz": b"not numbers",
    "cut.npz": b"PK\x03\x04 cut short",
    "text.json": b"{'actions': ",
    "binary.json": b"\xff\xfe\x00",
    "list.json": b"[1, 2]",
    "number.json": b"3",
    "ragged.json": b'{"actions": [[1, 2], [3]], "states": [[1]]}',
    "words.json": b'{"actions": [["left"]], "states": [["up"]]}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_motion_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(
        UsageError, match=r"not an actions file .* must be a \.npz or \.json"
    ) as caught:
        read_motion(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_array_file_and_pickles_are_no_motion_files(tmp_path: Path) -> None:
    array = tmp_path / "array.npz"
    with array.open("wb") as file:
        np.save(file, ZEROS)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, actions=np.array([{"code": 1}], dtype=object), states=np.zeros((5, 7)))
    for path in (array, pickled, tmp_path):
        with pytest.raises(UsageError, match="not an actions file"):
            read_motion(path)
    with pytest.raises(UsageError, match=r"none\.json does not exist"):
        read_motion(tmp_path / "none.json")


def test_motion_of_another_length_than_the_video() -> None:
    check_motion(motion(5), 5)
    with pytest.raises(UsageError, match="6 steps at 4 a second, but the file holds 5 states"):
        check_motion(motion(5), 6)
