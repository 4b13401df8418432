"""One run at a time in a folder, or in a share of it."""

from __future__ import annotations

from pathlib import Path

from wmreward.batch.processes.share import Share
from wmreward.records.lock import Lock


class RunLock(Lock):
    """The right to write to a run folder.

    Args:
        folder: Where locks lie, in the folder of the run.
        share: The part of the run that is to be worked on.
    """

    def __init__(self, folder: Path, share: Share) -> None:
        super().__init__(folder / f"{share}.json", folder.parent)
        self.part = share

    def rivals(self) -> list[Path]:
        paths = sorted(self.path.parent.glob("[!.]*.json"))
        return [path for path in paths if self.part.overlaps(Share.parse(path.stem))]
