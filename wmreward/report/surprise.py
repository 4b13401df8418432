"""Heat maps of candidates, and curves of those whose records have none, kept in the run's folder.

    RUN/report/surprise.jsonl       as `compute_wmreward.py --output` writes it
    RUN/report/maps/*.mp4           each video beside its heat map

A video that is there already with the same settings is not scored again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vjepa2 import WeightsError
from vjepa2.files.sources import EMBEDDED
from wmreward.errors import VideoError, WMRewardError
from wmreward.records.record_file import RecordFile
from wmreward.records.scored import Finished, make_record, settings_id
from wmreward.report.run_data import Curve, Entry, RunData
from wmreward.scoring.pictures import Pictures, WaitingMaps
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models import ModelChoice
from wmreward.surprise.sampling import Sampling
from wmreward.surprise.video_scorer import VideoScorer
from wmreward.video.content import video_sha256

SMALL = "tiny"
"""The world model that draws where none has judged; it comes along."""

MOST_WITHOUT_GPU = 48
"""Videos that an embedded model draws unasked on a CPU: some minutes of work."""

_ALL_FRAMES = Sampling(max_frames=2**40)


def usual_model(run: RunData, videos: int) -> str | None:
    """The world model that judged the run, if so many videos are no long work for this machine; else None."""
    judge = run.judge()
    model = SMALL if judge is None else str(judge.get("model", SMALL))
    quick = model in EMBEDDED and videos <= MOST_WITHOUT_GPU
    return model if quick or torch.cuda.is_available() else None


def lacking(run: RunData, entries: Iterable[Entry]) -> list[Entry]:
    """Those of the entries that have a video, but no curve or no heat map of it where there can be one."""
    maps = _has_maps(_config(run))
    return [
        entry
        for entry in entries
        if entry.video is not None and (entry.curve is None or (maps and entry.heat_map is None))
    ]


def draw_surprise(
    run: RunData,
    entries: Iterable[Entry],
    model: str,
    weights: str | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Score the videos of those entries that lack a curve or a heat map, and draw their heat maps.

    Returns:
        Why not, by the name of the candidate.

    Raises:
        UsageError: an unknown model.
        WMRewardError: weights that are not there, results that cannot be written.
    """
    from tqdm import tqdm

    missing = lacking(run, entries)
    if not missing:
        return {}
    config = _config(run)
    output = _records(run)
    output.path.parent.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(folder=output.path.parent / "maps", map=_has_maps(config))
    pictures.folder.mkdir(exist_ok=True)
    try:
        scorer = VideoScorer(ModelChoice(name=model, weights=weights), config, _ALL_FRAMES)
        _ = scorer.loaded
    except WeightsError as error:
        raise WMRewardError(str(error)) from error
    finished = Finished(output.repair(), settings_id(scorer.settings))
    waiting = WaitingMaps()
    shown = tqdm(missing, unit="video", leave=False, disable=not progress)
    problems = {
        entry.name: _draw(run, entry, scorer, pictures, output, finished, waiting)
        for entry in shown
    }
    drawn = waiting.draw(waiting.scale())
    for _ in tqdm(drawn, total=len(waiting), unit="map", leave=False, disable=not progress):
        pass
    return {name: problem for name, problem in problems.items() if problem is not None}


def with_surprise(run: RunData) -> RunData:
    """The run with what `draw_surprise` has found out of its videos. Curves of records come first."""
    found = {record["video_sha256"]: record for record in _records(run).read()}
    entries = tuple(_with(entry, found.get(entry.video_sha256)) for entry in run.entries)
    return replace(run, entries=entries)


def _with(entry: Entry, record: Mapping[str, Any] | None) -> Entry:
    if record is None:
        return entry
    maps = [Path(picture) for picture in record.get("pictures", ())]
    curve, heat_map = Curve.of(record), next(iter(maps), None)
    return replace(entry, curve=entry.curve or curve, heat_map=entry.heat_map or heat_map)


def _records(run: RunData) -> RecordFile:
    return RecordFile(run.path / "report" / "surprise.jsonl")


def _has_maps(config: SurpriseConfig) -> bool:
    return config.similarity == "feature"


def _config(run: RunData) -> SurpriseConfig:
    """That of the judge, where there is one, but with every frame predicted once: enough for a picture."""
    judge = run.judge() or {}
    known = SurpriseConfig.__dataclass_fields__
    config = SurpriseConfig(**{name: value for name, value in judge.items() if name in known})
    return replace(config, stride=config.window_size - config.context_frames)


def _draw(
    run: RunData,
    entry: Entry,
    scorer: VideoScorer,
    pictures: Pictures,
    output: RecordFile,
    finished: Finished,
    waiting: WaitingMaps,
) -> str | None:
    """Score one video and keep the result; returns what is wrong with it."""
    assert entry.video is not None, "asked for those with a video"
    begun = time.perf_counter()
    video = run.path / entry.video
    if not video.exists():
        return f"{video}: is gone"
    sha256 = video_sha256(video)
    paths = pictures.paths(Path(entry.name), sha256, settings_id(scorer.settings))
    known = finished.find(entry.video, sha256)
    if known is not None and all(path.exists() for path in paths):
        return None
    try:
        result = scorer.score_file(video)
    except VideoError as error:
        return str(error)
    waiting.add(paths, result)
    if known is None:
        seconds = time.perf_counter() - begun
        relative = [path.relative_to(run.path) for path in paths]
        output.append(make_record(entry.video, sha256, result, scorer.settings, seconds, relative))
    return None
