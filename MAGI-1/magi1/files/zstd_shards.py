"""safetensors files compressed with zstd, read as a stream: without a copy on disk, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from magi1.errors import MagiError
from wmfiles import open_regular, parse_json
from wmweights import TensorSpec, WeightsError, first_line, refused
from wmweights.safetensors_file import DTYPES

MAX_HEADER = 100 * 2**20
"""As in the format's own reader: a longer header is damage."""


def read_specs(file: Path) -> dict[str, TensorSpec]:
    """Shapes and precisions of all tensors; decompresses only the header.

    Raises:
        WeightsError: the file cannot be opened or is damaged.
        MagiError: zstandard is not installed.
    """
    with _opened(file) as stream:
        return {name: spec for name, spec, _ in _header(stream)}


def read_tensors(file: Path, device: torch.device | str = "cpu") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors in the order of the file; errors as above."""
    with _opened(file) as stream:
        position = 0
        for name, spec, (start, end) in _header(stream):
            size = math.prod(spec.shape) * spec.dtype.itemsize
            if start != position or end - start != size:
                raise ValueError(f"{name} is not where it should be")
            position = end
            yield name, _tensor(_exactly(stream, size), spec).to(device)


def _header(stream: BinaryIO) -> list[tuple[str, TensorSpec, tuple[int, int]]]:
    """Name, description and place of each tensor, in order of their places."""
    length = int.from_bytes(_exactly(stream, 8), "little")
    if length > MAX_HEADER:
        raise ValueError("the header is damaged")
    header = parse_json(bytes(_exactly(stream, length)).decode())
    header.pop("__metadata__", None)
    return sorted(
        (
            (name, TensorSpec(tuple(entry["shape"]), DTYPES[entry["dtype"]]), entry["data_offsets"])
            for name, entry in header.items()
        ),
        key=lambda item: (item[2], item[0]),
    )


def _tensor(data: bytearray, spec: TensorSpec) -> Tensor:
    if not data:
        return torch.empty(spec.shape, dtype=spec.dtype)
    return torch.frombuffer(data, dtype=torch.uint8).view(spec.dtype).view(spec.shape)


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError("the file ends too early")
        filled += count
    return data


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        import zstandard
    except ImportError:
        raise MagiError(
            f'{file} is compressed: pip install -e ".[generate]" in the clone, or decompress it with zstd -d'
        ) from None
    try:
        with (
            open_regular(file, refuse=refused) as raw,
            zstandard.ZstdDecompressor().stream_reader(raw) as stream,
        ):
            yield stream
    except (
        *(zstandard.ZstdError, OSError, ValueError, RecursionError),
        *(KeyError, TypeError, AttributeError),
    ) as error:
        raise WeightsError(
            f"{file} cannot be read: {first_line(error)}; download it again"
        ) from None
