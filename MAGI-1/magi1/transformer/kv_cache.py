"""Keys and values of finished chunks, kept only as long as something can still attend to them."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Per layer and chunk: key (normalised and rotated) and value, ``[B, n, groups, d]`` each.

    Args:
        offload: Keep everything in pinned host memory and copy to the GPU what a layer reads.
    """

    def __init__(self, *, offload: bool = False) -> None:
        self.offload = offload
        self._chunks: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @property
    def chunks(self) -> list[int]:
        """The chunks kept, in order."""
        return sorted({chunk for _, chunk in self._chunks})

    def nbytes(self) -> int:
        """Bytes of everything kept."""
        return sum(part.nbytes for pair in self._chunks.values() for part in pair)

    def write(self, layer: int, chunk: int, key: Tensor, value: Tensor) -> None:
        """Keep one chunk of one layer; detached, as what is finished does not change any more."""
        pair = tuple(self._stored(part.detach()) for part in (key, value))
        self._chunks[layer, chunk] = (pair[0], pair[1])

    def read(
        self, layer: int, first: int, last: int, device: torch.device
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of chunks first … last − 1.

        Raises:
            KeyError: a chunk was never written or is gone; the caller asks for a range it gave up.
        """
        return [
            (key.to(device, non_blocking=True), value.to(device, non_blocking=True))
            for key, value in (self._chunks[layer, chunk] for chunk in range(first, last))
        ]

    def forget_before(self, chunk: int) -> None:
        """Drop every chunk before ``chunk``."""
        self._chunks = {key: pair for key, pair in self._chunks.items() if key[1] >= chunk}

    def select(self, rows: Tensor) -> None:
        """Replace the batch by copies of its ``rows [B]``."""
        self._chunks = {
            place: (key[rows.to(key.device)], value[rows.to(value.device)])
            for place, (key, value) in self._chunks.items()
        }

    def _stored(self, part: Tensor) -> Tensor:
        if not (self.offload and part.is_cuda):
            return part.clone()  # a view would keep the keys of the whole call alive
        host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
        return host.copy_(part, non_blocking=True)
