"""Judged videos, kept at once: `candidates.jsonl` with a line for each, embeddings in files beside it.

A process that is killed loses at most the video it was at. Records of other settings may stand in the
same file and are left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wmfiles import fitted
from wmreward.errors import WMRewardError
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record
from wmreward.rewards.mix import Judged
from wmweights import WeightsError, read_state, write_state


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Candidate:
    """One judged video.

    Attributes:
        name: The video, as the store knows it.
        record: Its line in the file.
    """

    name: str
    record: Record

    @property
    def sha256(self) -> str:
        """Of the video file that was judged."""
        return str(self.record["video_sha256"])


class CandidateStore:
    """Judged videos in a file.

    Args:
        file: Ends in .jsonl; need not exist.
        settings: All that decides a score, and a video's content where it is made by us.
        part: Number of the process, where several write: each writes a part of its own.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any], part: int | None = None) -> None:
        self.file, self.settings = file, dict(settings)
        self.settings_id = settings_hash(settings)
        self._all = RecordFile(file)
        self._own = self._all if part is None else self._all.part(part)
        self._by_name: dict[str, Candidate] = {}
        self._by_content: dict[str, Candidate] = {}

    @property
    def folder(self) -> Path:
        """Where embeddings are."""
        return self.file.with_name(fitted(self.file.stem, ".embeddings"))

    def recover(self) -> None:
        """Take in what killed runs and other processes left; one process does this while others wait."""
        if self.file.parent.is_dir():
            self._all.repair()
            self._all.merge_parts()

    def load(self) -> None:
        """Read the file; raises ``UsageError`` if it holds something else."""
        self._by_name, self._by_content = {}, {}
        for record in self._all.read():
            if record.get("settings_id") == self.settings_id and self._is_whole(record):
                self._note(Candidate(record["path"], record))

    def find(self, name: str, sha256: str | None = None) -> Candidate | None:
        """The candidate of this name; with a hash, of this content under whatever name."""
        if sha256 is None:
            return self._by_name.get(name)
        found = self._by_name.get(name)
        if found is None or found.sha256 != sha256:
            found = self._by_content.get(sha256)
        return None if found is None else Candidate(name, {**found.record, "path": name})

    def add(self, name: str, sha256: str, judged: Judged, facts: Mapping[str, Any]) -> Candidate:
        """Keep a candidate; from then on it is finished.

        Raises:
            WMRewardError: it cannot be written; what was kept before stays.
        """
        record: Record = {
            "path": name,
            "video_sha256": sha256,
            "settings_id": self.settings_id,
            "scores": judged.scores,
            "parts": judged.parts,
            **facts,
            "settings": self.settings,
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if judged.embeddings:
                record["embeddings"] = f"{sha256[:16]}-{self.settings_id}.safetensors"
                self.folder.mkdir(exist_ok=True)
                write_state(judged.embeddings, self.folder / record["embeddings"])
        except OSError as error:
            reason = error.strerror or error
            raise WMRewardError(f"{self.file}: cannot write beside it ({reason})") from error
        self._own.append(record)
        return self._note(Candidate(name, record))

    def judged(self, candidate: Candidate) -> Judged:
        """What the rewards said of it, embeddings included."""
        record, embeddings = candidate.record, dict[str, Tensor]()
        if name := record.get("embeddings"):
            embeddings = read_state(self.folder / name)
        return Judged(record["scores"], record["parts"], embeddings)

    def rewrite(self, candidates: Iterable[Candidate]) -> None:
        """Replace the records of these candidates, at once; those of others and of other settings stay."""
        new = [candidate.record for candidate in candidates]
        names = {record["path"] for record in new}
        others = [
            record
            for record in self._all.read()
            if record.get("settings_id") != self.settings_id or record["path"] not in names
        ]
        self._all.rewrite([*others, *new])

    def _is_whole(self, record: Record) -> bool:
        name = record.get("embeddings")
        try:
            return not name or bool(read_state(self.folder / name))
        except WeightsError:
            return False

    def _note(self, candidate: Candidate) -> Candidate:
        self._by_name[candidate.name] = candidate
        self._by_content[candidate.sha256] = candidate
        return candidate


def ranking(totals: Sequence[float]) -> list[int]:
    """Places in the order of their totals, the best first; of equal ones the first given."""
    return sorted(range(len(totals)), key=lambda place: (-totals[place], place))
