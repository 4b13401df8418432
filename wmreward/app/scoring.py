"""Clips → their surprise, in order, with the curve and the maps that show it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wmreward.app.limits import check_clip, check_number
from wmreward.errors import FileError, UsageError, VideoWarning, in_words, one_line
from wmreward.pictures.map_video import MapScale
from wmreward.pictures.plot import surprise_figure, write_figure
from wmreward.scoring.report import SPEED_TOLERANCE
from wmreward.surprise.compute import compute_vjepa_surprise
from wmreward.surprise.models.simulated import unlike
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.show import curve_of, note_of
from wmreward.video.content import video_sha256

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEANS_NOTHING = (
    "The embedded model {model} knows simulated balls and boxes only. Unless {who} shows such, its verdict "
    "means nothing there: real videos need another model."
)


@dataclass(frozen=True)
class Scored:
    """A clip under the name that it is shown with."""

    label: str
    result: SurpriseResult


@dataclass(frozen=True)
class Ranking:
    """What became of some clips.

    Attributes:
        scored: Those that could be scored, the most plausible first.
        troubles: A line for each that could not.
        notes: Lines about what the numbers are worth.
    """

    scored: list[Scored] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score(
    clips: Sequence[Path],
    model: str,
    device: str = "auto",
    *,
    on_clip: Callable[[int], None] = lambda _: None,
) -> Ranking:
    """Score clips; one that cannot be read or is too large costs only itself.

    Args:
        clips: Files.
        model: The world model.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        on_clip: Told the place of each clip before it is scored.

    Raises:
        UsageError: there is none, or too many; no such device.
        WeightsError: the model cannot be loaded.
    """
    check_number(clips)
    found = Ranking()
    for place, (label, clip) in enumerate(zip(labels(clips), clips, strict=True)):
        on_clip(place)
        try:
            check_clip(clip)
            found.scored.append(Scored(label, surprise_of(clip, model, device)))
        except (UsageError, FileError) as error:
            found.troubles.append(about(error, label))
    found.scored.sort(key=lambda one: float(one.result))
    found.notes.extend(notes_on(found.scored, model))
    return found


def surprise_of(clip: Path, model: str, device: str = "auto") -> SurpriseResult:
    """The surprise of a file; what is doubtful about it stands in ``faults`` and is told by `notes_on`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        result = compute_vjepa_surprise(clip, model, device=device)
    assert isinstance(result, SurpriseResult)
    return result


def labels(clips: Sequence[Path]) -> list[str]:
    """Their names, told apart where two are alike."""
    names = [one_line(clip.name) for clip in clips]
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return out


def about(error: Exception, label: str = "") -> str:
    """The line of an error, without the folder that an upload happens to lie in."""
    if isinstance(error, FileError):
        return one_line(f"{label or error.path.name}: {error.reason}")
    return in_words(error)


def notes_on(scored: Sequence[Scored], model: str) -> list[str]:
    """What a reader of the numbers should know."""
    notes = []
    paths = {one.result.path: one for one in scored if one.result.path is not None}
    foreign = unlike(model, None, {path: video_sha256(path) for path in paths})
    if foreign:
        who = paths[foreign[0]].label if len(foreign) == 1 else "a clip"
        notes.append(MEANS_NOTHING.format(model=model, who=who))
    for one in scored:
        speed = one.result.speed
        if speed is not None and abs(speed - 1) > SPEED_TOLERANCE:
            notes.append(
                f"{one.label}: seen at {speed:.2g} times its true speed, as {one.result.num_frames} frames "
                "are spread over its whole length."
            )
        if one.result.faults:
            notes.append(f"{one.label}: {one.result.faults}.")
    return notes


def figure(scored: Sequence[Scored]) -> Figure:
    """Surprise over time, of one clip or of several in one plot."""
    curves = [curve_of(one.result, one.label) for one in scored]
    clocks = all(one.result.has_clock for one in scored)
    return surprise_figure(curves, note=note_of(scored[0].result), seconds=clocks)


def write_curve(scored: Sequence[Scored], folder: Path) -> Path:
    """The same as a PNG."""
    path = folder / "surprise.png"
    write_figure(path, figure(scored))
    return path


def write_maps(
    scored: Sequence[Scored], folder: Path, *, on_map: Callable[[int], None] = lambda _: None
) -> list[Path]:
    """A video for each that shows where and when it is surprising, all on one scale, in the same order."""
    shown = [one.result.frame_map for one in scored]
    scale = MapScale.of(found.double().numpy() for found in shown if found is not None)
    paths = []
    for place, one in enumerate(scored):
        on_map(place)
        paths.append(folder / f"map_{place + 1}.mp4")
        one.result.map_video(paths[-1], scale=scale)
    return paths
