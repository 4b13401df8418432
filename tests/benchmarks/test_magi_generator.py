"""The benchmarks' MAGI-1: many videos at once, each as the pipeline makes it alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from magi1_fakes import write_nano
from torch import Tensor

from benchmarks.generator_quality import benchmark as generator_quality
from benchmarks.shared import magi_generator
from benchmarks.shared.generators import Generator
from benchmarks.shared.magi_generator import MagiGenerator, tiny
from magi1.errors import MagiUsageError
from magi1.pipeline import Pipeline, Request
from magi1.sampling.sampler import DenoiseStep

PROMPTS = ["a red ball falls", "a very big blue box slides left", ""]
SEEDS = [3, 5, 8]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of a nano model."""
    return write_nano(tmp_path_factory.mktemp("nano"))


def make(nano: Path, **settings: Any) -> MagiGenerator:
    return tiny(device=torch.device("cpu"), config=nano, **settings)


def videos(count: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, frames, 16, 16), generator=generator) / 255


def alone(generator: MagiGenerator, given: Tensor | None, frames: int, row: int) -> Tensor:
    """All new frames of one row by the pipeline, ``[3, T, H, W]`` in [0, 1]."""
    runtime = replace(generator.runtime, num_frames=frames)
    pipeline = Pipeline(replace(generator.networks.config, runtime_config=runtime))
    shown = None
    if given is not None:
        shown = (given[row] * 255).round().byte().permute(1, 2, 3, 0)
    prepared = pipeline.prepare(Request(prompt=PROMPTS[row], given=shown))
    pieces = [piece.frames for piece in pipeline.sample(prepared, seed=SEEDS[row])]
    return torch.cat(pieces).permute(3, 0, 1, 2) / 255


def agree(batch: Tensor, row: int, expected: Tensor) -> None:
    """Up to rounding, and the pipeline's bytes, which are cut off."""
    difference = batch[row] - expected[:, : batch.shape[2]]
    assert difference.min() > -1e-4
    assert difference.max() < 1 / 255 + 1e-4


@pytest.mark.parametrize("given, new", [(24, 24), (16, 32), (4, 20)])
def test_each_row_continues_as_alone(nano: Path, given: int, new: int) -> None:
    generator = make(nano)
    prefix = videos(3, given)
    made = generator.continue_video(prefix, new, PROMPTS, SEEDS)
    assert made.shape == (3, 3, new, 16, 16)
    for row in range(3):
        agree(made, row, alone(generator, prefix, new, row))


def test_each_row_is_told_as_alone(nano: Path) -> None:
    generator = make(nano, window_size=2, num_steps=4)
    made = generator.from_text(PROMPTS, 48, SEEDS)
    for row in range(3):
        agree(made, row, alone(generator, None, 48, row))


def test_a_video_goes_on_where_the_frames_of_its_image_end(nano: Path) -> None:
    generator = make(nano)
    image = videos(3, 1)
    made = generator.from_image(image[:, :, 0], 45, PROMPTS, SEEDS)
    assert made.shape == (3, 3, 45, 16, 16)
    for row in range(3):
        agree(made, row, alone(generator, image, 44, row)[:, 3:])
    longer = generator.from_image(image[:, :, 0], 48, PROMPTS, SEEDS)
    assert longer.shape[2] == 48


def test_rows_do_not_depend_on_their_neighbours(nano: Path) -> None:
    generator, prefix = make(nano), videos(3, 24)
    together = generator.continue_video(prefix, 24, PROMPTS, SEEDS)
    order = [2, 0]
    fewer = generator.continue_video(
        prefix[order], 24, [PROMPTS[i] for i in order], [SEEDS[i] for i in order]
    )
    torch.testing.assert_close(fewer, together[order], atol=1e-5, rtol=0)
    other = generator.continue_video(prefix, 24, PROMPTS, [3, 6, 8])
    assert (other[1] - together[1]).abs().max() > 1e-3


def test_truth_is_given_back_by_the_autoencoder(nano: Path) -> None:
    generator, shown = make(nano), videos(2, 24)
    networks = generator.networks
    with torch.no_grad():
        first = networks.vae.decode(networks.vae.encode(shown[:, :, :12] * 2 - 1))
    expected = (first / 2 + 0.5).clamp(0, 1)
    back = generator.reconstruct(shown)
    assert back.shape == shown.shape
    torch.testing.assert_close(back[:, :, :12], expected, atol=1e-5, rtol=0)
    assert generator.reconstruct(shown[:, :, :1]).shape == (2, 3, 1, 16, 16)


class Push:
    """A guide that adds a constant to the velocity, and remembers how often."""

    made = 0

    def __init__(self) -> None:
        Push.made += 1
        self.shapes: list[Any] = []

    def __call__(self, step: DenoiseStep) -> Tensor:
        assert step.decode(step.clean_estimate(step.latents, step.velocity)).shape[0] == 3
        return step.velocity + 0.5


def test_every_batch_has_a_guide_of_its_own(nano: Path) -> None:
    prefix = videos(3, 24)
    plain = make(nano).continue_video(prefix, 24, PROMPTS, SEEDS)
    guided = make(nano, make_guide=Push)
    Push.made = 0
    pushed = guided.continue_video(prefix, 24, PROMPTS, SEEDS)
    guided.continue_video(prefix, 24, PROMPTS, SEEDS)
    assert Push.made == 2
    assert (pushed - plain).abs().max() > 1e-3


def test_settings_change_the_sampler_and_not_the_networks(
    nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    magi_generator.load.cache_clear()
    loads = []
    original = magi_generator.Pipeline
    monkeypatch.setattr(
        magi_generator, "Pipeline", lambda *a, **k: (loads.append(a), original(*a, **k))[1]
    )
    several = [
        {},
        {"num_steps": 4},
        {"transform": "identity"},
        {"shift": 1.0},
        {"text_scales": 2},
        {"prev_chunk_scales": 1},
        {"prev_chunk_scales": [2.0, 2.0, 2.0, 2.0, 1.0]},
    ]
    settings = json.dumps([{"config": str(nano), **own} for own in several])
    path = "benchmarks.shared.magi_generator:tiny"
    made = generator_quality.load_generators(path, [settings], torch.device("cpu"))
    assert len(made) == len(several) and len(loads) == 1
    prefix = videos(1, 24)
    results = [
        generator.continue_video(prefix, 24, PROMPTS[:1], [1]) for generator in made.values()
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 1e-4
    described = next(iter(made.values())).describe()
    assert set(described["weights"]) == {"transformer", "VAE"}
    json.dumps(described)


def test_one_scale_holds_where_the_configuration_guides(nano: Path) -> None:
    runtime = make(nano, text_scales=3, prev_chunk_scales=2).runtime
    assert runtime.text_scales == (3, 3, 3, 0, 0)
    assert runtime.prev_chunk_scales == (2, 2, 2, 1, 1)
    off = {"prev_chunk_scales": [1.0] * 5}
    assert make(nano, **off).runtime.prev_chunk_scales == (1.0,) * 5


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"steps": 8}, "'steps' is unknown"),
        ({"transform": "cosine"}, "must be one of sd3"),
        ({"dtype": "int8"}, "must be one of float32"),
        ({"num_steps": 6}, "must be a multiple of window_size"),
    ],
)
def test_wrong_settings_are_named(nano: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(MagiUsageError, match=told):
        make(nano, **settings)


def test_wrong_prefixes_are_named(nano: Path) -> None:
    with pytest.raises(MagiUsageError, match="1 or a multiple of 4, 16, 16"):
        make(nano).continue_video(videos(1, 6), 24, [""], [0])


def test_it_can_be_judged(nano: Path) -> None:
    judged: Generator = make(nano)
    assert judged.from_text(["a ball"], 24, [0]).shape == (1, 3, 24, 16, 16)
