"""safetensors files: what is in them, their tensors one by one, and writing them whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmfiles import check_regular, temporary_beside, write_whole
from wmweights.errors import WeightsError, first_line, refused

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Precisions by their names in the format."""


class TensorSpec(NamedTuple):
    """What a file says of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def read_specs(file: Path) -> dict[str, TensorSpec]:
    """Shapes and precisions of all tensors; reads only the header.

    Raises:
        WeightsError: the file cannot be opened or is damaged; like everything here.
    """
    with _opened(file) as handle:
        specs = {}
        for name in handle.keys():  # noqa: SIM118
            part = handle.get_slice(name)
            dtype = DTYPES.get(part.get_dtype())
            if dtype is None:
                raise WeightsError(f"{file}: {name} has the unknown precision {part.get_dtype()}")
            specs[name] = TensorSpec(tuple(part.get_shape()), dtype)
        return specs


_READERS = 8

ALIGNMENT = 64
"""Bytes: where torch itself begins tensors."""


def read_tensors(
    file: Path,
    device: torch.device | str = "cpu",
    wanted: Callable[[str], bool] = lambda _: True,
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors one after the other, so that only a few need be held twice.

    Several are on their way at a time: one thread alone does not keep memory busy.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:  # each thread has a current one of its own
        device = torch.device("cuda", torch.cuda.current_device())
    with _opened(file, device) as handle, ThreadPoolExecutor(_READERS) as pool:
        coming: deque[tuple[str, Future[Tensor]]] = deque()
        for name in filter(wanted, handle.keys()):
            coming.append((name, pool.submit(handle.get_tensor, name)))
            if len(coming) > _READERS:
                first, tensor = coming.popleft()
                yield first, _aligned(tensor.result())
        for name, tensor in coming:
            yield name, _aligned(tensor.result())


def _aligned(value: Tensor) -> Tensor:
    """The tensor at an address like that of any other.

    A file's tensors begin anywhere, and the last bit of a matrix product on a CPU depends on where its
    operands begin: the same weights would not give the same result in every process.
    """
    if value.device.type != "cpu" or value.data_ptr() % ALIGNMENT == 0:
        return value
    return value.clone()


def read_state(file: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """All tensors."""
    return dict(read_tensors(file, device))


def write_state(
    state: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write beside ``path`` and rename, so that nobody ever sees half a file.

    Raises:
        OSError: the disk is full or the folder read-only, as its ``errno`` says; nothing is left behind.
    """
    with write_whole(path) as temporary:
        if temporary == path:  # a device or a pipe, which the library would replace by a file
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        temporary.touch()
        _save(state, temporary, {"format": "pt", **(metadata or {})})


def _save(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write to a file that is there, and is ours.

    The library writes beside it, under a name that nobody would know for a leftover, and renames: so it is
    given a folder, which a later process removes if this one is killed.
    """
    room = temporary_beside(path)
    room.mkdir()
    try:
        save_file(state, room / path.name, metadata=metadata)
        (room / path.name).chmod(stat.S_IMODE(path.stat().st_mode))  # else nobody else may read it
        (room / path.name).replace(path)
    except SafetensorError as error:
        # The library tells the system's error in words only.
        code = _OS_ERROR.search(str(error))
        if code is None:
            raise
        number = int(code[1])
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def read_metadata(file: Path) -> dict[str, str]:
    """What the writer noted besides the tensors."""
    with _opened(file) as handle:
        return dict(handle.metadata() or {})


@contextmanager
def _opened(file: Path, device: torch.device | str = "cpu") -> Iterator[safe_open]:
    check_regular(file, refuse=refused)
    try:
        with safe_open(file, "pt", device=str(device)) as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} cannot be read: {first_line(error)}; download it again"
        ) from None
