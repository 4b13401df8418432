"""Hashes that say which weights were used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor

from wmfiles import open_regular
from wmweights.errors import refused

END = 2**20
"""Bytes hashed at each end of a large file."""


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 over sorted names, shapes and values as float32, so that it does not depend on the
    file format.
    """

    def digest(name: str) -> bytes:
        value = state[name].float().contiguous()
        found = hashlib.sha256(f"{name}{list(value.shape)}".encode())
        found.update(
            value.numpy().reshape(-1).view(np.uint8).data
        )  # in place: a copy takes as long
        return found.digest()

    with ThreadPoolExecutor() as pool:  # hashlib releases the interpreter lock
        return hashlib.sha256(b"".join(pool.map(digest, sorted(state)))).hexdigest()


def fingerprint_files(files: Iterable[Path]) -> str:
    """SHA-256 over name, size, first and last MiB of each file, in order of their names.

    Tens of gigabytes are told apart in a moment, wherever they lie: the header with all names,
    shapes and offsets is in the first MiB, trained values in the last. A file changed in its middle
    only is not noticed.

    Raises:
        WeightsError: one is no file, or a pointer of Git LFS.
    """
    total = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        with open_regular(file, refuse=refused) as handle:
            size = os.fstat(handle.fileno()).st_size
            total.update(f"{file.name} {size}\n".encode(errors="surrogateescape"))
            total.update(handle.read(END))
            handle.seek(max(END, size - END))
            total.update(handle.read(END))
    return total.hexdigest()
