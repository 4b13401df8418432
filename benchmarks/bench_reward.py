"""Speed and memory of the surprise and of its pixel gradient, ours against the reference way.

    python -m benchmarks.bench_reward                    # ViT-g at its real size, random weights, GPU
    python -m benchmarks.bench_reward --model tiny --device cpu
    python -m benchmarks.bench_reward --model vitb21 vitl21 vitg21 vitG21 --skip_reference
    python -m benchmarks.bench_reward --model vitb21 --observed student --crop 256 --device cpu

The reference way: float32, one window at a time, a second copy of the encoder as target encoder, and
for the gradient the graphs of all windows alive at once. Ours: bfloat16 weights (float32 on a CPU),
windows in batches, one encoder, and on a GPU compiled blocks. Both in this process, on the same
random video and weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe, matmul_rate, median_and_peak
from vjepa2 import VJEPA21, ModelConfig, Reading, VJEPA21Config, WorldModel, build_model, get_config
from vjepa2.encoder import Encoder
from vjepa2.encoder21 import Encoder21
from vjepa2.reading import Observed
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.surprise.tokens import window_surprise
from wmreward.surprise.windows import window_starts


def random_model(
    config: ModelConfig, device: torch.device, observed: Observed | None = None
) -> WorldModel:
    """Weights as V-JEPA initialises them: normal of 0.02, smaller where block i adds to the residual."""
    torch.manual_seed(0)
    distilled = isinstance(config, VJEPA21Config) and config.teacher is not None
    reading = Reading(observed=observed) if distilled else None
    with torch.device(device):
        model = build_model(config, reading=reading)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            block = re.search(r"blocks\.(\d+)\.(?:attn\.proj|mlp\.fc2)", name)
            scale = (2 * (int(block[1]) + 1)) ** -0.5 if block else 1.0
            torch.nn.init.trunc_normal_(parameter, std=0.02 * scale)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return model.requires_grad_(False).eval()


def reference_score(model: WorldModel, video: Tensor, config: SurpriseConfig) -> Tensor:
    """One window after the other; the mean of what is kept of each."""
    pixels = model.preprocess(video)
    losses = []
    for start in window_starts(pixels.shape[2], config.window_size, config.stride):
        window = pixels[:, :, start : start + config.window_size]
        latents = model.future_latents(window, config.context_frames)
        losses.append(window_surprise(latents, config)[0])
    return torch.stack(losses).mean()


def flops(
    config: ModelConfig, windows: int, size: int, context: int, *, observed: Observed | None = None
) -> float:
    """Multiply-adds × 2 of scoring: matrix products and attention, per window once each."""

    def transformer(tokens: int, width: int, depth: int, mlp: int) -> float:
        return depth * (2 * tokens * (4 * width**2 + 2 * width * mlp) + 4 * tokens**2 * width)

    def encoder(tokens: int, of: ModelConfig) -> float:
        return transformer(tokens, of.width, of.depth, of.mlp_width)

    target, predictions = config, 1
    if isinstance(config, VJEPA21Config) and config.teacher is not None:
        target = config if observed == "student" else config.teacher
        predictions += observed == "student"  # what is observed goes through the predictor, too
    n, p = config.tokens_per_tubelet, config.predictor
    seen, total = context // config.tubelet * n, size // config.tubelet * n
    predictor = predictions * transformer(total, p.width, p.depth, 4 * p.width)
    return windows * (encoder(seen, config) + encoder(total, target) + predictor)


def _recompute(model: WorldModel, recompute: bool) -> None:
    """Whether gradients compute activations again instead of keeping them."""
    for encoder in (model.encoder, model.target_encoder):
        assert isinstance(encoder, Encoder | Encoder21)
        encoder.recompute = recompute


def gradient(score: Callable[..., Tensor], video: Tensor) -> Tensor:
    leaf = video.detach().requires_grad_()
    return torch.autograd.grad(score(video=leaf), leaf)[0]


def run(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure one model."""
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    ours_dtype = getattr(torch, args.dtype or ("bfloat16" if cuda else "float32"))
    config = get_config(name, args.crop)
    reference = random_model(config, device, args.observed)
    shared = reference.target_encoder is reference.encoder
    if shared:
        reference.target_encoder = copy.deepcopy(reference.encoder)
    recomputes = bool(reference.target_encoder.recompute) and not args.keep_activations
    _recompute(reference, False)
    video = torch.rand(1, 3, args.num_frames, config.crop, config.crop, device=device) * 2 - 1
    rate = matmul_rate(device, ours_dtype)
    head = describe(device)
    print("  ".join(f"{key} {value}" for key, value in head.items()), file=sys.stderr)
    print(f"{str(ours_dtype)[6:]} matrix product: {rate / 1e12:.3g} TFLOP/s", file=sys.stderr)
    rows: list[dict[str, Any]] = []

    def measure(
        what: str, who: str, stride: int, function: Callable[[], object], repeats: int
    ) -> None:
        windows = len(window_starts(args.num_frames, 16, stride))
        row: dict[str, Any] = {"what": what, "who": who, "stride": stride, "windows": windows}
        try:
            row["seconds"], row["peak_gib"] = median_and_peak(function, device, repeats)
        except torch.cuda.OutOfMemoryError:
            row["seconds"] = row["peak_gib"] = None
        if row["seconds"] and what == "score":
            row["of_matmul_rate"] = (
                flops(config, windows, 16, 8, observed=args.observed) / row["seconds"] / rate
            )
        rows.append(row)
        print_row(row)

    settings = {stride: SurpriseConfig(stride=stride) for stride in args.strides}
    expected = {}
    with torch.no_grad():
        for stride, surprise in settings.items():
            expected[stride] = reference_score(reference, video, surprise).item()
    for stride, surprise in () if args.skip_reference else settings.items():
        score = partial(reference_score, reference, config=surprise)
        with torch.no_grad():
            measure("score", "reference", stride, partial(score, video=video), 1)
        measure("gradient", "reference", stride, partial(gradient, score, video), 1)
    if shared:
        reference.target_encoder = reference.encoder
    ours = reference.to(ours_dtype)
    _recompute(ours, recomputes)
    if cuda and not args.no_compile:
        ours.compile_blocks()
    for stride, surprise in settings.items():
        scorer = SurpriseScorer(
            ours, surprise, batch_size=args.batch_size, grad_batch_size=args.grad_batch
        )
        with torch.no_grad():
            error = abs(scorer(video).item() - expected[stride])
            measure("score", "ours", stride, partial(scorer, video), args.repeats)
        rows[-1]["error"] = error
        print(f"  score error against float32: {error:.2e}", file=sys.stderr)
        measure("gradient", "ours", stride, partial(scorer.score_and_gradient, video), args.repeats)
    reading = vars(ours.reading) if isinstance(ours, VJEPA21) else {}
    about = {"model": name, "crop": config.crop, **reading, "dtype": str(ours_dtype)[6:]}
    about["keep_activations"] = not recomputes
    return {"benchmark": "reward", **about, **head, "matmul_flops": rate, "rows": rows}


def print_row(row: dict[str, Any]) -> None:
    took = "out of memory" if row["seconds"] is None else f"{row['seconds']:.3f} s"
    peak = f"{row['peak_gib']:.1f} GiB" if row["peak_gib"] else ""
    share = f"{row['of_matmul_rate']:.0%} of the matmul rate" if "of_matmul_rate" in row else ""
    print(
        f"{row['what']:9} {row['who']:10} stride {row['stride']}  {row['windows']:2} windows  "
        f"{took:>13}  {peak:>9}  {share}",
        file=sys.stderr,
        flush=True,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_reward",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    add = adding(parser)
    add(
        "--model",
        nargs="+",
        default=["vitg" if default == "cuda" else "tiny"],
        help="one or several, a line each; default %(default)s",
    )
    add("--crop", type=int, help="V-JEPA 2.1: another side of the picture than the model's own")
    add("--observed", choices=["teacher", "student"], help="distilled models; default teacher")
    add("--dtype", help="of ours; default bfloat16 on a GPU, float32 on a CPU")
    add("--device", default=default, help="default %(default)s")
    add(
        "--num_frames",
        "--frames",
        type=int,
        default=49,
        help="frames of the video, default %(default)s",
    )
    add("--strides", type=int, nargs="+", default=[2, 8], help="default 2 8")
    add(
        "--batch_size",
        "--batch",
        type=int,
        default=32,
        help="windows per forward pass, default %(default)s",
    )
    add("--grad_batch", type=int, default=4, help="windows per backward pass, default %(default)s")
    add("--repeats", type=int, default=5, help="timed runs of ours, default %(default)s")
    add("--no_compile", action="store_true", help="eager blocks")
    add(
        "--keep_activations",
        action="store_true",
        help="for gradients; else large encoders compute them again",
    )
    add("--skip_reference", action="store_true", help="do not time the reference way")
    args = parser.parse_args(argv)
    for name in args.model:
        print(json.dumps(run(args, name)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
