"""From flags to what a run needs. All that can be found wrong without weights or decoding is found here, and
before PyTorch is imported, which takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wmreward.commands.flags import Values
from wmreward.errors import UsageError
from wmreward.files import check_folder, user_path
from wmreward.pictures.extra import check_pictures
from wmreward.records.record_file import RecordFile
from wmreward.scoring.pictures import Pictures
from wmreward.surprise.actions.motion import STEP_RATE, Motion, check_given, read_motion
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.models.choice import ModelChoice, reading_values
from wmreward.surprise.released import RELEASED_SETTINGS
from wmreward.surprise.rules import reach
from wmreward.surprise.sampling import Sampling, at_rates
from wmreward.tables.layout import Format
from wmreward.video.find import Found, notes_on

_WINDOWS = ("window_size", "context_frames", "stride", "frame_strides", "similarity", "score")
_SURPRISE_FLAGS = {
    **{name: name for name in _WINDOWS},
    "aggregate": "mode",
}
"""Flags, and the settings that they are."""

_RELEASED_FLAGS = {
    **{flag: RELEASED_SETTINGS[setting] for flag, setting in _SURPRISE_FLAGS.items()},
    **{name: RELEASED_SETTINGS[name] for name in ("max_frames", "fps", "rates")},
    **{
        name: RELEASED_SETTINGS[name]
        for name in ("context_encoder", "target_encoder", "mask_token")
    },
}
"""All that decides a score of the published command line, whatever the model."""

_ACTION_FLAGS = {
    "similarity": "feature",
    "score": "plain",
    "fps": STEP_RATE,
    "decoder": "pyav",
    **dict.fromkeys(("compat", "window_size", "context_frames", "stride", "max_frames")),
    **dict.fromkeys(("frame_strides", "rates", "image_fps")),
}
"""What the action-conditioned model fixes; None: has no meaning for it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command line.

    Attributes:
        videos: In the order of the output.
        notes: What is to be known of them, a line each.
        choice, config, sampling: What decides the scores.
        motion: Actions and states for ``vitgac``, and the hash of their file.
        batch_size: Windows per forward pass, or None for a fitting number.
        workers: Videos decoded ahead.
        output: Where records are appended.
        pictures: Which pictures are drawn, and where.
        plot_all: Where the curves of all videos go in one plot, if anywhere.
        as_json: Print JSON lines instead of a table.
        form: Of the table.
        strict: Refuse videos about which something is doubtful.
        debug: Show tracebacks.
    """

    videos: list[Path]
    notes: tuple[str, ...]
    choice: ModelChoice
    config: SurpriseConfig
    sampling: Sampling
    motion: Motion | None
    motion_sha256: str | None
    batch_size: int | None
    workers: int
    output: RecordFile | None
    pictures: Pictures
    plot_all: Path | None
    as_json: bool
    form: Format
    strict: bool
    debug: bool


def model_choice(values: Mapping[str, Any]) -> ModelChoice:
    """The network; raises ``UsageError`` for what the model of this name cannot do."""
    names = (
        *("weights", "context_encoder", "target_encoder"),
        *("mask_token", "device", "dtype", "compile"),
    )
    choice = ModelChoice(
        name=values["model"], **{name: values[name] for name in names}, **reading_values(values)
    )
    _check_mask_token(choice)
    return choice


def _check_mask_token(choice: ModelChoice) -> None:
    """Raise ``UsageError`` for a mask token that the model does not have.

    The default is the reference's: a model with a single mask token takes that for it.
    """
    asked = choice.mask_token
    if asked is None or choice.is_own or asked == choice.config.default_mask_token:
        return
    count = choice.config.predictor.mask_tokens
    if asked >= count:
        there = f"0 to {count - 1}" if count > 1 else "0 only" if count else "none"
        raise UsageError(
            f"--mask_token {asked}: model {choice.name} does not have it (it has {there})"
        )


def job_from(flags: Values, found: Found) -> Job:
    """Check all flags.

    Args:
        flags: Of the command line.
        found: The videos that they name.

    Raises:
        UsageError: flags that contradict each other or make no sense, a missing file.
        WMRewardError: an output that cannot be written.
    """
    given, values = flags.given, dict(flags)
    choice = model_choice(values)
    if choice.acts:
        _refuse_other(values, given, _ACTION_FLAGS, f"model {choice.name}")
    if values["compat"]:
        choice.check_released()
        _refuse_other(values, given, _RELEASED_FLAGS, "--compat released")
        values |= _RELEASED_FLAGS
    values = with_rates(values, given)
    config = SurpriseConfig(**{setting: values[flag] for flag, setting in _SURPRISE_FLAGS.items()})
    choice.check(config)
    sampling = Sampling(
        **{name: values[name] for name in ("max_frames", "fps", "decoder", "image_fps")}
    )
    if not choice.acts:
        _check_windows(config, sampling)
    _check_decoder(values["decoder"])
    pictures, plot_all = _pictures(values, config), _plot_all(values["plot_all"])
    output = _output(values["output"])
    motion, motion_sha256 = _motion(values["actions"], choice.name, choice.acts)
    choice.torch_device()
    return Job(
        videos=found.videos,
        notes=notes_on(*found, None if "image_fps" in given else sampling.image_fps),
        choice=choice,
        config=config,
        sampling=sampling,
        motion=motion,
        motion_sha256=motion_sha256,
        batch_size=values["batch_size"],
        workers=values["read_ahead"],
        output=output,
        pictures=pictures,
        plot_all=plot_all,
        as_json=values["json"],
        form=values["format"],
        strict=values["strict"],
        debug=values["debug"],
    )


def with_rates(values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The values of a command line's flags, with ``--rates`` put into ``fps`` and ``frame_strides``.

    Raises:
        UsageError: another flag says which frames are taken, too; see :func:`.at_rates`.
    """
    if "fps" in given and "max_frames" in given:
        raise UsageError("--max_frames and --fps are two ways of taking frames: leave out one")
    if values["rates"] is None:
        return dict(values)
    for flag in ("fps", "max_frames", "frame_strides"):
        if flag in given:
            raise UsageError(f"--rates and --{flag} both say which frames are seen: leave out one")
    fps, frame_strides = at_rates(values["rates"])
    return {**values, "fps": fps, "frame_strides": frame_strides}


def _refuse_other(
    values: Mapping[str, Any], given: frozenset[str], fixed: Mapping[str, Any], who: str
) -> None:
    """Refuse a given flag that differs from what ``who`` fixes."""
    for name in sorted(given & set(fixed)):
        if values[name] == fixed[name]:
            continue
        if fixed[name] is None:
            raise UsageError(f"{who} leaves no choice of --{name}: leave out one of the two")
        meant, said = (
            " ".join(map(str, value)) if isinstance(value, tuple) else value
            for value in (fixed[name], values[name])
        )
        raise UsageError(f"{who} means --{name} {meant}, not {said}: leave out one of the two")


def _check_windows(config: SurpriseConfig, sampling: Sampling) -> None:
    """A window fits into the clip."""
    longest = max(config.frame_strides)
    if sampling.fps is None and sampling.max_frames < reach(config.window_size, longest):
        spread = f", every frame in {longest}" if longest > 1 else ""
        raise UsageError(
            f"--max_frames {sampling.max_frames} is less than one window (--window_size "
            f"{config.window_size}{spread})"
        )


def _check_decoder(name: str) -> None:
    if name == "decord" and find_spec("decord") is None:
        raise UsageError(
            "--decoder decord is not installed: pip install -e '.[decord]' in the clone (64-bit x86 only), "
            "or use --decoder pyav"
        )


def _pictures(values: Mapping[str, Any], config: SurpriseConfig) -> Pictures:
    pictures = Pictures(folder=Path(values["pictures"]), plot=values["plot"], map=values["map"])
    for flag in ("plot", "plot_all", "map"):
        if values[flag]:
            check_pictures(f"--{flag}")
    if pictures.map and config.similarity == "token":
        raise UsageError("--map needs --similarity feature: comparing over tokens leaves no map")
    if pictures.plot or pictures.map:
        check_writable(pictures.folder)
    return pictures


def _motion(path: str | None, model: str, acts: bool) -> tuple[Motion | None, str | None]:
    check_given(path, acts, model)
    if path is None:
        return None, None
    motion = read_motion(path)
    return motion, hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _plot_all(name: str | None) -> Path | None:
    if name is None:
        return None
    path = user_path(name)
    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot_all {path} must end in .png")
    check_writable(path.parent)
    return path


def _output(name: str | None) -> RecordFile | None:
    """The output file, known to be writable and to hold only records."""
    if name is None:
        return None
    output = RecordFile(user_path(name))
    if output.path.is_dir():
        raise UsageError(f"--output {name} is a folder; give the name of a file in it")
    check_writable(output.path.parent)
    output.check_writable()
    output.read()
    return output


def check_writable(folder: Path) -> None:
    """Make the folder if need be; raise ``WMRewardError`` unless files can be written to it."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
