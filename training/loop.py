"""What the training runs share: processes, the optimiser's step, and slices that stop and go on.

A run lives in a folder: ``state.pt`` is its whole state, ``log.jsonl`` has a line for every report, and
the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.muon import Muon

CHECK_EVERY = 20
"""Steps between looks at the clock."""

PLACES = ("vae", "init_from")
"""Settings that are paths."""

Config = TypeVar("Config", contravariant=True)


@dataclass(frozen=True)
class Process:
    """This process among those of the run."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def current(cls, device: torch.device | str = "cpu") -> Process:
        """As torch.distributed says, if it is in use; else the only one."""
        if not dist.is_initialized():
            return cls(0, 1, torch.device(device))
        return cls(dist.get_rank(), dist.get_world_size(), torch.device(device))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one transfer."""
        if self.world == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat, op=dist.ReduceOp.SUM)
        flat /= self.world
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def joined() -> Iterator[Process]:
    """This process as torchrun started it, or alone; on its GPU if there is one."""
    distributed, cuda = "RANK" in os.environ, torch.cuda.is_available()
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = True
    if distributed:
        dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Process.current(device)
    finally:
        if distributed:
            dist.destroy_process_group()


def schedule(progress: float, warmup: float = 0.04, floor: float = 0.02) -> float:
    """Learning rate as a part of its peak: linear warm-up, then a cosine down to ``floor``."""
    if progress < warmup:
        return progress / warmup + 1e-3
    cosine = 0.5 * (1 + math.cos((progress - warmup) / (1 - warmup) * math.pi))
    return floor + (1 - floor) * cosine


class Trainer(ABC):
    """State of a run: which step, the weights, their average over the last steps, and the optimiser.

    Args:
        config: A dataclass; together with the number of processes it determines the weights.
        out: Folder of the run.
        process: This process.
    """

    live: nn.Module
    average: list[Tensor]
    optimisers: list[torch.optim.Optimizer]

    def __init__(self, config: Any, out: Path, process: Process) -> None:
        self.config, self.out, self.process = config, out, process
        self.device, self.rank = process.device, process.rank
        self.step = 0

    @property
    @abstractmethod
    def total_steps(self) -> int: ...

    @abstractmethod
    def train_step(self) -> Tensor:
        """One optimiser step; returns the loss."""

    @abstractmethod
    def export(self) -> list[Path]:
        """Write the averaged weights as models read them; returns the files."""

    def diagnostics(self) -> dict[str, float]:
        """More numbers about the last step, for the log."""
        return {}

    def evaluation(self) -> dict[str, float]:
        """Numbers about the finished model, for the log."""
        return {}

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters that are trained now."""
        return [p for p in self.live.parameters() if p.requires_grad]

    def start_optimiser(self, weight_decay: float, hidden: Sequence[nn.Parameter] = ()) -> None:
        """Fresh optimisers for what is learning, with decay on matrices only, and a fresh average.

        Args:
            weight_decay: Decoupled.
            hidden: The matrices that Muon is for; AdamW has the rest.
        """
        learning = self.learning
        apart = {id(p) for p in hidden}
        rest = [p for p in learning if id(p) not in apart]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimisers = [
            torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=self.device.type == "cuda")
        ]
        if hidden:
            self.optimisers.append(Muon(hidden, lr=0.0, weight_decay=weight_decay))
        self.average = [p.detach().clone() for p in learning]

    def learn(self, loss: Tensor, *, rate: float, decay: float, seen: int) -> None:
        """Backward pass and update.

        Args:
            rate: Learning rate.
            decay: Of the average; less at first, so that early steps do not linger in it.
            seen: Steps that the average has seen.
        """
        for group in (group for some in self.optimisers for group in some.param_groups):
            group["lr"] = rate
        loss.backward()
        learning = self.learning
        self._average_gradients(p for p in learning if p.grad is not None)
        nn.utils.clip_grad_norm_(learning, 1.0, foreach=True)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(decay, (1 + seen) / (10 + seen))
        torch._foreach_lerp_(self.average, [p.detach() for p in learning], 1 - decay)
        self.step += 1

    def _average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        self.process.average(p.grad for p in parameters if p.grad is not None)

    def autocast(self) -> torch.autocast:
        """bfloat16 where matrix products gain from it."""
        cuda = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=cuda)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        learning: list[Tensor] = [*self.learning]
        kept = [p.detach().clone() for p in learning]
        with torch.no_grad():
            torch._foreach_copy_(learning, self.average)
            yield
            torch._foreach_copy_(learning, kept)

    def averaged_state(self) -> dict[str, Tensor]:
        """The averaged parameters by name, on the CPU."""
        names = (name for name, p in self.live.named_parameters() if p.requires_grad)
        return {name: mean.cpu() for name, mean in zip(names, self.average, strict=True)}

    # --- files

    @property
    def checkpoint(self) -> Path:
        return self.out / "state.pt"

    def save(self) -> None:
        """Write the whole state; the other processes hold the same, but for their data."""
        if self.process.first:
            state = {
                "config": asdict(self.config),
                "step": self.step,
                "model": self.live.state_dict(),
                "average": self.average,
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            }
            temporary = self.checkpoint.with_suffix(".tmp")
            torch.save(state, temporary)
            temporary.replace(self.checkpoint)
        self.process.barrier()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one; refuses one of other settings."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["config"] != asdict(self.config):
            raise SystemExit(
                f"{self.checkpoint} was written with other settings ({state['config']}); "
                "use the same ones or another --output"
            )
        self.step = state["step"]
        self.prepare_resumed()
        self.live.load_state_dict(state["model"])
        self.average = state["average"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def prepare_resumed(self) -> None:  # noqa: B027 (few runs need it)
        """Give the model the form that it has at ``step``, if that changes during the run."""

    def record(self) -> dict[str, str]:
        """What weights files say about their origin."""
        settings = asdict(self.config) | {"processes": self.process.world}
        # Where things lay on one machine says nothing on another.
        settings |= {name: Path(settings[name]).name for name in PLACES if settings.get(name)}
        return {
            "training": json.dumps(settings),
            "step": str(self.step),
            "torch": torch.__version__,
        }


def train(
    trainer: Trainer, *, max_minutes: float, log_every: int, check_every: int = CHECK_EVERY
) -> bool:
    """Train until done or out of time; returns whether it is done.

    Prints the files that were written; progress goes to the log and to stderr.
    """
    process = trainer.process
    trainer.out.mkdir(parents=True, exist_ok=True)
    trainer.resume()
    begun = last = time.monotonic()
    first_step, fresh = trainer.step, trainer.step < trainer.total_steps

    def report(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        with (trainer.out / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, file=sys.stderr, flush=True)

    while trainer.step < trainer.total_steps:
        loss = trainer.train_step()
        finished = trainer.step == trainer.total_steps
        if process.first and (trainer.step % log_every == 0 or finished):
            now = time.monotonic()
            report(
                {
                    "step": trainer.step,
                    "loss": round(loss.item(), 5),
                    "steps_per_s": round((trainer.step - first_step) / (now - last), 2),
                    "minutes": round((now - begun) / 60, 2),
                    **{k: round(v, 5) for k, v in trainer.diagnostics().items()},
                }
            )
            first_step, last = trainer.step, now
        if trainer.step % check_every and not finished:
            continue
        stop = torch.tensor(time.monotonic() - begun > 60 * max_minutes, device=process.device)
        if process.world > 1:
            dist.broadcast(stop, 0)
        if stop.item():
            break
    done = trainer.step == trainer.total_steps
    trainer.save()
    if process.first:
        for path in trainer.export():
            print(path)
        if done and fresh and (found := trainer.evaluation()):
            report({"step": trainer.step, **{k: round(v, 5) for k, v in found.items()}})
    process.barrier()
    return done


class Run(Protocol[Config]):
    """What a training script does with its settings; returns whether the run is done."""

    def __call__(
        self, config: Config, out: Path, *, max_minutes: float, log_every: int, compiled: bool
    ) -> bool: ...


def command(
    prog: str,
    description: str | None,
    defaults: Config,
    smoke: Config,
    run: Run[Config],
    argv: Sequence[str] | None,
) -> int:
    """The command line of a training script; returns the exit status.

    Args:
        defaults: A dataclass, each field of which is a flag.
        smoke: The settings of ``--smoke``.
        run: What to do.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    output = add(
        "--output", "--out", type=Path, required=True, help="folder for checkpoint, log and weights"
    )
    output.option_strings = ["--output"]  # what it was called before works, and is not listed
    add("--max_minutes", type=float, default=1e9, help="stop with a checkpoint after this")
    add("--log_every", type=int, default=200, help="steps, default %(default)s")
    add("--smoke", action="store_true", help="a short run for a CPU, to see it work")
    add("--no_compile", action="store_true", help="do not compile blocks and renderer")
    values: dict[str, Any] = asdict(defaults)  # type: ignore[call-overload]
    for name, value in values.items():
        add(f"--{name}", type=type(value), help=f"default {value}")
    args = parser.parse_args(argv)
    base = smoke if args.smoke else defaults
    given = {k: v for k in values if (v := getattr(args, k)) is not None}
    try:
        config = replace(base, **given)  # type: ignore[type-var]
    except ValueError as error:
        parser.error(str(error))
    done = run(
        config,
        args.output,
        max_minutes=args.max_minutes,
        log_every=args.log_every,
        compiled=torch.cuda.is_available() and not args.no_compile,
    )
    if not done:
        print(f"stopped on time; run the same command to go on from {args.output}", file=sys.stderr)
    return 0
