"""The embedded generator as it ships: its files, and that it makes the videos that it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.generator_quality.obedience import contradicted, obeyed, request
from benchmarks.shared import video_measures
from benchmarks.shared.continuation import TASKS, Examination
from benchmarks.shared.held_out import HeldOut, held_out
from benchmarks.shared.magi_generator import TINY, MagiGenerator, tiny
from benchmarks.shared.object_detector import detect
from magi1.config import MagiConfig
from magi1.files.checkpoint import load_vae
from magi1.files.folders import find_dit, find_t5, find_vae, missing_files
from training.publish_generator import LARGEST_FILE, LARGEST_SUM, files_of
from wmreward.generation.cli import main
from wmreward.video_io import iter_frames_at_fps, write_png, write_video

FPS = 24
WEIGHTS = Path(__file__).parents[2] / "MAGI-1" / "magi1" / "weights"
CPU = torch.device("cpu")

NEAR = 0.06
"""Mean difference between a frame and the one that it follows on, as a part of the range; two scenes differ
by 0.09 to 0.2."""

FEW_STEPS = 4
"""Enough to see that something is made, and what was asked for; a third of the time of good motion."""

MOTION_RATIO = 0.4
"""Squared error of moving pixels, as a part of that of the last frame held."""
MOVING_SCENES = 2
"""Those of the held-out scenes in which a held frame is the most wrong."""

COLORS = ("red", "green", "blue", "yellow")
OBEYED, CONTRADICTED = 4, 1
"""Of these prompts: at least, and at most; what a prompt does not name may have another's colour."""

PSNR, MOVING_PSNR = 33.0, 25.0
"""Of the autoencoder, in dB: all pixels, and those that move."""
FIRST_FRAME_LOSS = 0.5
"""dB that the first frame may be worse than the same frame of the true video through the autoencoder."""
SCALE_TOLERANCE = 0.05
"""The latents of these scenes have a spread of their own."""


@pytest.fixture(scope="module")
def generator() -> MagiGenerator:
    """With the settings that it ships with."""
    return tiny(device=CPU)


@pytest.fixture(scope="module")
def hasty() -> MagiGenerator:
    """In a few steps; the networks are the same ones."""
    return tiny(device=CPU, num_steps=FEW_STEPS)


@pytest.fixture(scope="module")
def scenes() -> tuple[HeldOut, Tensor]:
    """Scenes that training never saw, with their videos."""
    clips = held_out(12, seed=17)
    return clips, clips.videos(CPU)


# --- files --------------------------------------------------------------------------------------------


def test_files_are_small_enough_to_ship() -> None:
    sizes = [file.stat().st_size for file in files_of(WEIGHTS / "tiny")]
    assert max(sizes) <= LARGEST_FILE
    assert 2**20 < sum(sizes) <= LARGEST_SUM


def test_configuration_is_found_with_all_its_weights() -> None:
    config = MagiConfig.load(TINY)
    assert missing_files(config) == []
    for place in (find_dit(config), find_t5(config), find_vae(config)):
        assert place.folder.is_relative_to(WEIGHTS / "tiny")


def test_card_states_which_weights_these_are(generator: MagiGenerator) -> None:
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert set(generator.describe()["weights"].values()) == set(re.findall(r"[0-9a-f]{64}", card))


# --- the command line ---------------------------------------------------------------------------------


def command(output: Path, *flags: str) -> Tensor:
    """Run `generate_magi1.py` as a new user would, but in few steps; the frames of its video."""
    flags = ("--output_path", str(output), "--num_steps", str(FEW_STEPS), "--device", "cpu", *flags)
    assert main(flags) == 0
    return torch.stack([torch.from_numpy(frame) for _, _, frame in iter_frames_at_fps(output, FPS)])


def test_text_becomes_a_video_and_the_seed_decides_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the configuration is found from any folder
    flags = ("--mode", "t2v", "--prompt", "a red ball falls", "--num_frames", "24", "--seed", "3")
    once, again = (command(Path(name), *flags) for name in ("once.mp4", "again.mp4"))
    assert once.shape == (24, 64, 64, 3)
    assert once.float().std() > 5
    assert torch.equal(once, again)
    assert Path("once.mp4").read_bytes() == Path("again.mp4").read_bytes()


def test_image_becomes_a_video(scenes: tuple[HeldOut, Tensor], tmp_path: Path) -> None:
    image = as_bytes(scenes[1][0, :, :1])
    write_png(tmp_path / "first.png", image[0].numpy())
    flags = ("--mode", "i2v", "--init_image", str(tmp_path / "first.png"), "--num_frames", "20")
    made = command(tmp_path / "made.mp4", "--prompt", scenes[0].prompts[0], *flags)
    assert made.shape == (24, 64, 64, 3)
    assert distance(made[0], image[0]) < NEAR


def test_video_is_continued(scenes: tuple[HeldOut, Tensor], tmp_path: Path) -> None:
    given = as_bytes(scenes[1][0, :, :24])
    write_video(tmp_path / "given.mp4", given.numpy(), FPS)
    flags = ("--mode", "v2v", "--init_video", str(tmp_path / "given.mp4"), "--num_frames", "24")
    made = command(tmp_path / "made.mp4", "--prompt", scenes[0].prompts[0], *flags)
    assert made.shape == (24, 64, 64, 3)
    assert distance(made[0], given[-1]) < NEAR


def as_bytes(video: Tensor) -> Tensor:
    """``[3, T, H, W]`` in [0, 1] → uint8 ``[T, H, W, 3]``."""
    return (video * 255).round().byte().permute(1, 2, 3, 0)


def distance(a: Tensor, b: Tensor) -> float:
    """Mean difference of two uint8 pictures, as a part of the range."""
    return (a.float() - b.float()).abs().mean().item() / 255


# --- what it knows ------------------------------------------------------------------------------------


def test_autoencoder_keeps_what_is_seen(
    generator: MagiGenerator, scenes: tuple[HeldOut, Tensor]
) -> None:
    videos = scenes[1][:6]
    back = generator.reconstruct(videos)
    assert video_measures.psnr(back, videos).mean() > PSNR
    assert video_measures.moving_psnr(back, videos).nanmean() > MOVING_PSNR


@torch.no_grad()
def test_latents_are_scaled_to_unit_variance(
    generator: MagiGenerator, scenes: tuple[HeldOut, Tensor]
) -> None:
    vae, _ = load_vae(generator.networks.config, dtype=torch.float32)
    units = [unit for video in scenes[1] for unit in (2 * video[None] - 1).split(12, dim=2)]
    std = torch.cat([vae.encode(unit) for unit in units]).std().item()
    scale = generator.runtime.scale_factor
    assert scale == pytest.approx(1 / std, rel=SCALE_TOLERANCE)


def test_first_frame_is_the_image(hasty: MagiGenerator, scenes: tuple[HeldOut, Tensor]) -> None:
    clips, videos = scenes
    shown = videos[:2, :, 3:4]  # the frame that an image stands for, of the four of its latent
    as_video = video_measures.psnr(hasty.reconstruct(videos[:2, :, :12])[:, :, 3:4], shown)
    made = hasty.from_image(shown[:, :, 0], 21, clips.prompts[:2], [0, 1])
    assert (video_measures.psnr(made[:, :, :1], shown) > as_video - FIRST_FRAME_LOSS).all()


def test_motion_goes_on(generator: MagiGenerator, scenes: tuple[HeldOut, Tensor]) -> None:
    """24 given frames are continued much better than by holding the last one."""
    task = TASKS["24 → 24"]
    examination = Examination(*scenes, task)
    held = examination.mark(examination.controls()["copy last frame"])["motion"]
    rows = held.topk(MOVING_SCENES).indices
    clips, videos = scenes[0][rows], scenes[1][rows]
    made = generator.continue_video(
        videos[:, :, : task.given], 24, clips.prompts, list(range(MOVING_SCENES))
    )
    error = Examination(clips, videos, task).mark(made)["motion"]
    assert error.mean() < MOTION_RATIO * held[rows].mean()


def test_colours_and_sides_are_obeyed(hasty: MagiGenerator) -> None:
    sides = ("left", "right")
    asked = [request(c, "circle", sides[i % 2], "fall") for i, c in enumerate(COLORS)]
    made = hasty.from_text([r.text for r in asked], 24, list(range(len(asked))))
    found = detect(made)
    for word in ("color", "side"):
        assert obeyed(found, asked)[word].sum() >= OBEYED, word
        assert contradicted(found, asked)[word].sum() <= CONTRADICTED, word
