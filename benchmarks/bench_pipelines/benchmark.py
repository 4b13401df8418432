"""Time and memory of plain and of guided steps of diffusers' video pipelines, at real sizes.

    python -m benchmarks.bench_pipelines --pipelines wan-1.3b ltx            # on a GPU, random weights, 480p
    python -m benchmarks.bench_pipelines --pipelines wan-14b:plain,plain,on_host --memory_gib 78
    python -m benchmarks.bench_pipelines --pipelines nano --device cpu --model tiny

Each pipeline makes one video. Its steps are of these kinds, and the last of each kind counts; the first one
warms up:

    plain    no guidance
    guided   exact, all on the GPU
    apart    exact; the video is decoded once more, so that the decoder's graph and the reward's never meet
    on_host  exact; what the decoder keeps for its gradient waits in host memory
    pieces   the decoder's gradient is taken over 4 latent frames at a time
    scored   only 5 latent frames are decoded and scored
    shrunk   the latents are averaged over squares of 2 × 2 cells before they are decoded
    lean     both: 5 latent frames, shrunk
    decode   the last decoding, which every call has

The reward is the surprise of a world model with random weights, in windows of 16 frames, 8 apart. Memory is
the most that was allocated in such a step or in the last decoding; that of the plain step is without the
reward's weights. Time and memory depend on sizes only, so random weights tell the truth. Where memory runs
out, guidance gives up what it can, and the table says what; the failed tries are in the time and memory of
that step. Every step is told on standard error as soon as
it is done; a table and one JSON line go to standard output.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.bench_pipelines.models import MODELS, Model
from benchmarks.bench_reward import random_model
from benchmarks.shared.flags import adding
from benchmarks.shared.machine import describe
from vjepa2 import get_config
from wmreward.errors import WMRewardError
from wmreward.pipelines import guide_pipeline
from wmreward.pipelines.decoding import Economy
from wmreward.pipelines.guide import PipelineGuidance
from wmreward.rewards.world import SurpriseReward
from wmreward.steering.guidance import GuidanceConfig
from wmreward.steering.schedule import GuidanceSchedule
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer

PLAIN, DECODE = "plain", "decode"
GUIDED: dict[str, dict[str, Any]] = {
    "guided": {},
    "apart": {"apart": True},
    "on_host": {"on_host": True},
    "pieces": {"pieces": 4},
    "scored": {"scored": 5},
    "shrunk": {"shrink": 2},
    "lean": {"shrink": 2, "scored": 5},
}
"""Kinds of guided steps, and what each gives up from the beginning."""
STEPS = (PLAIN, PLAIN, "guided", "guided")
"""The first of each kind warms up."""
SETTINGS = {
    "reward_model": "model",
    "dtype": "dtype",
    "scale": "guidance_scale",
    "grad_batch": "grad_batch",
    "measure": "guidance_measure",
}
"""What a record says of the flags, by the names that its readers know."""
GIB = 2**30


@dataclass
class Steps:
    """Told of every step by the pipeline: measures it, and sets what the next one gives up.

    Attributes:
        name: Of the pipeline.
        kinds: Of its steps.
        reward: What guides.
        device: Where it runs.
        limit_s: No step begins after so many seconds.
        measured: What was found so far.
    """

    name: str
    kinds: Sequence[str]
    reward: SurpriseReward
    device: torch.device
    limit_s: float
    measured: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, guided: PipelineGuidance) -> None:
        """Before the pipeline is called."""
        self.guided = guided
        self._prepare(self.kinds[0])
        self._wanted = self._economy()
        self._begun = self._last = self._now()

    def __call__(
        self, pipe: Any, step: int, timestep: Any, values: dict[str, Any]
    ) -> dict[str, Any]:
        """As ``callback_on_step_end``."""
        kind = self.kinds[step]
        self.note(kind)
        if step + 1 < len(self.kinds):
            if self.kinds[step + 1] != kind:
                self._prepare(self.kinds[step + 1])
            self._wanted = self._economy()
            if self._last - self._begun > self.limit_s:
                pipe._interrupt = True
        return values

    def note(self, kind: str) -> None:
        """What was done since the last time was of this kind."""
        now, on_gpu = self._now(), self.device.type == "cuda"
        found: dict[str, Any] = {"kind": kind, "seconds": now - self._last}
        if on_gpu:
            found["peak_gib"] = torch.cuda.max_memory_allocated(self.device) / GIB
            found["reserved_gib"] = torch.cuda.max_memory_reserved(self.device) / GIB
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        if kind in GUIDED:
            guides = sum(one["kind"] in GUIDED for one in self.measured) + 1
            if len(self.guided.records) != guides:
                raise WMRewardError("the step was not guided")
            found["guidance_s"] = self.guided.records[-1].seconds
            found["economy"] = self._economy()
            found["tries_failed"] = found["economy"] != self._wanted
            found["errors"] = list(self.guided.economy.errors)
        self.measured.append(found)
        shown = {key: round(v, 3) for key, v in found.items() if isinstance(v, float)}
        print(f"{self.name}: {kind} {json.dumps(shown)}", file=sys.stderr, flush=True)
        self._last = self._now()

    def _prepare(self, kind: str) -> None:
        for key, value in asdict(Economy(**GUIDED.get(kind, {}))).items():
            setattr(self.guided.economy, key, value)

    def _economy(self) -> dict[str, Any]:
        given_up = asdict(self.guided.economy)
        economy = {key: given_up[key] for key in given_up.keys() - {"errors", "measured"}}
        return economy | {"grad_batch": self.reward.scorer.grad_batch_size}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def measured(
    name: str, model: Model, kinds: Sequence[str], reward: SurpriseReward, args: argparse.Namespace
) -> dict[str, Any]:
    """What was found of one pipeline; ``failed`` says why it is not all."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    reward.scorer.grad_batch_size = args.grad_batch  # the pipeline before may have lowered it
    steps = Steps(name, kinds, reward, device, args.limit_s)
    row: dict[str, Any] = {"model": name, "size": model.size, "steps": steps.measured}
    scales = tuple(args.guidance_scale * (kind in GUIDED) for kind in kinds)
    schedule = GuidanceSchedule(scales)
    config = GuidanceConfig(schedule=schedule, keep="edges", measure=args.guidance_measure)
    try:
        begun = time.perf_counter()
        pipe = model.make(device, dtype)
        print(f"{name}: made in {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
        row["weights_gib"] = sum(_bytes(part) for part in (pipe.transformer, pipe.vae)) / GIB
        call = model.call(device, dtype, len(kinds))
        generator = torch.Generator().manual_seed(0)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        with guide_pipeline(pipe, reward, config) as guided:
            steps.begin(guided)
            pipe(**call, generator=generator, callback_on_step_end=steps, output_type="pt")
            steps.note(DECODE)
    except Exception as error:  # one pipeline must not take the others along on a rented machine
        row["failed"] = f"{type(error).__name__}: {error}"[:500]
        print(f"{name}: {row['failed']}", file=sys.stderr, flush=True)
    return row


def _bytes(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        seconds: Of a step.
        guidance_s: Of them, guidance.
        peak_gib: Of a call with such steps.
        notes: What was given up, and what else must be known.
    """

    seconds: float
    guidance_s: float | None
    peak_gib: float | None
    notes: str


def lines_of(row: dict[str, Any], reward_gib: float) -> dict[str, Line]:
    """By kind, from the last step of each."""
    last = {found["kind"]: found for found in row["steps"]}
    lines = {}
    for kind, found in last.items():
        peak = found.get("peak_gib")
        if peak is not None:
            if DECODE in last:
                peak = max(peak, last[DECODE]["peak_gib"])
            peak -= 0 if kind in GUIDED else reward_gib
        first = sum(one["kind"] == kind for one in row["steps"]) == 1
        lines[kind] = Line(found["seconds"], found.get("guidance_s"), peak, _notes(found, first))
    return lines


def _notes(found: dict[str, Any], first: bool) -> str:
    if found["kind"] not in GUIDED:
        return ""
    economy = found["economy"]
    notes = [
        f"{key} {economy[key]}"
        for key in ("apart", "on_host", "pieces", "scored", "shrink")
        if economy[key]
    ]
    notes += [f"grad_batch {economy['grad_batch']}"]
    if found["errors"]:
        notes.append(f"error {max(found['errors']):.2g}")
    if first:
        notes.append("not warm")
    if found["tries_failed"]:
        notes.append("with tries that failed")
    return ", ".join(notes)


def told(row: dict[str, Any], reward_gib: float) -> str:
    """The lines of one pipeline."""
    lines = lines_of(row, reward_gib)
    plain, size = lines.get(PLAIN), "×".join(map(str, row["size"]))
    texts = []
    for kind, line in lines.items():
        cells = [f"{row['model']:14}  {size:13}  {kind:8}  {line.seconds:8.2f} s"]
        cells.append(" " * 10 if line.guidance_s is None else f"{line.guidance_s:8.2f} s")
        cells.append(" " * 10 if line.peak_gib is None else f"{line.peak_gib:6.1f} GiB")
        if kind in GUIDED and plain:
            cells.append(f"× {line.seconds / plain.seconds:.2f} time")
            if line.peak_gib and plain.peak_gib:
                cells.append(f"× {line.peak_gib / plain.peak_gib:.2f} memory")
        texts.append("  ".join([*cells, line.notes]).rstrip())
    if "failed" in row:
        texts.append(f"{row['model']:14}  {size:13}  failed: {row['failed']}")
    return "\n".join(texts)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    device = torch.device(args.device)
    if args.memory_gib:
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.memory_gib * GIB / whole))
    head = describe(device) | {"diffusers": version("diffusers")}
    print("  ".join(f"{key} {value}" for key, value in head.items()), file=sys.stderr)
    world = random_model(get_config(args.model), device).to(getattr(torch, args.dtype))
    scorer = SurpriseScorer(world, SurpriseConfig(stride=8, score="top"))
    reward_gib = _bytes(world) / GIB
    rows = []
    print(
        f"{'model':14}  {'size':13}  {'step':8}  {'time':>10}  {'guidance':>10}  {'memory':>10}",
        flush=True,
    )
    for name, kinds in args.pipelines:
        model = MODELS[name]
        if args.size:
            model = replace(model, size=tuple(args.size))
        rows.append(measured(name, model, kinds, SurpriseReward(scorer), args))
        print(told(rows[-1], reward_gib), flush=True)
        gc.collect()  # pipelines hold themselves in circles
        if device.type == "cuda":
            torch.cuda.empty_cache()
    settings = {key: getattr(args, flag) for key, flag in SETTINGS.items()}
    settings |= {"reward_gib": reward_gib, "memory_gib": args.memory_gib}
    print(json.dumps({"benchmark": "pipelines", **head, **settings, "rows": rows}))
    return 1 if any("failed" in row for row in rows) else 0


def _model(text: str) -> tuple[str, tuple[str, ...]]:
    """``NAME`` or ``NAME:STEP,STEP,…``"""
    name, _, listed = text.partition(":")
    kinds = tuple(listed.split(",")) if listed else STEPS
    if name not in MODELS:
        raise argparse.ArgumentTypeError(f"no model {name!r}: choose from {', '.join(MODELS)}")
    for kind in kinds:
        if kind not in (PLAIN, *GUIDED):
            known = ", ".join((PLAIN, *GUIDED))
            raise argparse.ArgumentTypeError(f"no step {kind!r}: choose from {known}")
    return name, kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_pipelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    add = adding(parser)
    add(
        "--pipelines",
        "--models",
        nargs="+",
        type=_model,
        default=[("wan-1.3b", STEPS)],
        metavar="NAME[:STEP,…]",
        help=f"{', '.join(MODELS)}; steps (default: {','.join(STEPS)})",
    )
    add(
        "--size", nargs=3, type=int, metavar=("H", "W", "FRAMES"), help="instead of the model's own"
    )
    add("--device", default=default)
    add("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    add("--model", "--reward_model", default="vitg", help="world model (default: vitg)")
    add("--grad_batch", type=int, default=4, help="windows differentiated at once (default: 4)")
    add(
        "--guidance_measure",
        "--measure",
        action="store_true",
        help="score what guided steps lead to: one more decoding",
    )
    add("--guidance_scale", "--scale", type=float, default=0.15, help="of guidance (default: 0.15)")
    add("--memory_gib", type=float, help="of the GPU at most, to be as on a smaller one")
    add(
        "--limit_s",
        type=float,
        default=float("inf"),
        help="no further step of a model begins after so many seconds (default: no limit)",
    )
    return parser
