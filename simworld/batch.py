"""Frozen dataclasses of tensors that share a batch dimension, and the random draws that fill them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch", bound="TensorBatch")


@dataclasses.dataclass(frozen=True)
class TensorBatch:
    """Base of all records here: every field is a tensor whose first dimension is the batch."""

    def _map(self: Batch, function) -> Batch:  # type: ignore[no-untyped-def]
        values = {f.name: function(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return type(self)(**values)

    def to(self: Batch, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def __len__(self) -> int:
        return int(getattr(self, dataclasses.fields(self)[0].name).shape[0])

    def __getitem__(self: Batch, index: int | slice | Sequence[int] | Tensor) -> Batch:
        """Select batch entries; an integer gives a batch of one, so the dimensions never change."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} is outside a batch of {len(self)}")
            index = slice(index % len(self), index % len(self) + 1)
        elif not isinstance(index, slice | Tensor):
            index = torch.as_tensor(index)
        return self._map(lambda tensor: tensor[index])

    @classmethod
    def cat(cls: type[Batch], parts: Sequence[Batch]) -> Batch:
        """Join batches along the batch dimension."""
        names = [f.name for f in dataclasses.fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def make_generator(seed: int, label: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for (`seed`, `label`): different labels give unrelated streams for one seed.

    Labels carry the split, so seed 3 of "train" and seed 3 of "id" never share a scene.
    """
    digest = hashlib.blake2b(f"{label}/{seed}".encode(), digest_size=7).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big"))


class Draw:
    """Random tensors with a leading batch dimension, all from one generator."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator
        self.device = generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[count, *shape] uniform in [low, high)."""
        unit = torch.rand(self.count, *shape, generator=self.generator, device=self.device)
        return low + (high - low) * unit

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[count, *shape] whose logarithm is uniform."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """[count, *shape] standard normal."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """[count, *shape] booleans, true with `probability`."""
        return self.uniform(0.0, 1.0, *shape) < probability

    def sign(self, *shape: int) -> Tensor:
        """[count, *shape] of -1.0 or 1.0."""
        return torch.where(self.chance(0.5, *shape), 1.0, -1.0)

    def integer(self, low: int, high: int, *shape: int) -> Tensor:
        """[count, *shape] integers in [low, high] (both ends included)."""
        return torch.randint(
            low, high + 1, (self.count, *shape), generator=self.generator, device=self.device
        )

    def choice(self, weights: Sequence[float] | Tensor, *shape: int) -> Tensor:
        """[count, *shape] indices into `weights`, drawn in proportion to them."""
        edges = torch.as_tensor(weights, dtype=torch.float32, device=self.device).cumsum(0)
        draws = self.uniform(0.0, 1.0, *shape) * edges[-1]
        return torch.bucketize(draws, edges, right=True).clamp(max=len(edges) - 1)
