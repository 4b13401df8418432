"""The optional second decoder: decord, which the released scorer reads its frames with.

decord's frames equal PyAV's bit by bit for ordinary 8-bit files. They differ by rounding of
chroma for 10-bit and odd-sized videos; decord ignores transparency and mishandles rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wmreward.errors import UsageError, VideoError
from wmreward.video.container import check_file
from wmreward.video.types import UInt8Array


class DecordReader:
    """Random access to the frames of one file.

    Raises:
        UsageError: if decord is not installed.
        VideoError: if decord cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise UsageError(
                "decoder 'decord' is not installed: pip install -e '.[decord]' in the clone "
                "(64-bit x86 only), or use decoder 'pyav'"
            ) from error
        check_file(path)
        decord.logging.set_level(decord.logging.QUIET)
        self.path = path
        self._reader: Any = self._explained(decord.VideoReader, str(path))
        if len(self) == 0:
            raise VideoError(path, "decord finds no frame; try decoder 'pyav'")

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, indices: Sequence[int]) -> UInt8Array:
        """Frames as uint8 [T, H, W, 3]."""
        frames: UInt8Array = self._explained(self._reader.get_batch, list(indices)).asnumpy()
        return frames

    def frame(self, index: int) -> UInt8Array:
        """One frame, uint8 [H, W, 3]; quickest in increasing order."""
        frame: UInt8Array = self._explained(self._reader.__getitem__, index).asnumpy()
        return frame

    def times(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Display times [T] in seconds since the first frame."""
        starts = self._explained(self._reader.get_frame_timestamp, [0, *indices])[:, 0]
        return np.asarray(starts[1:] - starts[0], dtype=np.float64)

    def _explained(self, function: Any, argument: Any) -> Any:
        try:
            return function(argument)
        except (RuntimeError, ValueError, IndexError) as error:  # DECORDError is a RuntimeError
            lines = [line for line in str(error).splitlines() if line] or [type(error).__name__]
            raise VideoError(
                self.path, f"decord cannot read it ({lines[0][:120]}); try decoder 'pyav'"
            ) from error
