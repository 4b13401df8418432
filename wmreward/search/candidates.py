"""Judged videos, kept at once: `candidates.jsonl` with a line for each, embeddings in files beside it.

A process that is killed loses at most the video it was at. Records of other settings may stand in the
same file and are left alone, but what one of the rewards has said there counts here, too, if it would say the
same: only what is missing is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmfiles import fitted
from wmreward.errors import WMRewardError
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Record
from wmreward.rewards.compare import Judged, Recorded
from wmreward.search.ways import Ways, settings_hash
from wmweights import WeightsError, read_state, write_state


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


_AT_FILE = {"curves_at": "frames of the file"}
"""Marks records whose curves are so; earlier ones had them at the frames that were sampled."""
_JUDGED = frozenset({"ways", "scores", "parts", "curves", *_AT_FILE, "embeddings", "settings"})
"""Of a record: what belongs to its mix of rewards; the rest is about the video."""


class CandidateStore:
    """Judged videos in a file.

    Args:
        file: Ends in .jsonl; need not exist.
        settings: All that decides a score, and a video's content where it is made by us.
        ways: How each of the wanted rewards judges a candidate.
        part: Number of the process, where several write: each writes a part of its own.
    """

    def __init__(
        self, file: Path, settings: Mapping[str, Any], ways: Ways, part: int | None = None
    ) -> None:
        self.file, self.settings, self.ways = file, dict(settings), ways
        self.settings_id = settings_hash(settings)
        self._all = RecordFile(file)
        self._own = self._all if part is None else self._all.part(part)
        self._content: dict[str, str] = {}
        self._records: dict[str, list[Record]] = {}
        self._readable: dict[str, bool] = {}

    @property
    def folder(self) -> Path:
        """Where embeddings are."""
        return embeddings_folder(self.file)

    def recover(self) -> None:
        """Take in what killed runs and other processes left; one process does this while others wait."""
        if self.file.parent.is_dir():
            self._all.repair()
            self._all.merge_parts()

    def load(self) -> None:
        """Read the file; raises ``UsageError`` if it holds something else."""
        self._content, self._records, self._readable = {}, {}, {}
        for record in self._all.read():
            self._note(record)

    @property
    def names(self) -> list[str]:
        """Of all candidates in the file, whatever judged them."""
        return list(self._content)

    def find(self, name: str, sha256: str | None = None) -> Candidate | None:
        """The candidate of this name, if every reward has judged it.

        Args:
            name: Of the video.
            sha256: Of its content, which may have been judged under another name; without it, what was last
                judged under this name.
        """
        content = sha256 or self._content.get(name)
        if content is None or self.missing(name, content):
            return None
        return Candidate(name, self._whole(name, content))

    def missing(self, name: str, sha256: str) -> list[str]:
        """The rewards that have not judged this content in their way."""
        known = self._known(name, sha256)
        return [reward for reward in self.ways(name) if reward not in known]

    def add(self, name: str, sha256: str, judged: Judged, facts: Mapping[str, Any]) -> Candidate:
        """Keep a candidate, or what was missing of it; from then on it is finished.

        Raises:
            WMRewardError: it cannot be written; what was kept before stays.
        """
        ways = self.ways(name)
        record: Record = {
            "path": name,
            "video_sha256": sha256,
            "settings_id": self.settings_id,
            "ways": {reward: ways[reward] for reward in (*judged.scores, *judged.embeddings)},
            "scores": judged.scores,
            "parts": judged.parts,
            "curves": judged.curves,
            **_AT_FILE,
            **facts,
            "settings": self.settings,
        }
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if judged.embeddings:
                self.folder.mkdir(exist_ok=True)
                files = {r: f"{sha256[:16]}-{ways[r]}.safetensors" for r in judged.embeddings}
                for reward, file in files.items():
                    write_state({reward: judged.embeddings[reward]}, self.folder / file)
                record["embeddings"] = files
                self._readable |= dict.fromkeys(files.values(), True)
        except OSError as error:
            reason = error.strerror or error
            raise WMRewardError(f"{self.file}: cannot write beside it ({reason})") from error
        self._note(record)
        whole = self._whole(name, sha256)
        self._records[sha256][-1] = whole
        self._own.append(whole)
        return Candidate(name, whole)

    def judged(self, candidate: Candidate) -> Judged:
        """What the rewards said of it, embeddings included."""
        record = candidate.record
        embeddings = {
            reward: read_state(self.folder / file)[reward]
            for reward, file in embedding_files(record).items()
        }
        return Judged(record["scores"], record["parts"], embeddings, curves_of(record))

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

    def _note(self, record: Record) -> None:
        self._content[record["path"]] = record["video_sha256"]
        self._records.setdefault(record["video_sha256"], []).append(record)

    def _known(self, name: str, sha256: str) -> dict[str, Record]:
        """For each reward that has judged this content in its way, the latest record that says so."""
        known, wanted = {}, self.ways(name)
        for record in self._records.get(sha256, ()):
            old = "ways" not in record  # written before there were ways
            for reward, way in wanted.items():
                same = (
                    record["settings_id"] == self.settings_id
                    if old
                    else record["ways"].get(reward) == way
                )
                if same and (reward in record["scores"] or self._has_embedding(record, reward)):
                    known[reward] = record
        return known

    def _whole(self, name: str, sha256: str) -> Record:
        """One record of what all rewards have said."""
        known, own = self._known(name, sha256), self._records[sha256]
        latest = next((r for r in reversed(own) if r["path"] == name), own[-1])
        scores, parts, embeddings = dict[str, float](), dict[str, float](), dict[str, str]()
        curves = dict[str, Recorded]()
        for reward in self.ways(name):
            said = known[reward]
            if reward in said["scores"]:
                scores[reward] = said["scores"][reward]
                own_part = f"{reward}."
                parts |= {k: v for k, v in said["parts"].items() if k.startswith(own_part)}
                curves |= {k: v for k, v in curves_of(said).items() if k == reward}
            else:
                embeddings[reward] = embedding_files(said)[reward]
        judged = {"ways": dict(self.ways(name)), "scores": scores, "parts": parts, "curves": curves}
        judged |= _AT_FILE
        if embeddings:
            judged["embeddings"] = embeddings
        ours = {"path": name, "settings_id": self.settings_id}
        facts = {key: value for key, value in latest.items() if key not in _JUDGED}
        return {**facts, **ours, **judged, "settings": self.settings}

    def _has_embedding(self, record: Record, reward: str) -> bool:
        file = embedding_files(record).get(reward)
        if file is None:
            return False
        if file not in self._readable:
            try:
                self._readable[file] = bool(read_state(self.folder / file))
            except WeightsError:
                self._readable[file] = False
        return self._readable[file]


def curves_of(record: Record) -> dict[str, Recorded]:
    """Curves of a record by reward, at frames of the video's file.

    Earlier versions had none, or had them at sampled frames. Which frames of the file these were cannot be
    told any more, so they count as none.
    """
    sampled = record.get("effective_fps") != record.get("source_fps")
    if sampled and not _AT_FILE.items() <= record.items():
        return {}
    return dict(record.get("curves") or {})


def embeddings_folder(file: Path) -> Path:
    """Where the embeddings of a file of records are."""
    return file.with_name(fitted(file.stem, ".embeddings"))


def embedding_files(record: Record) -> dict[str, str]:
    """Files of embeddings by reward; records before there were ways have one file for all."""
    files = record.get("embeddings") or {}
    if isinstance(files, str):
        rewards = record["settings"].get("judged_by", record["settings"])["rewards"]
        return {reward: files for reward in rewards if reward not in record["scores"]}
    return dict(files)


def ranking(totals: Sequence[float]) -> list[int]:
    """Places in the order of their totals, the best first; of equal ones the first given."""
    return sorted(range(len(totals)), key=lambda place: (-totals[place], place))
