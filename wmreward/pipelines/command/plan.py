"""What a pipeline takes before a weight is read: `wmreward generate --pipeline … --plan`.

Its parts are made from their configurations on tensors without content, and the video is decoded and
differentiated on them by the code that does it in earnest.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from wmfiles.amounts import BYTES, NUMBERS, amount
from wmreward.commands.flags import Values
from wmreward.errors import WMRewardError
from wmreward.generation.search.compared import other_judge
from wmreward.generation.search.plan import Candidates
from wmreward.generation.steering import steering_of
from wmreward.pipelines.command.counting import Counted
from wmreward.pipelines.command.request import PipelineChoice
from wmreward.pipelines.decoding import Decoder, Economy

_NOT_COUNTED = """\
not counted               what the transformer computes with, usually less than decoding; the world model, its
                          weights and its gradient; what torch and its kernels keep for themselves"""


@dataclass(frozen=True, kw_only=True)
class PipelinePlan:
    """What one video takes, in bytes.

    Attributes:
        pipeline: Class.
        dtype: Of all parts.
        frames, height, width: Of the video.
        videos: How many are made, one after the other.
        offload: Whether only one part is on the device at a time.
        parameters: Numbers of each part.
        weights: Bytes of each part.
        decoding: The most that decoding the video takes.
        gradient: The same of the decoder's gradient, or None where nothing is guided; on the device only.
        waiting: What the decoder keeps of it while the reward works.
        on_host: Whether that is in host memory.
    """

    pipeline: str
    dtype: str
    frames: int
    height: int
    width: int
    offload: bool
    parameters: Mapping[str, int]
    weights: Mapping[str, int]
    decoding: int
    gradient: int | None
    waiting: int | None
    on_host: bool = False
    videos: int = 1

    @property
    def resident(self) -> int:
        """Weights on the device while the video is decoded."""
        return self.weights["vae"] if self.offload else sum(self.weights.values())

    @property
    def plain(self) -> int:
        """The most that a plain call takes, of what is counted."""
        return max(self.resident + self.decoding, *self.weights.values())

    @property
    def guided(self) -> int | None:
        """The same of a guided one."""
        return None if self.gradient is None else max(self.plain, self.resident + self.gradient)

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"plain": self.plain, "guided": self.guided}, indent=4)

    def table(self) -> str:
        """For people."""
        head = (
            f"{self.pipeline}: {self.frames} frames of {self.width}×{self.height}, {self.dtype}"
            + (", offloading" if self.offload else "")
        )
        return "\n".join(
            [head, *(f"{name:<24}  {text}" for name, text in self._rows()), _NOT_COUNTED]
        )

    def _rows(self) -> Iterator[tuple[str, str]]:
        if self.videos > 1:
            yield "videos", f"{self.videos:8d}, one after the other"
        for name, size in self.weights.items():
            yield name, f"{_wide(size)}, {amount(self.parameters[name], NUMBERS)} parameters"
        yield "decoding", _wide(self.decoding)
        if self.gradient is not None and self.waiting is not None:
            yield (
                "the decoder's gradient",
                f"{_wide(self.gradient)}; {amount(self.waiting, BYTES)} wait while the reward works"
                + (", in host memory" if self.on_host else ""),
            )
        kept = "weights of the decoder" if self.offload else "all weights"
        yield "plain", f"{_wide(self.plain)}: {kept} and decoding"
        if self.guided is not None:
            yield "guided", f"{_wide(self.guided)}: {kept} and the decoder's gradient"


def _wide(size: int) -> str:
    """Bytes of a row of the table."""
    return amount(size, BYTES, "8.2f")


def plan_table(values: Values) -> str:
    """Of what the flags ask for, as a table or as JSON.

    Raises:
        UsageError: flags that contradict each other or mean nothing to a pipeline.
        WMRewardError: a pipeline that is not there, or that cannot be counted.
    """
    choice = PipelineChoice.of(values)
    candidates = Candidates.of(values, 0)
    steering = steering_of(values, choice.steps, default_model="vitg", judges=candidates.searches)
    for rewards in filter(None, (steering.rewards, other_judge(values, steering.rewards))):
        choice.check_frames(rewards)
    videos = candidates.videos(steering)
    counted = replace(plan(choice, guided=steering.guidance is not None), videos=videos)
    return counted.to_json() if values["json"] else counted.table()


def plan(choice: PipelineChoice, *, guided: bool) -> PipelinePlan:
    """Count what one video takes; reads configurations only.

    Raises:
        WMRewardError: sizes that nobody says, or a part that cannot be made.
    """
    frames, height, width = (_size(choice, name) for name in ("num_frames", "height", "width"))
    found = choice.found
    scheduler = _made(choice, "scheduler", found.classes()["scheduler"])
    with _without_content(choice.dtype):
        parts = dict(_parts(choice))
        pipe = _assembled(choice, parts | {"scheduler": scheduler})
        call = {name: given.default for name, given in found.parameters.items()} | dict(
            choice.common
        )
        family = found.family(pipe, call)
        picture = torch.empty(1, 3, 1, height, width, dtype=choice.dtype)
        with torch.no_grad():
            _, channels, _, rows, columns = pipe.vae.encode(picture).latent_dist.mean.shape
        latents = torch.empty(
            1, channels, (frames - 1) // family.temporal_factor + 1, rows, columns
        )
        decoder = Decoder(family, Economy(**choice.economy))
        with Counted() as decoding:
            decoder.frames(latents, None)
        gradient = waiting = None
        if guided:
            part = decoder.largest(latents.shape[2])
            with Counted() as counted:
                graph = decoder.graph(decoder.shrunk(latents), part)
                kept = counted.bytes
                decoder.through(graph, torch.empty_like(graph[1]))
            gradient = counted.peak - (kept if decoder.economy.on_host else 0)
            waiting = 0 if decoder.economy.apart else kept
        shown = family.frames(latents.shape[2])
    return PipelinePlan(
        pipeline=found.kind.__name__,
        dtype=str(choice.dtype).removeprefix("torch."),
        frames=shown,
        height=height,
        width=width,
        offload=choice.offload,
        parameters={
            name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()
        },
        weights={name: sum(p.nbytes for p in part.parameters()) for name, part in parts.items()},
        decoding=decoding.peak,
        gradient=gradient,
        waiting=waiting,
        on_host=decoder.economy.on_host,
    )


def _size(choice: PipelineChoice, name: str) -> int:
    size = choice.argument(name)
    if not isinstance(size, int):
        flag = {"height": "--video_size_h", "width": "--video_size_w"}.get(name, f"--{name}")
        raise WMRewardError(f"{choice.found.kind.__name__} has no {name} of its own: give {flag}")
    return size


@contextmanager
def _without_content(dtype: torch.dtype) -> Iterator[None]:
    """New tensors have no content, and this precision."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.set_default_dtype(before)


def _parts(choice: PipelineChoice) -> Iterator[tuple[str, nn.Module]]:
    """The networks of a pipeline, from their configurations."""
    for name, kind in choice.found.classes().items():
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            yield name, _made(choice, name, kind).requires_grad_(False).eval()


def _made(choice: PipelineChoice, name: str, kind: Any) -> Any:
    """One part of a pipeline, as its configuration says."""
    folder = choice.found.folder
    try:
        if hasattr(kind, "load_config"):
            return kind.from_config(kind.load_config(str(folder), subfolder=name))
        return kind(kind.config_class.from_pretrained(str(folder / name)))
    except Exception as error:  # of a library, about whatever the file says
        raise WMRewardError(f"{choice.found.name}: {name} cannot be made: {error}") from error


def _assembled(choice: PipelineChoice, parts: Mapping[str, Any]) -> Any:
    """The pipeline itself, for what families ask of it."""
    taken, index = inspect.signature(choice.found.kind.__init__).parameters, choice.found.index
    options = {name: value for name, value in index.items() if name in taken}
    given = {name: None if isinstance(value, list) else value for name, value in options.items()}
    given |= {name: part for name, part in parts.items() if name in taken}
    if "safety_checker" in taken:  # else the pipeline loads its own
        given["safety_checker"] = nn.Identity()
    return choice.found.kind(**given)
