"""Arrays from .npz files that others wrote, within a size: a small archive may claim to hold gigabytes."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmfiles.opening import Refusal, open_regular

MOST_FILE = 2**30
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, SyntaxError, RuntimeError),
    *(NotImplementedError, OverflowError, TypeError),
)


def read_arrays(
    path: str | os.PathLike[str], names: Iterable[str], *, most: int, refuse: Refusal
) -> dict[str, NDArray[Any]]:
    """Arrays of plain numbers out of a .npz file; nothing else in it is looked at.

    Args:
        path: The file.
        names: Of the arrays.
        most: Bytes of one array.
        refuse: Makes the error from the path and what is wrong.
    """
    path = Path(path)
    with open_regular(path, refuse=refuse) as file:
        if os.fstat(file.fileno()).st_size > MOST_FILE:
            raise refuse(path, f"has more than the {MOST_FILE} bytes that are read")
        try:
            with zipfile.ZipFile(file) as archive:
                found = {name: _content(archive, name, most) for name in names}
        except KeyError as error:
            raise refuse(path, f"has no {error.args[0]!r}") from None
        except _TooLarge as error:
            raise refuse(path, str(error)) from None
        except _DAMAGED:
            raise refuse(path, "is damaged, or not a .npz file of arrays of numbers") from None
    return found


class _TooLarge(Exception):
    pass


def _content(archive: zipfile.ZipFile, name: str, most: int) -> NDArray[Any]:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise KeyError(name) from None
    if member.file_size > most:
        raise _TooLarge(
            f"{name!r} has {member.file_size} bytes, more than the {most} that are read"
        )
    data = io.BytesIO(archive.read(member))
    version = np.lib.format.read_magic(data)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError("an unknown version")
    shape, _, dtype = read_header(data)
    claimed = int(np.prod([1, *map(int, shape)], dtype=object)) * dtype.itemsize
    if claimed > most:  # memory for it would be asked for before the data are looked at
        raise _TooLarge(f"{name!r} claims {claimed} bytes, more than the {most} that are read")
    data.seek(0)
    return np.asarray(np.load(data, allow_pickle=False))
