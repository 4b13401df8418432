"""Speed and memory of MAGI-1 at its real sizes, with random weights, against the reference way.

    python -m benchmarks.bench_generate --generator 24B --sizes 720x720 720x1280
    torchrun --nproc_per_node 2 -m benchmarks.bench_generate --generator 24B --sizes 720x1280
    python -m benchmarks.bench_generate --generator nano --device cpu --sizes 32x48

Without an install, set PYTHONPATH=MAGI-1.

What is measured (``--parts``):

    attention    one chunk's queries to five chunks, by each of torch's kernels
    forward      chunk: one chunk through the transformer; window: four in flight that see 2 to 5 chunks, one
                 of them cached; step: one guided step of that window
    gradient     of the window's velocity with respect to its latents, the layers recomputed
    vae          decoding a chunk (24 frames) tile by tile; the gradient of half a second (12 frames)
    offload      chunk, window and step with the layers streamed from host memory

The reference way: an output projection of float32 operands without tensor cores, keys and values repeated for
every head, all guidance branches. Ours: eager, compiled, and on all processes that torchrun started. All in
this process, on the same weights and inputs; errors are root mean squares against the reference way, or
against ours, eager, without it.

Only the first ``--layers`` layers are run. "All layers" is extrapolated: time · layers of the model / layers
run, what is outside the layers included. The share of the matrix product's rate counts the layers' large
products and self-attention only; in a gradient, products three times (forward, again, backward into the
inputs) and attention 4.5 times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.bench_generate.workload import (
    MODELS,
    Scene,
    bench_config,
    random_dit,
    random_vae,
    reference_way,
)
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe, matmul_rate, median_and_peak
from magi1.config import RuntimeConfig
from magi1.parallel.context import parallelise, share_tiles
from magi1.parallel.groups import Place, process_groups
from magi1.planning.costs import vae_flop
from magi1.tiling import TileMap, map_tiles, tiled_decode
from magi1.transformer.attention import OneDevice
from magi1.transformer.kernels import sdpa
from magi1.transformer.offload import offload_layers

PARTS = ("attention", "forward", "gradient", "vae", "offload")


@dataclass
class Bench:
    """Times functions and keeps a row of each.

    Attributes:
        place, processes: This process, and how many share the work in rows of several devices.
        rate: FLOP/s of a matrix product.
        repeats: Timed runs after a warm-up.
        depth: Layers of the model / layers run.
        size: Of the video, for the rows to come.
    """

    place: Place
    processes: int
    rate: float
    repeats: int
    depth: float = 1.0
    size: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def measure(
        self,
        what: str,
        who: str,
        function: Callable[[], Tensor],
        flops: float | None = None,
        *,
        layers: bool = True,
        expected: Tensor | None = None,
        shared: bool = False,
    ) -> Tensor | None:
        """Time ``function`` and return its result.

        Args:
            what, who: Names of the row.
            function: What is timed.
            flops: Its arithmetic.
            layers: Whether its time is that of the transformer's layers.
            expected: What it should return.
            shared: Whether all processes work on it together.
        """
        row: dict[str, Any] = {"size": self.size, "what": what, "who": who}
        row |= {"devices": self.processes if shared else 1, "seconds": None, "peak_gib": None}
        device, results = self.place.device, list[Tensor]()

        def keep_last() -> None:
            results[:] = [function()]

        try:
            row["seconds"], row["peak_gib"] = median_and_peak(keep_last, device, self.repeats)
        except torch.cuda.OutOfMemoryError:
            if shared:
                raise  # the other processes would wait for this one
        if row["seconds"]:
            self._compare(row, flops, layers)
            if expected is not None:
                row["error"] = relative_error(results[0], expected)
        self.rows.append(row)
        if self.place.rank == 0:
            print_row(row)
        return results[0] if results else None

    def _compare(self, row: dict[str, Any], flops: float | None, layers: bool) -> None:
        if layers:
            row["all_layers_seconds"] = row["seconds"] * self.depth
        if flops is not None:
            row["of_matmul_rate"] = flops / row["seconds"] / self.rate / row["devices"]
        for other in self.rows:
            if (other["size"], other["what"]) != (row["size"], row["what"]) or not other["seconds"]:
                continue
            if other["who"] == "reference":
                row["times_reference"] = other["seconds"] / row["seconds"]
            if other["devices"] == 1 < row["devices"] and other["who"] != "reference":
                row["times_one_device"] = other["seconds"] / row["seconds"]


def relative_error(result: Tensor, expected: Tensor) -> float:
    difference = (result.double() - expected.double()).square().mean().sqrt()
    return (difference / expected.double().std()).item()


def print_row(row: dict[str, Any]) -> None:
    took = "out of memory" if row["seconds"] is None else f"{row['seconds']:.4f} s"
    formats = {
        "all_layers_seconds": "all layers {:.2f} s",
        "peak_gib": "{:.1f} GiB",
        "of_matmul_rate": "{:.0%} of the matmul rate",
        "times_reference": "{:.2f} x the reference",
        "times_one_device": "{:.2f} x one device",
        "error": "error {:.1e}",
    }
    more = [form.format(row[key]) for key, form in formats.items() if row.get(key) is not None]
    print(
        f"{row['size']:9} {row['what']:12} {row['who']:10} {row['devices']} dev.  {took:>13}  "
        + "  ".join(more),
        file=sys.stderr,
        flush=True,
    )


# --- parts ----------------------------------------------------------------------------------------------


def measure_attention(bench: Bench, scene: Scene) -> None:
    model, n = scene.config.model_config, scene.config.tokens_per_chunk

    def noise(tokens: int, heads: int) -> Tensor:
        shape = (1, tokens, heads, model.kv_channels)
        return torch.randn(shape, device=scene.device).to(scene.dit.block_dtype)

    q = noise(n, model.num_attention_heads)
    k, v = (noise(5 * n, model.num_query_groups) for _ in range(2))
    flops = 5 * scene.attention_flops() / model.num_layers
    bench.measure("attention", "default", lambda: sdpa(q, k, v), flops, layers=False)
    for name, kernel in (
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("cudnn", SDPBackend.CUDNN_ATTENTION),
    ):
        with sdpa_kernel(kernel):
            try:
                bench.measure("attention", name, lambda: sdpa(q, k, v), flops, layers=False)
            except RuntimeError as error:  # not on this device
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)


def measure_transformer(bench: Bench, scene: Scene, args: argparse.Namespace) -> None:
    """The reference way, eager and compiled on one device, and then on all."""
    forward = {"chunk": scene.chunk, "window": scene.window, "step": scene.step}
    functions: dict[str, Callable[[], Tensor]] = {}
    if "forward" in args.parts:
        functions |= forward
    if "gradient" in args.parts:
        functions["window grad"] = scene.window_gradient
    expected: dict[str, Tensor] = {}

    def measure(who: str, *, shared: bool = False) -> None:
        for what, function in functions.items():
            wanted = expected.get(what)
            found = bench.measure(
                what, who, function, scene.flops(what), expected=wanted, shared=shared
            )
            if wanted is None and found is not None:
                expected[what] = found

    if not args.skip_reference:
        with reference_way(scene.dit):
            measure("reference")
    measure("eager")
    if args.compile:
        scene.dit.compile_layers()
        measure("compiled")
    if bench.place.group is not None:
        parallelise(scene.dit, bench.place.group)
        scene.refill()
        measure("together", shared=True)
        scene.dit.layout = OneDevice()
        scene.refill()
    if "offload" in args.parts:
        offload_layers(scene.dit, bench.place.device)
        functions = {**forward}
        measure("offloaded")


def measure_vae(bench: Bench, model: str, runtime: RuntimeConfig) -> None:
    device = bench.place.device
    vae = random_vae(model, device)
    vae.checkpoint = True
    height, width = runtime.latent_height, runtime.latent_width
    shape = (1, vae.config.z_chans, runtime.chunk_width, height, width)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    unit = latents[:, :, : runtime.fps // 2 // runtime.temporal_downsample_factor]

    def decode(tile_map: TileMap) -> Tensor:
        with torch.no_grad():
            return tiled_decode(vae, latents, tile_map=tile_map)

    def gradient(tile_map: TileMap) -> Tensor:
        z = unit.clone().requires_grad_()
        video = tiled_decode(vae, z, tile_map=tile_map)
        return torch.autograd.grad(video.float().square().mean(), z)[0]

    flops = vae_flop(vae.config, runtime, runtime.chunk_width)
    decoded = bench.measure("decode", "eager", lambda: decode(map_tiles), flops, layers=False)
    grad = bench.measure("decode grad", "eager", lambda: gradient(map_tiles), layers=False)
    if bench.place.group is None:
        return
    shared = share_tiles(bench.place.group)
    for what, run, count, wanted in (
        ("decode", decode, flops, decoded),
        ("decode grad", gradient, None, grad),
    ):
        bench.measure(
            what,
            "together",
            partial(run, shared),
            count,
            layers=False,
            expected=wanted,
            shared=True,
        )


# --- all ------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace, place: Place, processes: int) -> dict[str, Any]:
    full = bench_config(args.generator, args.sizes[0], processes).model_config
    model = replace(full, num_layers=min(args.layers, full.num_layers))
    head: dict[str, Any] = {
        **describe(place.device),
        "model": args.generator,
        "processes": processes,
    }
    head |= {"layers": full.num_layers, "layers_run": model.num_layers}
    rate = matmul_rate(place.device, model.dtype)
    if place.rank == 0:
        print("  ".join(f"{key} {value}" for key, value in head.items()), file=sys.stderr)
        print(f"{model.params_dtype} matrix product: {rate / 1e12:.1f} TFLOP/s", file=sys.stderr)
    bench = Bench(place, processes, rate, args.repeats, full.num_layers / model.num_layers)
    for bench.size in args.sizes:
        config = replace(bench_config(args.generator, bench.size, processes), model_config=model)
        if args.parts != ["vae"]:
            dit = random_dit(model, place.device, fp8=config.engine_config.fp8_quant)
            scene = Scene(config, dit, place.device)
            if "attention" in args.parts:
                measure_attention(bench, scene)
            measure_transformer(bench, scene, args)
            del scene, dit
        if "vae" in args.parts:
            measure_vae(bench, args.generator, config.runtime_config)
    return {"benchmark": "generate", **head, "matmul_flops": rate, "rows": bench.rows}


def main(argv: list[str] | None = None) -> int:
    default = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = default == "cuda"
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = adding(parser)
    add(
        "--generator",
        "--model",
        default="24B" if cuda else "nano",
        choices=MODELS,
        help="-fp8: distilled, with float8 layers; default %(default)s",
    )
    add("--device", default=default, help="default %(default)s")
    add(
        "--sizes",
        nargs="+",
        default=["720x720" if cuda else "32x48"],
        help="height x width in pixels: 480x480, 720x720, 720x1280 …, default %(default)s",
    )
    add("--layers", type=int, default=8, help="layers run at most, default %(default)s")
    add("--repeats", type=int, default=3, help="timed runs, default %(default)s")
    add("--parts", nargs="+", default=PARTS, choices=PARTS, help="what is measured, default all")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=cuda,
        help="compiled layers, too, default %(default)s",
    )
    add("--skip_reference", action="store_true", help="do not time the reference way")
    args = parser.parse_args(argv)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    engine = bench_config(args.generator, args.sizes[0], processes).engine_config
    with process_groups(engine, args.device) as place:
        result = run(args, place, processes)
        if place.rank == 0:
            print(json.dumps(result))
    return 0
