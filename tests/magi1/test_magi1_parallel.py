"""Several processes are one: tokens and tiles shared over gloo on the CPU, against one process.

Four processes are started once. They are two pairs first (two replicas), then a group of four, which is
more than the model has key/value groups.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from magi1_goldens import close
from processes import server
from test_magi1_dit import NANO, nano, nano_inputs
from test_magi1_sampler import nano_config, nano_texts
from test_magi1_vae import NANO_TILING, nano_vae
from torch import Tensor
from torch import distributed as dist

from magi1.config import EngineConfig
from magi1.errors import MagiUsageError
from magi1.parallel.context import Ulysses, _deal, parallelise, share_tiles
from magi1.parallel.groups import Place, process_groups
from magi1.pullback import tiled_pullback
from magi1.sampling.sampler import denoise, make_noise
from magi1.sampling.schedule import plan_calls, time_steps
from magi1.sampling.velocity import MagiVelocity
from magi1.tiling import map_tiles, tiled_decode

PROCESSES = 4
FLOAT32, FLOAT64 = 1e-5, 1e-12

Results = dict[str, Tensor]


# --- what is computed, by one process or by several -------------------------------------------------


def loop(group: Any, dtype: torch.dtype, prefix: int = 0) -> Results:
    """A text-to-video loop: window, cached chunks, guidance with all its branches."""
    torch.manual_seed(0)
    config = nano_config(num_frames=16)
    layout, calls = plan_calls(config, prefix)
    dit = nano().to(dtype)
    parallelise(dit, group)
    texts = nano_texts(dit, layout.chunks)
    noise = make_noise(layout, 4, 6, 6, seed=0).to(
        dtype
    )  # 18 tokens in a chunk: not a multiple of 4
    given = torch.randn(1, 4, prefix, 6, 6, dtype=dtype) if prefix else None
    velocity = MagiVelocity(dit, config, texts)
    chunks = denoise(velocity, noise, time_steps(8), calls, layout, prefix=given)
    done = {f"chunk{piece.chunk}": piece.latents for piece in chunks}
    (key, value), *_ = velocity.cache.read(0, calls[-1].first - 1, calls[-1].first, noise.device)
    return {**done, "key": key, "value": value}


def gradient(group: Any, *, checkpointing: bool) -> Results:
    """Of two passes with respect to x, a batch of two, odd numbers of tokens."""
    torch.manual_seed(0)
    dit = nano(replace(NANO, num_layers=2)).double()
    dit.checkpointing = checkpointing
    parallelise(dit, group)
    x, t, features, mask = (part.double() for part in nano_inputs(3, batch=2))
    texts = dit.prepare_text(features, mask)
    x = x[..., :2, :6].contiguous().requires_grad_()  # 3 · 2 · 3 = 18 tokens
    v = dit(x, t, texts) + dit(x, t, texts, ranges=[(0, 1), (1, 2), (1, 3)], text_dropped=True)
    (grad,) = torch.autograd.grad((v * torch.randn_like(v)).sum(), x)
    return {"velocity": v.detach(), "grad": grad}


def tiles(group: Any, count: int) -> Results:
    """Tiles of several sizes through something that changes their shape, and the gradient."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    cut = [x[:, :, :, a : a + 4, : 8 - a] for a in range(count)]

    def function(tile: Tensor) -> Tensor:
        return tile.square().repeat_interleave(2, dim=2)[:, :1].sin()

    mapped = share_tiles(group)(function, cut)
    (grad,) = torch.autograd.grad(sum(i * tile.sum() for i, tile in enumerate(mapped, 1)), x)
    return {"grad": grad, **{f"tile{i}": tile.detach() for i, tile in enumerate(mapped)}}


def pulled_back(group: Any) -> Results:
    """Gradients at a decoded video: whole on every process, in float64."""
    torch.manual_seed(0)
    vae = nano_vae().requires_grad_(False)
    latent = torch.randn(1, 2, 3, 9, 7, dtype=torch.float64)
    tile_map = share_tiles(group)
    video = tiled_decode(vae, latent, NANO_TILING, tile_map)
    found = tiled_pullback(vae, latent, [video, video.sin()], NANO_TILING, tile_map)
    return {"video": video, **{f"gradient{i}": gradient for i, gradient in enumerate(found)}}


CASES: dict[str, tuple[tuple[int, ...], Callable[[Any], Results]]] = {
    "loop in float32": ((2,), lambda group: loop(group, torch.float32)),
    "loop in float64": ((4,), lambda group: loop(group, torch.float64)),
    "loop after a given video": ((2,), lambda group: loop(group, torch.float64, prefix=5)),
    "gradient": ((2, 4), lambda group: gradient(group, checkpointing=False)),
    "gradient with checkpointing": ((2,), lambda group: gradient(group, checkpointing=True)),
    "tiles": ((2, 4), lambda group: tiles(group, 5)),
    "a single tile": ((2,), lambda group: tiles(group, 1)),
    "a gradient pulled back": ((2, 4), pulled_back),
}
"""What is computed, and how many processes share it."""


def engine(cp_size: int) -> EngineConfig:
    return replace(nano_config().engine_config, cp_size=cp_size, cp_strategy="cp_ulysses")


def work(rank: int, folder: Path) -> None:
    """One of the processes: in a group of two, then of four."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": str(PROCESSES), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    results: dict[str, Any] = {}
    for size in (2, 4):
        method = f"file://{folder}/meeting{size}"
        with process_groups(engine(size), "cpu", init_method=method) as place:
            results[f"place{size}"] = (place.rank, place.replica, place.replicas)
            for name, (sizes, case) in CASES.items():
                # The second pair has something else to do: groups do not wait for each other.
                if size in sizes and (place.replica == 0 or name == "gradient"):
                    results[f"{name}, {size}"] = case(place.group)
    torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes found."""
    folder = tmp_path_factory.mktemp("processes")
    team = [server().Process(target=work, args=(rank, folder)) for rank in range(PROCESSES)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    assert [process.exitcode for process in team] == [0] * PROCESSES
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


# --- several against one ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, (sizes, _) in CASES.items() for size in sizes]
)
def test_several_processes_are_one(results: list[dict[str, Any]], name: str, size: int) -> None:
    alone = CASES[name][1](None)
    tolerance = FLOAT32 if "float32" in name else FLOAT64
    of_processes = [found[f"{name}, {size}"] for found in results if f"{name}, {size}" in found]
    assert len(of_processes) >= size
    for rank, found in enumerate(of_processes):
        assert found.keys() == alone.keys()
        for what, wanted in alone.items():
            if what in ("key", "value"):
                close(found[what], own_groups(wanted, rank % size, size), tolerance)
                continue
            close(found[what], wanted, tolerance)
            assert torch.equal(
                found[what], of_processes[0][what]
            )  # all go on with the same numbers


def own_groups(cached: Tensor, rank: int, size: int) -> Tensor:
    """What a process keeps of ``cached [B, n, groups, d]``."""
    groups = cached.shape[2]
    count = max(1, groups // size)
    first = rank * groups // size
    return cached[:, :, first : first + count]


def test_neighbours_form_groups(results: list[dict[str, Any]]) -> None:
    assert [found["place2"] for found in results] == [(0, 0, 2), (1, 0, 2), (0, 1, 2), (1, 1, 2)]
    assert [found["place4"] for found in results] == [(rank, 0, 1) for rank in range(4)]


# --- without other processes --------------------------------------------------------------------------


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_groups(engine(8), "cpu") as place:
        assert place == Place(torch.device("cpu"))
        assert not dist.is_initialized()
    dit = nano()
    layout = dit.layout
    parallelise(dit, place.group)
    assert dit.layout is layout
    assert share_tiles(place.group) is map_tiles


def test_processes_that_cannot_be_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(MagiUsageError, match="6 processes are not a multiple of the 4 that share"):
        process_groups(engine(4), "cpu").__enter__()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(MagiUsageError, match="process 2 on this machine finds 1 GPUs"):
        process_groups(engine(2), "cuda").__enter__()


def layouts(monkeypatch: pytest.MonkeyPatch, size: int, tokens: int) -> Iterator[Ulysses]:
    for rank in range(size):
        monkeypatch.setattr(dist, "get_rank", lambda _, rank=rank: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda _: size)
        yield Ulysses(None).of(tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "chunks", "each"), [(2, 3, 5), (4, 1, 9), (3, 5, 2), (8, 3, 7)])
def test_segments_cover_every_token_once(
    monkeypatch: pytest.MonkeyPatch, size: int, chunks: int, each: int
) -> None:
    seen, begin = [], 0
    for layout in layouts(monkeypatch, size, chunks * each):
        assert max(layout.counts) - min(layout.counts) <= 1
        assert layout.counts == sorted(layout.counts, reverse=True)
        for segment in layout.segments(chunks, each):
            held = range(begin + segment.tokens.start, begin + segment.tokens.stop)
            assert held and {token // each for token in held} == {segment.chunk}
            seen += held
        begin += layout.counts[layout.rank]
    assert seen == list(range(chunks * each))


def test_too_few_tokens_or_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MagiUsageError, match="4 processes cannot share 3 tokens"):
        next(layouts(monkeypatch, 4, 3))
    monkeypatch.setattr(dist, "get_world_size", lambda _: 3)
    with pytest.raises(MagiUsageError, match="3 processes cannot share 4 heads"):
        parallelise(nano(), object())  # type: ignore[arg-type]


def test_large_tiles_are_dealt_first() -> None:
    assert _deal([1, 5, 3, 3], 2) == [[1, 0], [2, 3]]
    assert _deal([4], 3) == [[0], [], []]
