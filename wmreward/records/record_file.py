"""Files of records, one per video, that survive being killed at any moment.

Records are only ever appended, each in one write. A process that dies while it writes leaves a torn
last line, which the next run cuts off. In a distributed run every rank appends to a part of its own
(`scores.jsonl.rank3`); parts are merged at the end, or by the next run if that never came.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wmfiles import fitted, parse_csv, parse_json, short
from wmfiles.csv_text import CSVError
from wmreward.errors import UsageError, WMRewardError
from wmreward.files import check_regular, misused, open_regular, write_bytes
from wmreward.records.scored import Record, to_json, without_repeats

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MOST_LINE = 2**28
"""Bytes: a record of a million windows has a third of it."""

_ROOM_FOR_RANK = ".rank000000"

_TEXT_COLUMNS = (
    *("path", "score", "video_sha256", "settings_id", "model", "weights_sha256", "actions_sha256"),
    *("frame_strides", "mode", "similarity", "decoder", "dtype", "device"),
    *("context_encoder", "target_encoder", "positions", "levels", "observed", "teacher_sha256"),
    *("wmreward", "torch", "av", "python", "fault_notes"),
)
_FAULTS = (
    *("decoder_errors", "dropped_frames", "repeated_frames", "missing_frames"),
    *("gaps", "longest_gap_s"),
)
COLUMNS = (
    *("path", "surprise", "reward", "score", "num_windows", "num_frames", "unused_tail_frames"),
    *("effective_fps", "source_fps", *_FAULTS, "fault_notes"),
    *("video_sha256", "settings_id", "seconds"),
    *("model", "weights_sha256", "window_size", "context_frames", "stride", "frame_strides"),
    *("mode", "similarity"),
    *("max_frames", "fps", "decoder", "context_encoder", "target_encoder", "mask_token"),
    *("crop", "positions", "levels", "observed", "teacher_sha256"),
    *("actions_sha256", "dtype", "device", "wmreward", "torch", "av", "python"),
)


class _NotOurs(ValueError):
    """A file holds something else than records; the message follows its name and says where."""


@dataclass(frozen=True)
class _Format:
    """How records become bytes.

    Attributes:
        header: What a file starts with.
        encode: One record to one line, for a file with a header like this.
        decode: A file to its records and the number of bytes they fill; the rest is a torn line.
    """

    header: bytes
    encode: Callable[[Record, bytes], bytes]
    decode: Callable[[BinaryIO], tuple[list[Record], int]]


class RecordFile:
    """A file of records: JSON lines (.jsonl) or a table of the plain columns (.csv).

    Args:
        path: The file; it need not exist yet.
        rank: Speak of the part that this rank of a distributed run writes.
    """

    def __init__(self, path: Path, rank: int | None = None) -> None:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path}: a file of records must end in {' or '.join(FORMATS)}")
        self._format = FORMATS[path.suffix.lower()]
        self._main = path
        self.path = path if rank is None else path.with_name(f"{self._part_stem}.rank{rank}")

    @property
    def _part_stem(self) -> str:
        return fitted(self._main.name, _ROOM_FOR_RANK).removesuffix(_ROOM_FOR_RANK)

    def part(self, rank: int) -> RecordFile:
        return RecordFile(self._main, rank)

    def parts(self) -> list[RecordFile]:
        """The parts that lie beside the file."""
        pattern = re.compile(re.escape(self._part_stem) + r"\.rank(\d+)")
        names = (pattern.fullmatch(path.name) for path in self._main.parent.iterdir())
        return [self.part(rank) for rank in sorted(int(name[1]) for name in names if name)]

    def read(self) -> list[Record]:
        """All whole records; raises ``UsageError`` if the file holds anything else."""
        if not self._is_there():
            return []
        with self._opened() as file:
            return self._decoded(file)[0]

    def repair(self) -> list[Record]:
        """The same, and cut off a torn last line, so that records can be appended.

        Nothing is cut off that another process appends meanwhile.
        """
        if not self._is_there():
            return []
        with self._opened() as file:
            records, end, size = self._decoded(file)
        if end == size and not self._ends_open():
            return records
        with self._explained(), self.path.open("r+b") as file, _alone(file):
            records, end, size = self._decoded(file)  # somebody may have been at it just then
            file.truncate(end)
            if self._ends_open():
                file.seek(end)
                file.write(b"\n")
        return records

    def append(self, record: Record) -> None:
        """Add one record: all of it or, on a full disk, nothing."""
        with self._explained(), self.path.open("ab", buffering=0) as file, _alone(file):
            before = file.seek(0, os.SEEK_END)
            header = self._header() if before else self._format.header
            line = self._format.encode(record, header)
            try:
                _write_all(file, line if before else header + line)
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
        header = self._format.header
        lines = [self._format.encode(record, header) for record in records]
        write_bytes(self.path, b"".join([header, *lines]))

    def check_writable(self) -> None:
        """Raise ``WMRewardError`` if an existing file must not be written."""
        if self._is_there():
            check_regular(self.path, empty=True, refuse=misused)
            with self._explained(), self.path.open("ab"):
                pass

    def _is_there(self) -> bool:
        """Raises what opening would raise of a name that can never be a file's, as of a link in circles."""
        try:
            os.stat(self.path)  # noqa: PTH116, as `Path.exists` calls all of these absent
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            check_regular(self.path, empty=True, refuse=misused)
        return True

    def _header(self) -> bytes:
        """That of the file as it is: an earlier version may have begun it, with fewer columns."""
        if not self._format.header:
            return b""
        with self.path.open("rb") as file:
            return file.readline(MOST_LINE)

    def _opened(self) -> BinaryIO:
        return open_regular(self.path, empty=True, refuse=misused)

    def _decoded(self, file: BinaryIO) -> tuple[list[Record], int, int]:
        """Records, the bytes they fill, the bytes there are."""
        try:
            records, end = self._format.decode(file)
            return records, end, file.seek(0, os.SEEK_END)
        except OSError as error:
            raise WMRewardError(f"{self.path}: cannot be read ({error.strerror})") from error
        except _NotOurs as error:
            raise UsageError(
                f"{self.path}{error}; give the name of another file, or move this one away"
            ) from None

    def _ends_open(self) -> bool:
        """Whether the last record lacks its line end, as some editors leave it."""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            return file.read(1) not in (b"", b"\n")

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


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Nobody appends or repairs at the same moment, as far as the file system can tell.

    Runs that write keep others out altogether, see `wmreward.records.lock`; this is for one that does not.
    """
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
    yield


def _lines(file: BinaryIO, begin: int = 0) -> Iterator[bytes]:
    """Lines with their ends from a place on; one of absurd length is refused before it is read whole."""
    file.seek(begin)
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise _NotOurs(f", line {number}: longer than {MOST_LINE} bytes")
        yield line


# --- JSON lines ---------------------------------------------------------------------------------


def _encode_json(record: Record, _: bytes) -> bytes:
    return to_json(record).encode() + b"\n"


def _decode_json(file: BinaryIO) -> tuple[list[Record], int]:
    records, end = [], 0
    for number, line in enumerate(_lines(file), 1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            if content.strip():
                records.append(_record(content))
        except ValueError as error:
            if _is_torn(content):
                break
            raise _NotOurs(f", line {number}: not a record ({error})") from None
        end += len(line)
    return records, end


def _record(line: bytes) -> Record:
    try:
        record = parse_json(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
        raise ValueError("there is no path")
    return record


def _is_torn(line: bytes) -> bool:
    """Whether a last line is what a process left that died while it wrote, or a computer that did.

    Anything that does not begin like ours is somebody's and must not be cut off.
    """
    if line.endswith(b"\n"):
        return False
    written = line.rstrip(b"\0")  # a power cut may leave room that was never filled
    return written.startswith(_JSON_START) or _JSON_START.startswith(written)


_JSON_START = b'{"path": '


# --- CSV ----------------------------------------------------------------------------------------


def _encode_csv(record: Record, header: bytes) -> bytes:
    flat, columns = _flat(record), _columns(header) or COLUMNS
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_cell(flat.get(name)) for name in columns])
    return text.getvalue().encode(errors="surrogateescape")


def _flat(record: Record) -> Record:
    settings, faults = record.get("settings", {}), record.get("faults") or {}
    notes = {"fault_notes": "; ".join(faults.get("notes", ()))}
    inner = {**settings, **settings.get("sampling", {}), **settings.get("versions", {})}
    return {**inner, **faults, **notes, **record}


def _with_faults(row: Record) -> Record:
    """A row with its faults as other records have them; an earlier version did not tell of any."""
    counts = {name: row.pop(name, None) for name in _FAULTS}
    notes = row.pop("fault_notes", None)
    if None not in counts.values():
        row["faults"] = counts | {"notes": [notes] if notes else []}
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return None if isinstance(value, float) and value != value else value


_CSV_HEADER = (",".join(COLUMNS) + "\n").encode()
_CSV_ALWAYS = {"path", "surprise", "video_sha256", "settings_id"}


def _columns(header: bytes) -> tuple[str, ...] | None:
    """Those of a table of this version or an earlier one, which had fewer in the same order."""
    text = header.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n").decode(errors="replace")
    names = set(text.split(","))
    columns = tuple(name for name in COLUMNS if name in names)
    return columns if text == ",".join(columns) and names >= _CSV_ALWAYS else None


def _decode_csv(file: BinaryIO) -> tuple[list[Record], int]:
    file.seek(0)
    start = file.read(len(codecs.BOM_UTF8))
    begin = len(start) if start == codecs.BOM_UTF8 else 0
    file.seek(begin)
    header = file.readline(MOST_LINE)
    columns = _columns(header) if header.endswith(b"\n") else None
    if columns is None:
        if _CSV_HEADER.startswith(header.rstrip(b"\0")):
            return [], 0
        raise _NotOurs(": it does not have the columns that are written here")
    records: list[Record] = []
    end = read = begin + len(header)
    is_torn = True

    def lines() -> Iterator[str]:
        nonlocal read, is_torn
        for line in _lines(file, read):
            if not line.endswith(b"\n"):  # torn
                return
            read += len(line)
            # A torn record has no line that is as long as a whole one: within its quotes others begin.
            is_torn = is_torn and line.count(b",") < len(columns) - 1
            yield line.decode(errors="surrogateescape")

    rows = parse_csv(lines())
    while True:
        try:
            number, row = next(rows, (0, []))
        except CSVError as error:
            if error.is_open and is_torn:  # the end came within the quotes of a name
                return records, end
            raise _NotOurs(f", line {error.line + 1}: {error}") from None
        if not row:
            return records, end
        if len(row) != len(columns):
            raise _NotOurs(f", line {number + 1}: {len(row)} columns, not {len(columns)}")
        try:
            values = [_value(name, cell) for name, cell in zip(columns, row, strict=True)]
        except ValueError as error:
            raise _NotOurs(f", line {number + 1}: {error}") from None
        records.append(_with_faults(dict(zip(columns, values, strict=True))))
        end, is_torn = read, True


def _value(name: str, cell: str) -> Any:
    if name in _TEXT_COLUMNS or not cell:
        return cell or None
    try:
        return parse_json(cell)
    except ValueError:
        raise ValueError(f"{short(cell)} in column {name} is not a number") from None


FORMATS = {
    ".jsonl": _Format(b"", _encode_json, _decode_json),
    ".csv": _Format(_CSV_HEADER, _encode_csv, _decode_csv),
}
