"""At which denoising steps guidance acts, and how strongly: the flags of the original, and a time range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from wmreward.errors import UsageError, named

_RUN = re.compile(r"(?P<value>[+-]?[0-9.eE+-]+)(?:x(?P<count>[0-9]{1,9}))?")


@dataclass(frozen=True)
class GuidanceSchedule:
    """Strength at each denoising step of a chunk.

    Attributes:
        scales: One for each of the sampler's steps, from noise to data; 0 means no guidance.
        times: Guidance acts at times t of this range only, both ends included (0 noise, 1 data).
    """

    scales: tuple[float, ...]
    times: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.times
        if not 0 <= low <= high <= 1:
            times = named("times", flag="guidance_range")
            raise UsageError(f"{times} {low:g} {high:g} must rise within 0 … 1 (noise … data)")
        if not all(0 <= scale < inf for scale in self.scales):
            raise UsageError(
                f"{named('scales', flag='guidance_scales')} must be numbers from 0 on; a negative one would "
                "raise the surprise"
            )

    @classmethod
    def make(
        cls,
        steps: int,
        *,
        scale: float = 0.0,
        frequency: int = 1,
        which: str | None = None,
        scales: str | None = None,
        times: tuple[float, float] = (0.0, 1.0),
    ) -> GuidanceSchedule:
        """From flags as the original's users know them.

        Args:
            steps: Denoising steps of the sampler.
            scale: Strength of every guided step.
            frequency: Every how many steps to guide, from the first on.
            which: Runs of 0 and 1, as ``0x5,1x45``: which steps are guided.
            scales: Runs of strengths, as ``0.001x50``, instead of ``scale``.
            times: Range of times.

        Raises:
            UsageError: something that is no such list, or one of another length than ``steps``.
        """
        if frequency < 1:
            told = named("frequency", frequency, flag="guidance_frequency")
            raise UsageError(f"{told} must be at least 1")
        of_scales = named("scales", scales, flag="guidance_scales")
        of_which = named("which", which, flag="guidance_steps")
        strengths = [scale] * steps if scales is None else _runs(of_scales, scales, steps)
        guided = [1.0] * steps if which is None else _runs(of_which, which, steps)
        if any(on not in (0, 1) for on in guided):
            raise UsageError(f"{of_which} must hold 0 and 1 only")
        chosen = (
            strength if on and step % frequency == 0 else 0.0
            for step, (strength, on) in enumerate(zip(strengths, guided, strict=True))
        )
        return cls(tuple(chosen), times)

    @property
    def acts(self) -> bool:
        """Whether any step is guided."""
        return any(self.scales)

    def of(self, steps: Sequence[int], times: Sequence[float]) -> list[float]:
        """Strength for chunks at these steps and times."""
        low, high = self.times
        return [
            self.scales[step] if low <= time <= high else 0.0
            for step, time in zip(steps, times, strict=True)
        ]


def _runs(told: str, text: str, steps: int) -> list[float]:
    """``0x5,1x45`` → five zeros and 45 ones; errors begin with ``told``."""
    values: list[float] = []
    count = 0
    for part in text.split(","):
        match = _RUN.fullmatch(part.strip())
        try:
            value = float(match["value"]) if match else None
        except ValueError:
            value = None
        if match is None or value is None:
            raise UsageError(f"{told}: {part!r} is not a number or NUMBERxCOUNT")
        count += int(match["count"] or 1)
        if count <= steps:
            values += [value] * (count - len(values))
    if count != steps:
        raise UsageError(f"{told} is for {count} steps, but the sampler takes {steps}")
    return values
