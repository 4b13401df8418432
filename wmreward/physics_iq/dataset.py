"""The names of the Physics-IQ data set: which files belong to which job, in any folder layout.

    real testing clip   0001_testing-videos_30FPS_perspective-left_take-1_trimmed-ball-falls.mp4
    mask of a real clip 0001_video-masks_30FPS_perspective-left_take-1_trimmed-ball-falls.mp4
    generated clip      0001_perspective-left_trimmed-ball-falls.mp4, or anything that starts with 0001_

A job is one scenario seen from one view; its id is that of the first take. Real clips are found by name
anywhere below a folder (the released tree, both spellings of its sub-folders, or one flat folder). No
file is renamed, moved or written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmfiles import csv_rows, read_json, short
from wmreward.errors import UsageError, VideoError
from wmreward.files import misused, user_path
from wmreward.physics_iq.categories import CATEGORIES
from wmreward.physics_iq.clips import read_header, same_rate
from wmreward.video_io import VIDEO_SUFFIXES

NUM_JOBS = 198
"""Jobs of the whole data set: 66 scenarios from 3 views."""

_REAL = re.compile(
    r"(?P<id>\d{4})_(?P<kind>testing-videos|video-masks)_(?P<rate>\d+)FPS_"
    r"(?P<view>perspective-[^_]+)_take-(?P<take>[12])_(?P<scenario>[^_]+)\.(?i:mp4)"
)
_GENERATED = re.compile(r"(?P<id>\d{4})_(?P<view>perspective-[^_]+)_(?P<scenario>[^_]+)\.(?i:mp4)")
_ID = re.compile(r"(\d{4})_")

RealKey = tuple[str, str, int]
Index = dict[RealKey, dict[int, tuple[str, Path]]]
"""Scenario, view, take."""


@dataclass(frozen=True)
class Job:
    """One scenario seen from one view: two real takes and the clip under test.

    Attributes:
        id: such as "0001"; any text for videos of one's own.
        scenario: such as "trimmed-ball-falls.mp4".
        view: such as "perspective-left".
        take_1: the real clip that scores are against.
        take_2: another recording of the same.
        generated: the clip under test.
        category: such as "Optics", if known.
        masks: files with the masks of the two takes, in place of computed ones.
    """

    id: str
    scenario: str
    view: str
    take_1: Path
    take_2: Path
    generated: Path
    category: str | None = None
    masks: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Description:
    """A row of the data set's descriptions.

    Attributes:
        id: of the clip.
        scenario: name of the scenario.
        view: name of the view.
        take: 1 or 2. The rows of take 1 are the jobs.
        text: the description, which is the prompt.
        category: one of five.
        generated_name: what a generated clip is to be called.
    """

    id: str
    scenario: str
    view: str
    take: int
    text: str
    category: str
    generated_name: str


def read_descriptions(path: Path) -> list[Description]:
    """Read `descriptions.csv` of the data set.

    Raises:
        UsageError: if it cannot be read or is something else.
    """
    rows = csv_rows(path, needs=_COLUMNS, refuse=misused)
    return [_description(row, f"{path}, line {number}") for number, row in rows]


_COLUMNS = ("scenario", "description", "category", "generated_video_name")


def _description(row: Mapping[str, str], where: str) -> Description:
    try:
        number, view, take, scenario = row["scenario"].split("_")
        int(take.removeprefix("take-"))
    except ValueError:
        raise UsageError(
            f"{where}: not a description of Physics-IQ: {short(row['scenario'])} does not look like "
            "0001_perspective-left_take-1_trimmed-ball-falls.mp4"
        ) from None
    return Description(
        id=number,
        scenario=scenario,
        view=view,
        take=int(take.removeprefix("take-")),
        text=row["description"],
        category=row["category"],
        generated_name=row["generated_video_name"],
    )


def check_fit(real: Path, names: Iterable[str] = (), masks: Path | None = None) -> None:
    """See that clips of these names could be measured by what lies in ``real``; no video is opened.

    Args:
        real: Folder with the real testing clips, at any depth.
        names: Of generated clips, which need not be there yet.
        masks: Folder with the masks of the real clips, at any depth.

    Raises:
        UsageError: there are no real clips or no masks, or a name fits none.
    """
    clips = _real_clips(real)
    if masks is not None:
        _index(masks, "video-masks")
    first_takes = _first_takes(clips)
    for name in names:
        scenario, view = _place(Path(name), _id(Path(name)), first_takes)
        for take in (1, 2):
            if (scenario, view, take) not in clips:
                raise _no_take((scenario, view, take), Path(name), real)


def find_jobs(
    real: Path,
    generated: Path,
    *,
    masks: Path | None = None,
    categories: Mapping[str, str] = CATEGORIES,
) -> list[Job]:
    """The jobs that a folder of generated clips answers, by id; any part of the data set will do.

    Of real clips at several frame rates, those at the rate of the generated clip are taken, else those
    at the highest.

    Args:
        real: folder with the real testing clips, at any depth.
        generated: folder with generated clips.
        masks: folder with the masks of the real clips, at any depth.
        categories: category by scenario name.

    Raises:
        UsageError: naming the file and id that do not fit.
    """
    clips = _real_clips(real)
    stored = _index(masks, "video-masks") if masks else {}
    first_takes = _first_takes(clips)
    jobs = []
    for number, clip in _generated(generated).items():
        scenario, view = _place(clip, number, first_takes)
        takes = [_pick(clips, (scenario, view, take), clip, real) for take in (1, 2)]
        of_takes = [_mask(stored, path, masks) for path in takes] if masks else []
        jobs.append(
            Job(
                id=number,
                scenario=scenario,
                view=view,
                take_1=takes[0],
                take_2=takes[1],
                generated=clip,
                category=categories.get(scenario),
                masks=(of_takes[0], of_takes[1]) if of_takes else None,
            )
        )
    return sorted(jobs, key=lambda job: job.id)


def _real_clips(folder: Path) -> Index:
    clips = _index(folder, "testing-videos")
    if not clips:
        raise UsageError(
            f"{folder}: no real clips below it, named like "
            "0001_testing-videos_30FPS_perspective-left_take-1_trimmed-ball-falls.mp4"
        )
    return clips


def _first_takes(clips: Index) -> dict[str, RealKey]:
    """The first takes by their ids, which are those of the jobs."""
    return {
        number: key for key, rates in clips.items() if key[2] == 1 for number, _ in rates.values()
    }


def _index(folder: Path, kind: str) -> Index:
    """(id, path) of real clips or masks by scenario, view and take, then by frame rate."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found: Index = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".mp4"):
        # A mask of a generated clip has the very name of a real one's, in another folder.
        match = _REAL.fullmatch(path.name)
        if match and match["kind"] == kind and "generated" not in path.relative_to(folder).parts:
            key = _key(match)
            rates = found.setdefault(key, {})
            _, other = rates.setdefault(int(match["rate"]), (match["id"], path))
            if other != path:
                raise UsageError(f"{path}: the same clip is also at {other}; keep one of them")
    return found


def _key(match: re.Match[str]) -> RealKey:
    return _scenario(match), match["view"], int(match["take"])


def _scenario(match: re.Match[str]) -> str:
    """The name of a scenario as the data set writes it, in whatever case the file's name ends."""
    return f"{match['scenario']}.mp4"


def _generated(folder: Path) -> dict[str, Path]:
    """Generated clips by id."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.name.startswith("."):
            continue
        number = _id(path)
        other = found.setdefault(number, path)
        if other != path:
            raise UsageError(f"{path}: id {number} is taken by {other.name} already; keep one")
    if not found:
        raise UsageError(f"{folder}: no videos in it")
    return found


def _id(clip: Path) -> str:
    match = _ID.match(clip.name)
    if match is None:
        raise UsageError(f"{clip}: the name has to start with the id of a job, such as 0001_")
    return match[1]


def _place(clip: Path, number: str, first_takes: Mapping[str, RealKey]) -> tuple[str, str]:
    """Scenario and view of a generated clip, by its id; its name, where it tells, must agree."""
    if number not in first_takes:
        raise UsageError(f"{clip}: there is no real first take with id {number}")
    scenario, view, _ = first_takes[number]
    match = _GENERATED.fullmatch(clip.name)
    if match and (_scenario(match), match["view"]) != (scenario, view):
        raise UsageError(f"{clip}: id {number} belongs to {view}_{scenario}; rename one of them")
    return scenario, view


def _rate(clip: Path) -> float | None:
    try:
        return read_header(clip).rate
    except VideoError:
        return None  # reported with the others that cannot be read


def _mask(index: Index, clip: Path, folder: Path) -> Path:
    """The mask of a real clip, at its rate."""
    match = _REAL.fullmatch(clip.name)
    assert match, clip
    found = index.get(_key(match), {}).get(int(match["rate"]))
    if found is None:
        raise UsageError(f"{clip}: no mask of it in {folder}")
    return found[1]


def _pick(
    index: Index,
    key: RealKey,
    clip: Path,
    folder: Path,
) -> Path:
    rates = index.get(key)
    if not rates:
        raise _no_take(key, clip, folder)
    rate = _rate(clip) if len(rates) > 1 else None
    best = next((tag for tag in rates if rate and same_rate(tag, rate)), max(rates))
    return rates[best][1]


def _no_take(key: RealKey, clip: Path, folder: Path) -> UsageError:
    scenario, view, take = key
    return UsageError(f"{clip}: no take {take} of {view}_{scenario} in {folder}")


def read_list(path: Path) -> list[Job]:
    """Jobs of one's own videos, from a JSON list of objects or a CSV with a header.

    Each names `take_1`, `take_2` and `generated` (paths, relative to the list), and may name
    `scenario`, `view`, `category` and `id`.

    Raises:
        UsageError: naming the entry that is wrong.
    """
    entries = list(_entries(path))
    jobs = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}: entry {number}"
        known = {"id", "scenario", "view", "category", "take_1", "take_2", "generated"}
        if unknown := entry.keys() - known:
            raise UsageError(f"{where}: unknown field {short(sorted(unknown)[0])}")
        files = {}
        for field in ("take_1", "take_2", "generated"):
            if not entry.get(field):
                raise UsageError(f"{where}: {field!r} is missing")
            try:
                files[field] = path.parent / user_path(str(entry[field]))
            except UsageError as error:
                raise UsageError(f"{where}: {field}: {error}") from None
            if not files[field].is_file():
                raise UsageError(f"{where}: {field}: no such file: {files[field]}")
        jobs.append(
            Job(
                id=str(entry.get("id") or f"{number:04d}"),
                scenario=str(entry.get("scenario") or files["generated"].name),
                view=str(entry.get("view") or "view"),
                take_1=files["take_1"],
                take_2=files["take_2"],
                generated=files["generated"],
                category=str(entry["category"]) if entry.get("category") else None,
            )
        )
    _refuse_repeats(path, jobs)
    return jobs


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() == ".csv":
        rows: Any = [row for _, row in csv_rows(path, refuse=misused)]
    else:
        rows = read_json(path, refuse=misused)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: must be a list of objects with take_1, take_2 and generated")
    yield from rows


def _refuse_repeats(path: Path, jobs: Sequence[Job]) -> None:
    seen = set()
    for job in jobs:
        if (job.scenario, job.view) in seen:
            raise UsageError(f"{path}: {job.scenario} is listed twice for view {job.view!r}")
        seen.add((job.scenario, job.view))
