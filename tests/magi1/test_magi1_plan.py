"""The cost model against published sizes, counts by hand, and what the sampler really runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from magi1.config import MagiConfig
from magi1.files.located import TINY_CONFIG, located
from magi1.planning.costs import vae_flop
from magi1.planning.memory import cache_per_chunk
from magi1.planning.plan import PREFIX_LATENTS, RELEASED_VAE, Mode, Plan, plan
from magi1.sampling.sampler import denoise, make_noise
from magi1.sampling.schedule import plan_calls, time_steps
from magi1.sampling.velocity import MagiVelocity, VideoTexts
from magi1.transformer.attention import CacheUse, ChunkRange
from magi1.transformer.kv_cache import KVCache
from magi1.transformer.layers import ChunkTexts

EXAMPLES = Path(__file__).parents[2] / "MAGI-1" / "example"
PETA, TERA, GIB = 1e15, 1e12, 2**30


def released(name: str, **runtime: Any) -> MagiConfig:
    config = MagiConfig.load(EXAMPLES / name.partition("_")[0] / f"{name}_config.json")
    return replace(config, runtime_config=replace(config.runtime_config, **runtime))


def on_gpu(config: MagiConfig) -> MagiConfig:
    """With the cache in the device's own memory."""
    return replace(config, engine_config=replace(config.engine_config, kv_offload=False))


# --- parameters and bytes of the released models


def test_parameters_of_the_24b_model() -> None:
    counts = plan(released("24B_base")).parameters
    expected = {
        "q": 37.7,
        "qx": 37.7,
        "k": 6.3,
        "v": 6.3,
        "kv_x": 12.6,
        "proj": 75.5,
        "fc1": 201.3,
        "fc2": 100.7,
        "adaLN": 18.9,
    }
    for name, millions in expected.items():
        assert counts[f"layer.{name}"] / 1e6 == pytest.approx(millions, abs=0.05)
    assert counts["layer"] / 1e6 == pytest.approx(497.09, abs=0.005)
    assert counts["layers"] == 48 * counts["layer"]
    assert counts["embeddings and output"] / 1e6 == pytest.approx(39.08, abs=0.005)
    assert counts["transformer"] / 1e9 == pytest.approx(23.90, abs=0.005)
    assert counts["VAE"] / 1e6 == pytest.approx(613.76, abs=0.005)
    assert counts["text encoder"] / 1e9 == pytest.approx(4.8, abs=0.05)


def test_parameters_of_the_4_5b_model() -> None:
    counts = plan(released("4.5B_base")).parameters
    expected = {
        "q": 9.4,
        "k": 3.1,
        "kv_x": 6.3,
        "proj": 18.9,
        "fc1": 37.7,
        "fc2": 37.7,
        "adaLN": 4.7,
    }
    for name, millions in expected.items():
        assert counts[f"layer.{name}"] / 1e6 == pytest.approx(millions, abs=0.05)
    assert counts["layer"] / 1e6 == pytest.approx(130.58, abs=0.005)
    assert counts["embeddings and output"] / 1e6 == pytest.approx(20.2, abs=0.05)
    assert counts["transformer"] / 1e9 == pytest.approx(4.46, abs=0.005)
    assert sum(v for n, v in counts.items() if n.startswith("layer.")) == counts["layer"]


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("24B_base", 44.6),
        ("24B_distill_quant", 24.6),
        ("4.5B_base", 8.35),
        ("4.5B_distill_quant", 4.8),
    ],
)
def test_bytes_of_the_weights(name: str, gib: float) -> None:
    counted = plan(released(name))
    assert counted.memory["weights"] / GIB == pytest.approx(gib, abs=0.06)
    assert counted.memory["VAE"] / GIB == pytest.approx(1.15, abs=0.01)
    assert counted.text_encoder / GIB == pytest.approx(18, abs=0.5)


# --- one chunk


@pytest.mark.parametrize(
    ("size", "height", "width", "tokens", "linear", "attention", "cache"),
    [
        ("24B", 720, 1280, 21600, 965, 550, 3.96),
        ("24B", 720, 720, 12150, 543, 174, 2.22),
        ("24B", 480, 480, 5400, 241, 34.4, 0.99),
        ("4.5B", 720, 1280, 21600, 176, 195, 2.80),
        ("4.5B", 720, 720, 12150, 98.8, 61.7, 1.58),
        ("4.5B", 480, 480, 5400, 43.9, 12.2, 0.70),
        ("4.5B", 256, 256, 1536, 12.5, 1.0, 0.20),
    ],
)
def test_one_chunk(
    size: str,
    height: int,
    width: int,
    tokens: int,
    linear: float,
    attention: float,
    cache: float,
) -> None:
    config = released(f"{size}_base", video_size_h=height, video_size_w=width)
    counted = plan(config)
    work = counted.work
    assert counted.tokens_per_chunk == tokens
    assert work.linear_flop / work.chunk_forwards / TERA == pytest.approx(linear, rel=0.005)
    assert work.attention_flop / work.attention_units / TERA == pytest.approx(attention, rel=0.02)
    assert cache_per_chunk(config, 1) / GIB == pytest.approx(cache, abs=0.006)


# --- whole runs


@pytest.mark.parametrize(
    ("config", "calls", "forwards", "units", "petaflop", "as_run"),
    [
        (released("24B_base"), 56, (390, 349), 710, 767, 701),
        (released("24B_base", video_size_w=720, num_steps=64), 112, (774, 693), 1414, 667, None),
        (released("4.5B_base"), 112, (774, 693), 1414, 164, 150),
        (released("4.5B_base", num_frames=120), 128, (968, None), 1928, None, None),
        (released("4.5B_base", num_frames=192), 176, (1550, None), 3470, None, None),
        # Nearly clean chunks are run twice in all of the last quarter, its first step included.
        (released("24B_distill"), 28, (64 + 3 + 16,) * 2, 144 + 3 + 16, 170, 170),
        (released("4.5B_distill"), 112, (256 + 3 + 64,) * 2, 576 + 3 + 64, 71.6, 71.6),
    ],
    ids=lambda value: (
        value.runtime_config.load.rpartition("/")[2] if isinstance(value, MagiConfig) else None
    ),
)
def test_whole_runs(
    config: MagiConfig,
    calls: int,
    forwards: tuple[int, int | None],
    units: int,
    petaflop: float | None,
    as_run: float | None,
) -> None:
    counted = plan(config)
    assert counted.calls == calls
    assert counted.all_branches.chunk_forwards == forwards[0]
    assert counted.all_branches.attention_units == units
    for number, work in ((petaflop, counted.all_branches), (as_run, counted.work)):
        assert number is None or work.flop / PETA == pytest.approx(number, rel=0.004)
    if forwards[1] is not None:
        assert counted.work.chunk_forwards == forwards[1]


def test_linear_and_attention_shares() -> None:
    work = plan(released("24B_base")).all_branches
    assert work.linear_flop / PETA == pytest.approx(376, abs=1)
    assert work.attention_flop / PETA == pytest.approx(391, abs=1)
    work = plan(released("4.5B_base")).all_branches
    assert work.linear_flop / PETA == pytest.approx(76, abs=1)
    assert work.attention_flop / PETA == pytest.approx(87, abs=1)


def test_time_is_shared_by_devices() -> None:
    counted = plan(released("24B_base"), world_size=8)
    arithmetic = counted.all_branches.flop / (8 * 0.99e15)
    assert arithmetic == pytest.approx(97, abs=0.5)
    assert counted.seconds(0.99e15) == pytest.approx(
        (counted.work.flop + counted.vae_flop) / (8 * 0.99e15)
    )
    assert counted.seconds() == 8**-1 * plan(released("24B_base")).seconds()


def test_vae() -> None:
    half_second = released("4.5B_base", video_size_h=192, video_size_w=192).runtime_config
    # One stride is one tile, cut at the border: 3 × 24 × 24 latents.
    tokens = 3 * 24 * 24 + 1
    exact = 24 * (2 * tokens * 12 * 1024**2 + 4 * tokens**2 * 1024)
    assert vae_flop(RELEASED_VAE, half_second, 3) == pytest.approx(exact)
    square = released("4.5B_base").runtime_config
    assert vae_flop(RELEASED_VAE, square, 3) / TERA == pytest.approx(34, abs=0.5)
    broad = released("24B_base").runtime_config
    assert vae_flop(RELEASED_VAE, broad, 3) / TERA == pytest.approx(62, abs=1)
    assert vae_flop(RELEASED_VAE, square, 6) == 2 * vae_flop(RELEASED_VAE, square, 3)
    # Eight pieces of half a second are decoded; an image is encoded first.
    assert plan(released("4.5B_base")).vae_flop == 8 * vae_flop(RELEASED_VAE, square, 3)
    image = plan(released("4.5B_base"), "i2v").vae_flop
    assert image == 10 * vae_flop(RELEASED_VAE, square, 3) + vae_flop(RELEASED_VAE, square, 1)


@pytest.mark.parametrize(
    ("mode", "chunks", "frames"), [("t2v", 4, 96), ("i2v", 5, 120), ("v2v", 6, 112)]
)
def test_modes(mode: Mode, chunks: int, frames: int) -> None:
    """An image makes one chunk more. Of a continued video, the first four latents are decoded with the two
    before them; alone, as in the released code, they give 13 frames.
    """
    config = released("24B_base")
    counted, theirs = plan(config, mode), plan(config, mode, released=True)
    assert (counted.chunks, counted.frames) == (chunks, frames)
    assert theirs.frames == frames - 3 * (mode == "v2v")
    assert (theirs.vae_flop < counted.vae_flop) == (mode == "v2v")


def test_a_short_clip_and_several_videos_are_counted() -> None:
    config = on_gpu(released("24B_base", num_frames=96))
    short = plan(config, "v2v", prefix=2)
    assert (short.chunks, short.frames) == (5, 4 * (5 * 6 - 2))
    one, four = plan(config), plan(config, videos=4, at_once=2)
    assert four.seconds() == pytest.approx(4 * one.seconds()) and four.frames == one.frames
    for part in ("key/value cache", "activations"):
        assert four.memory[part] > 1.9 * one.memory[part]
    assert four.memory["weights"] == one.memory["weights"]
    assert "4, 2 at a time" in four.table() and "at a time" not in one.table()
    assert "1.9 h for all 4 at 0.40 PFLOP/s" in four.table() and "for all" not in one.table()


# --- what really runs


class Counter:
    """In place of the transformer: notes what it is asked to run."""

    def __init__(self) -> None:
        self.forwards, self.units, self.cached = 0, 0, 0

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        texts: ChunkTexts,
        *,
        first: int,
        ranges: Sequence[ChunkRange],
        cached: CacheUse,
        text_dropped: bool,
        step_size: float | None,
    ) -> Tensor:
        assert t.shape == (len(x), len(ranges))
        self.forwards += len(x) * len(ranges)
        self.units += len(x) * sum(stop - start for start, stop in ranges)
        for chunk in range(first, first + cached.store):
            cached.cache.write(0, chunk, torch.ones(1, 1), torch.ones(1, 1))
        self.cached = max(self.cached, len(cached.cache.chunks))
        return torch.zeros_like(x)


def run(config: MagiConfig, mode: Mode) -> Counter:
    layout, calls = plan_calls(config, PREFIX_LATENTS[mode])
    counter = Counter()
    texts = ChunkTexts([torch.zeros(1, 1, 1)] * layout.chunks, [None] * layout.chunks)
    velocity = MagiVelocity(counter, config, VideoTexts(texts, texts, texts[:1]), KVCache())  # type: ignore[arg-type]
    noise = make_noise(layout, 1, 2, 2, seed=0)
    prefix = noise[:, :, : layout.prefix] if layout.prefix else None
    times = time_steps(
        config.runtime_config.num_steps, shortcut_mode=config.engine_config.shortcut_mode
    )
    list(denoise(velocity, noise, times, calls, layout, prefix=prefix))
    return counter


@pytest.mark.parametrize("mode", ["t2v", "i2v", "v2v"])
@pytest.mark.parametrize("name", ["4.5B_base", "4.5B_distill"])
@pytest.mark.parametrize(
    "runtime",
    [
        {"num_steps": 8},
        {"num_steps": 12},
        {"num_steps": 16, "window_size": 2, "num_frames": 144},
        {"num_steps": 8, "window_size": 1},
        {"num_steps": 8, "noise2clean_kvrange": (), "clean_chunk_kvrange": -1},
        {"num_steps": 8, "clean_chunk_kvrange": 3, "text_scales": (0.0,) * 5},
        {"num_steps": 8, "chunk_width": 2, "noise2clean_kvrange": (3, 2)},
    ],
    ids=str,
)
def test_the_sampler_runs_what_was_planned(name: str, mode: Mode, runtime: dict[str, Any]) -> None:
    config = on_gpu(released(name, **runtime))
    counted, counter = plan(config, mode), run(config, mode)
    assert counted.work.chunk_forwards == counter.forwards
    assert counted.work.attention_units == counter.units
    assert counted.memory["key/value cache"] == counter.cached * cache_per_chunk(config, 1)
    assert counted.all_branches.chunk_forwards >= counted.work.chunk_forwards


# --- memory


def test_cache_is_bounded() -> None:
    """However long the video, one finished chunk is kept in the released window."""
    for frames in (48, 96, 480):
        config = on_gpu(released("24B_base", num_frames=frames))
        assert plan(config).memory["key/value cache"] == cache_per_chunk(config, 1)
    config = on_gpu(released("24B_base", window_size=1))
    assert plan(config).memory["key/value cache"] == 3 * cache_per_chunk(config, 1)


def test_devices_share_groups_of_heads() -> None:
    config = on_gpu(released("24B_base"))
    alone = plan(config).memory
    for devices, share in ((2, 2), (8, 8), (16, 8)):
        shared = plan(config, world_size=devices).memory
        assert shared["key/value cache"] == alone["key/value cache"] // share
        assert shared["weights"] == alone["weights"]
        assert shared["activations"] == pytest.approx(alone["activations"] / devices, rel=0.01)


def test_offloading() -> None:
    config = on_gpu(released("24B_base"))
    here, away = plan(config), plan(config, offload=True)
    assert list(here.host) == ["video"]
    assert away.host["weights"] == here.memory["weights"]
    assert away.host["key/value cache"] == here.memory["key/value cache"]
    layer = 2 * here.parameters["layer"]
    assert away.memory["weights"] == pytest.approx(2 * layer + 4 * 39.08e6, rel=0.001)
    assert away.memory["key/value cache"] == here.memory["key/value cache"] // 48
    kept_in_host = plan(released("24B_base"))
    assert kept_in_host.memory["weights"] == here.memory["weights"]
    assert kept_in_host.host == here.host | {"key/value cache": here.memory["key/value cache"]}


def test_a_long_video_waits_in_the_host() -> None:
    """A run whose frames fit no memory is refused: a plan says how much that is."""
    frames = 2016
    long = plan(released("24B_base", num_frames=frames), at_once=2)
    picture = 1280 * 720 * 3
    assert 3 * frames * picture < long.host["video"] < 5 * frames * picture  # and latents, texts
    assert re.search(r"video, host +[\d.]+ GiB", long.table())


def test_activations_hold_the_tokens_of_the_largest_call() -> None:
    """Five chunks of 21600 tokens at 6144 channels: 1.2 GiB a copy in bfloat16, 2.5 GiB in float32."""
    counted = plan(released("24B_base", num_frames=192))
    copy = 5 * counted.tokens_per_chunk * 6144 * 2
    assert copy / GIB == pytest.approx(1.2, abs=0.05)
    assert 2 * copy / GIB == pytest.approx(2.5, abs=0.05)
    assert 5 * copy < counted.memory["activations"] < 15 * copy
    # A video of four chunks never has a finished one beside a full window.
    four = plan(released("24B_base")).memory["activations"]
    assert four == counted.memory["activations"] * 4 // 5
    one = plan(released("24B_base", window_size=1)).memory["activations"]
    assert one < 0.5 * counted.memory["activations"]


# --- shown


def test_table_and_json() -> None:
    counted = plan(released("24B_base"), world_size=8)
    table = counted.table(0.99e15)
    for shown in (
        "24B_base, t2v: 96 frames of 1280×720 in 4 chunks of 21600 tokens, 32 steps, 8 devices",
        "23.90 B",
        "44.59 GiB",
        "349   (all branches: 390)",
        "700.7 PFLOP (all branches: 767.3)",
        f"{counted.seconds(0.99e15) / 60:.1f} min at 0.99 PFLOP/s per GPU",
        "key/value cache, host",
    ):
        assert shown in table, table
    assert (
        "offloading" not in table
        and "offloading" in plan(released("24B_base"), offload=True).table()
    )
    assert all(line == line.rstrip() for line in table.splitlines())
    again = json.loads(counted.to_json())
    assert Plan(**again | {"work": counted.work, "all_branches": counted.all_branches}) == counted
    assert again["work"]["chunk_forwards"] == 349


def test_a_small_model_is_told_in_small_units() -> None:
    """Nothing that it takes is 0.00 of a large one."""
    table = plan(MagiConfig.load(located(TINY_CONFIG))).table()
    rows = {line[:24].strip(): line[24:].strip() for line in table.splitlines()[1:]}
    assert rows["parameters"].endswith(" M") and rows["weights"].endswith(" MiB")
    assert " ms at 0.40 PFLOP/s" in rows["time"] and "GFLOP (all" in rows["transformer"]
    assert not [name for name, text in rows.items() if text.startswith(("0 ", "0.0"))], table


def test_a_model_of_our_own_has_no_name_and_no_t5() -> None:
    config = released("4.5B_base")
    config = replace(
        config, model_config=replace(config.model_config, num_layers=2, caption_channels=192)
    )
    counted = plan(config)
    assert counted.model == "videodit_ardf" and counted.text_encoder == 0
    assert "text encoder" not in counted.table()
