"""Files of records, one per video, that survive being killed at any moment.

Records are only ever appended, each in one write. A process that dies while it writes leaves a torn
last line, which the next run cuts off. In a distributed run every rank appends to a part of its own
(`scores.jsonl.rank3`); parts are merged at the end, or by the next run if that never came.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wmreward.errors import UsageError, WMRewardError
from wmreward.files import write_bytes
from wmreward.records.scored import Record, to_json, without_repeats

_TEXT_COLUMNS = (
    *("path", "score", "video_sha256", "settings_id", "model", "weights_sha256", "actions_sha256"),
    *("frame_strides", "mode", "similarity", "decoder", "dtype", "device"),
    *("context_encoder", "target_encoder", "positions", "levels", "observed", "teacher_sha256"),
    *("wmreward", "torch", "av", "python"),
)
COLUMNS = (
    *("path", "surprise", "reward", "score", "num_windows", "num_frames", "unused_tail_frames"),
    *("effective_fps", "source_fps", "video_sha256", "settings_id", "seconds"),
    *("model", "weights_sha256", "window_size", "context_frames", "stride", "frame_strides"),
    *("mode", "similarity"),
    *("max_frames", "fps", "decoder", "context_encoder", "target_encoder", "mask_token"),
    *("crop", "positions", "levels", "observed", "teacher_sha256"),
    *("actions_sha256", "dtype", "device", "wmreward", "torch", "av", "python"),
)


class _NotOurs(ValueError):
    """A file holds something else than records; the message says where."""


@dataclass(frozen=True)
class _Format:
    """How records become bytes.

    Attributes:
        header: What a file starts with.
        encode: One record to one line.
        decode: A file to its records and the number of bytes they fill; the rest is a torn line.
    """

    header: bytes
    encode: Callable[[Record], bytes]
    decode: Callable[[bytes], tuple[list[Record], int]]


class RecordFile:
    """A file of records: JSON lines (.jsonl) or a table of the plain columns (.csv).

    Args:
        path: The file; it need not exist yet.
        rank: Speak of the part that this rank of a distributed run writes.
    """

    def __init__(self, path: Path, rank: int | None = None) -> None:
        if path.suffix.lower() not in _FORMATS:
            raise UsageError(f"--output {path} must end in {' or '.join(_FORMATS)}")
        self._format = _FORMATS[path.suffix.lower()]
        self._main = path
        self.path = path if rank is None else path.with_name(f"{path.name}.rank{rank}")

    def part(self, rank: int) -> RecordFile:
        return RecordFile(self._main, rank)

    def parts(self) -> list[RecordFile]:
        """The parts that lie beside the file."""
        pattern = re.compile(re.escape(self._main.name) + r"\.rank(\d+)")
        names = (pattern.fullmatch(path.name) for path in self._main.parent.iterdir())
        return [self.part(rank) for rank in sorted(int(name[1]) for name in names if name)]

    def read(self) -> list[Record]:
        """All whole records; raises ``UsageError`` if the file holds anything else."""
        return self._read()[0]

    def repair(self) -> list[Record]:
        """The same, and cut off a torn last line, so that records can be appended."""
        records, end, size = self._read()
        if size:
            with self._explained(), self.path.open("r+b") as file:
                file.truncate(end)
                if end and self._ends_open(file, end):
                    file.write(b"\n")
        return records

    @staticmethod
    def _ends_open(file: BinaryIO, end: int) -> bool:
        """Whether the last record lacks its line end, as some editors leave it; stands at the end then."""
        file.seek(end - 1)
        return file.read(1) != b"\n"

    def append(self, record: Record) -> None:
        """Add one record: all of it or, on a full disk, nothing."""
        line = self._format.encode(record)
        with self._explained(), self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                _write_all(file, line if before else self._format.header + line)
            except BaseException:
                with suppress(OSError):
                    file.truncate(before)
                raise

    def merge_parts(self, order: Callable[[list[Record]], list[Record]] | None = None) -> None:
        """Bring the records of all parts into the file, in a new ``order``, and remove the parts.

        Killed on the way, it leaves everything for the next attempt.
        """
        parts = self.parts()
        if not parts:
            return
        found = [record for file in (self, *parts) for record in file.read()]
        found = without_repeats(found)
        self.rewrite(order(found) if order else found)
        for part in parts:
            with self._explained():
                part.path.unlink(missing_ok=True)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the whole file at once."""
        lines = [self._format.encode(record) for record in records]
        write_bytes(self.path, b"".join([self._format.header, *lines]))

    def check_writable(self) -> None:
        """Raise ``WMRewardError`` if an existing file must not be written."""
        if self.path.exists():
            with self._explained(), self.path.open("ab"):
                pass

    def _read(self) -> tuple[list[Record], int, int]:
        """Records, the bytes they fill, the bytes there are."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0, 0
        except OSError as error:
            raise WMRewardError(f"{self.path}: cannot be read ({error.strerror})") from error
        try:
            records, end = self._format.decode(data)
        except _NotOurs as error:
            raise UsageError(
                f"{self.path}: {error}; give the name of another file, or move this one away"
            ) from None
        return records, end, len(data)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an ``OSError`` in the block into one line about the file."""
        try:
            yield
        except OSError as error:
            raise WMRewardError(
                f"{self.path}: cannot be written ({error.strerror or error}); what was recorded before is "
                "kept: make room or choose another place, and run the same command again"
            ) from error


def _write_all(file: io.RawIOBase, data: bytes) -> None:
    done = 0
    while done < len(data):  # a disk that fills up takes a part first
        done += file.write(data[done:]) or 0


# --- JSON lines ---------------------------------------------------------------------------------


def _encode_json(record: Record) -> bytes:
    return to_json(record).encode() + b"\n"


def _decode_json(data: bytes) -> tuple[list[Record], int]:
    records, end = [], 0
    for number, line in enumerate(io.BytesIO(data), 1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError:
            # Anything that does not begin like ours is somebody's and must not be cut off.
            ours = line.startswith(_JSON_START) or _JSON_START.startswith(line)
            if ours and not line.endswith(b"\n"):
                break
            raise _NotOurs(f"line {number} is not a record") from None
        if record is not None:
            if not isinstance(record, dict) or "path" not in record:
                raise _NotOurs(f"line {number} is not a record")
            records.append(record)
        end += len(line)
    return records, end


_JSON_START = b'{"path": '


# --- CSV ----------------------------------------------------------------------------------------


def _encode_csv(record: Record) -> bytes:
    flat = _flat(record)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_cell(flat.get(name)) for name in COLUMNS])
    return text.getvalue().encode(errors="surrogateescape")


def _flat(record: Record) -> Record:
    settings = record.get("settings", {})
    return {**settings, **settings.get("sampling", {}), **settings.get("versions", {}), **record}


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return None if isinstance(value, float) and value != value else value


_CSV_HEADER = (",".join(COLUMNS) + "\n").encode()


def _decode_csv(data: bytes) -> tuple[list[Record], int]:
    if not data.startswith(_CSV_HEADER):
        if _CSV_HEADER.startswith(data):
            return [], 0
        raise _NotOurs("it does not have the columns that are written here")
    records: list[Record] = []
    end = read = len(_CSV_HEADER)

    def lines() -> Iterator[str]:
        nonlocal read
        for line in io.BytesIO(data[read:]):
            read += len(line)
            if line.endswith(b"\n"):  # else torn
                yield line.decode(errors="surrogateescape")

    rows = csv.reader(lines(), strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error:  # the end came within quotes
            return records, end
        if row is None:
            return records, end
        if len(row) != len(COLUMNS):
            raise _NotOurs(f"line {rows.line_num + 1} has {len(row)} columns, not {len(COLUMNS)}")
        records.append({name: _value(name, cell) for name, cell in zip(COLUMNS, row, strict=True)})
        end = read


def _value(name: str, cell: str) -> Any:
    if name in _TEXT_COLUMNS or not cell:
        return cell or None
    try:
        return json.loads(cell)
    except ValueError:
        raise _NotOurs(f"{cell!r} in column {name} is not a number") from None


_FORMATS = {
    ".jsonl": _Format(b"", _encode_json, _decode_json),
    ".csv": _Format(_CSV_HEADER, _encode_csv, _decode_csv),
}
