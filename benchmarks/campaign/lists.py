"""Lists, tables and records, read as the commands read them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.campaign.targets import Reading, Sample
from wmfiles import csv_rows, json_lines, read_json
from wmreward.files import misused
from wmreward.physics_iq.dataset import read_descriptions
from wmreward.physics_iq.official_csv import read_csv
from wmreward.prompts.jobs import read_jobs
from wmreward.records.record_file import COLUMNS, RecordFile
from wmreward.surprise.actions.motion import read_motion

_JOBS = [
    {"id": "a", "mode": "t2v", "prompt": "A ball falls — é.", "seeds": [0, 1, 2]},
    {"id": "b", "mode": "i2v", "prompt": "", "init_image": "first.png", "category": "Optics"},
    {"id": "c", "mode": "v2v", "prompt": "\u2028", "init_video": "~/a.mp4", "output_name": "o.mp4"},
]
_RECORD: dict[str, Any] = {
    "path": "a, \"b\"\n.mp4",
    "surprise": 0.125,
    "num_windows": 2,
    "video_sha256": "0" * 64,
    "settings_id": "1" * 16,
    "per_window": [0.1, 0.15],
    "windows": [{"start_s": 0.0, "end_s": 1.0}] * 2,
    "settings": {"model": "tiny", "sampling": {"fps": None}, "versions": {"torch": "2"}},
}  # fmt: skip
_MEASURES = (
    *("v1_mse", "v2_mse", "variance_spatial", "variance_weighted_spatial"),
    *("variance_spatiotemporal_iou", "variance_mse", "spatiotemporal_iou_v1"),
    *("spatiotemporal_iou_v2", "spatial_iou_v1", "spatial_iou_v2", "weighted_spatial_iou_v1"),
    "weighted_spatial_iou_v2",
)
_NUMBERS = {name for name in _MEASURES if name.startswith(("spatial_", "weighted"))} | {
    "variance_spatial",
    "variance_weighted_spatial",
}


def _records(path: Path) -> list[dict[str, Any]]:
    return RecordFile(path).repair()


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    return list(csv_rows(path, needs=("video",), refuse=misused))


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(json_lines(path, refuse=misused))


READERS: dict[str, Callable[[Path], Any]] = {
    "jobs.jsonl": read_jobs,
    "records.jsonl": _records,
    "records.csv": _records,
    "table.csv": _table,
    "table.jsonl": _rows,
    "entries.json": lambda path: read_json(path, refuse=misused),
    "descriptions.csv": read_descriptions,
    "measures.csv": read_csv,
    "actions.json": read_motion,
}


class _Lists:
    def samples(self) -> Sequence[Sample]:
        motion = {"actions": [[0.5] * 7] * 3, "states": [[0.25] * 7] * 4}
        cells = ['"[0.1, 0.2]"' if name not in _NUMBERS else "0.5" for name in _MEASURES]
        rows = ["scenario,description,category,generated_video_name"] + [
            f'000{i}_perspective-left_take-1_ball.mp4,"A ball, which falls.",Optics,000{i}.mp4'
            for i in range(5)
        ]
        texts = {
            "jobs.jsonl": "".join(json.dumps(job) + "\n" for job in _JOBS),
            "table.csv": '\ufeffvideo,prompt\r\na.mp4,"one, ""two"""\r\nb.mp4,three\r\n',
            "table.jsonl": '{"video": "a.mp4", "prompt": "\u2028"}\r\n{"video": "b.mp4"}\n',
            "entries.json": json.dumps([{"take_1": "a.mp4", "take_2": "b.mp4"}] * 3, indent=1),
            "descriptions.csv": "\n".join(rows) + "\n",
            "measures.csv": f"scenario,{','.join(f'{name}_left' for name in _MEASURES)}\n"
            f"a.mp4,{','.join(cells)}\n",
            "actions.json": json.dumps(motion),
        }
        found = [Sample(name, text.encode()) for name, text in texts.items()]
        return [*found, *map(_recorded, ("records.jsonl", "records.csv"))]

    def read(self, path: Path) -> Reading:
        found = READERS[path.name](path)
        # Jobs name their files beside the list.
        content = repr(found).replace(str(path.parent), "")
        return Reading(hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest())

    def is_legal(self, path: Path, intact: Reading, found: Reading) -> bool:
        """Whether Python's own readers, as strict as they can be, find nothing wrong either.

        Records may have lost a last line that was torn, as a process leaves it that was killed.
        """
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            # Names of files in tables of records need not be UTF-8.
            if path.name != "records.csv":
                return False
            text = data.decode("utf-8-sig", "surrogateescape")
        return _is_table(path.name, text) if path.suffix == ".csv" else _is_json(path.name, text)


def _recorded(name: str) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        file = RecordFile(Path(folder, name))
        for number in range(4):
            file.append({**_RECORD, "path": f"{number} {_RECORD['path']}"})
        return Sample(name, file.path.read_bytes())


def _is_table(name: str, text: str) -> bool:
    width = len(COLUMNS) if name == "records.csv" else None
    ends = [len(text)]
    if name == "records.csv":  # up to three lines of a row that is torn
        for _ in range(3):
            ends.append(text.rfind("\n", 0, max(0, ends[-1] - 1)) + 1)
    return any(_are_rows(text[:end], width) for end in ends)


def _are_rows(text: str, width: int | None) -> bool:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return False
    rows = [row for row in rows if row]
    return all(len(row) == (width or len(rows[0])) for row in rows)


def _is_json(name: str, text: str) -> bool:
    texts = [text] if name.endswith(".json") else text.replace("\r", "\n").split("\n")
    texts = texts[:-1] if name == "records.jsonl" else texts  # torn
    return all(map(_is_strict, filter(str.strip, texts)))


def _is_strict(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


def target() -> _Lists:
    return _Lists()
