"""What is said while a run goes on: a bar, and lines above it, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from tqdm import tqdm

from magi1.sampling.schedule import ChunkCall


class Progress:
    """A bar: chunk, step and time left."""

    def __init__(self, *, shown: bool) -> None:
        self.shown, self.chunks = shown, 0
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start(self, calls: Sequence[ChunkCall], done: int) -> None:
        """A run of ``calls``, of which an interrupted run had done some."""
        self.__exit__()
        self.chunks = max(call.last for call in calls)
        self.bar = tqdm(
            total=len(calls), initial=done, unit="step", file=sys.stderr, disable=not self.shown
        )

    def __call__(self, call: ChunkCall, latents: Tensor) -> None:
        assert self.bar is not None
        self.bar.set_description(f"chunk {call.first + 1}/{self.chunks}", refresh=False)
        self.bar.update()


def say(text: str) -> None:
    """A line, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
