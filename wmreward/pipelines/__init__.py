"""Guidance for diffusers' video pipelines: any pipeline of a known family, steered while it runs.

    guide.py         `guide_pipeline`; begin here
    borrowed.py      objects that behave otherwise for a while: how a pipeline and its scheduler are held
    coordinates.py   where a sample is between noise and data, for every scheduler
    seam.py          where given frames end, for rewards that judge by it
    step.py          one step of a pipeline, as guidance sees it
    decoding.py      latents to video and back, in bounded memory
    checkpoints.py   the exact gradient of a decoder that keeps little
    shrinking.py     a smaller picture, for less time and memory
    families/        what differs between pipelines; a new one is a class of ten lines
    slices.py        parts of a video along time
    loading.py       a pipeline by name, known before a weight is read
    command/         from flags to videos

The room that knows diffusers; even here it is imported only where a pipeline is loaded. Pipelines are held by
their public interface: the scheduler's ``step()``, and the call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmreward.pipelines.decoding import Economy
    from wmreward.pipelines.families.base import Family
    from wmreward.pipelines.guide import PipelineGuidance, guide_pipeline

_HOME = {
    "Economy": "decoding",
    "Family": "families.base",
    "PipelineGuidance": "guide",
    "guide_pipeline": "guide",
}

__all__ = ["Economy", "Family", "PipelineGuidance", "guide_pipeline"]


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: PyTorch takes seconds."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
