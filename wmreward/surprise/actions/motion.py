"""What a robot did: motion files, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wmfiles import read_json
from wmfiles.arrays import read_arrays
from wmreward.errors import UsageError, named
from wmreward.files import user_path

if TYPE_CHECKING:
    from torch import Tensor

STEP_RATE = 4.0
"""Steps per second that the released model was trained at."""
MAX_STEPS = 32
"""The longest sequence its attention mask was made for."""

_FIELDS = ("actions", "states")
_MOST_BYTES = 2**20
"""Of a motion; the longest has two thousand."""

ACTIONS_HELP = (
    "a .npz or .json file with 'actions' [T-1, 7] and 'states' [T, 7], one row per step "
    "at 4 steps a second"
)


class Motion(NamedTuple):
    """What the robot did: ``actions [T − 1, 7]`` between and ``states [T, 7]`` at the frames of a video."""

    actions: Tensor
    states: Tensor


def read_motion(path: str | Path) -> Motion:
    """Read a motion file; raises ``UsageError`` if it does not hold real actions and states."""
    path = user_path(path)
    if not path.exists():
        raise UsageError(f"actions file {path} does not exist")
    if path.suffix.lower() == ".npz":
        fields: Any = read_arrays(path, _FIELDS, most=_MOST_BYTES, refuse=_refused)
    else:
        fields = read_json(path, refuse=_refused, most=_MOST_BYTES)
        if not isinstance(fields, dict):
            raise _refused(path, "is no object")
        for name in _FIELDS:
            if name not in fields:
                raise _refused(path, f"has no {name!r}")
    try:
        rows = [np.asarray(fields[name], dtype=np.float32) for name in _FIELDS]
    except (ValueError, TypeError, OverflowError):
        raise _refused(
            path, "has rows of different lengths, or something else than numbers"
        ) from None
    from torch import from_numpy  # not before the file is known to hold numbers

    motion = Motion(*map(from_numpy, rows))
    try:
        check_motion(motion)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return motion


def _refused(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path}: not an actions file ({reason}); it must be {ACTIONS_HELP}")


def check_given(motion: object, acts: bool, model: str) -> None:
    """Raise ``UsageError`` unless there is a motion exactly where the model knows actions."""
    if acts and motion is None:
        raise UsageError(
            f"model {model!r} predicts from what a robot did: it needs real actions and states "
            f"({named('motion', flag='actions')}); for other videos use vitg"
        )
    if motion is not None and not acts:
        raise UsageError(f"model {model!r} takes no actions; use vitgac")


def check_motion(motion: Motion, frames: int | None = None) -> None:
    """Refuse motions of wrong shape, not finite, or of another length than the video."""
    actions, states = motion
    if actions.ndim != 2 or states.ndim != 2 or actions.shape[1] != 7 or states.shape[1] != 7:
        raise UsageError(
            f"actions {list(actions.shape)} and states {list(states.shape)} must be {ACTIONS_HELP}"
        )
    if len(states) != len(actions) + 1:
        raise UsageError(
            f"{len(actions)} actions need {len(actions) + 1} states (one before and one after each), "
            f"not {len(states)}"
        )
    if not (actions.isfinite().all() and states.isfinite().all()):
        raise UsageError("actions or states contain NaN or infinity")
    if not 1 <= len(actions) < MAX_STEPS:
        raise UsageError(f"{len(states)} steps: the model takes 2 to {MAX_STEPS}; cut the video")
    if frames is not None and frames != len(states):
        raise UsageError(
            f"the video has {frames} steps at {STEP_RATE:g} a second, but the file holds {len(states)} states"
        )
