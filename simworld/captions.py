"""What is to be seen in a simulated video, as facts and as English prompts.

    facts = describe(trajectories, looks)                # tensors, on their device
    captions = write_captions(facts, generator)          # "a red ball on the left falls and bounces"

Everything is judged in the picture, after mirror, zoom and shift of the camera: left is left for who
watches. Places are those of the first frame; motions are those of the whole video.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.camera import project, project_points
from simworld.geometry import SHAPES, box_distance
from simworld.looks import COLOR_NAMES, PATTERNS, Looks
from simworld.scenes import FLOOR, LEFT, PLATFORM, RAMP, RIGHT, WALL
from simworld.trajectories import Trajectories

LONGEST = 110
"""Most bytes of a caption."""
SIDES = ("left", "middle", "right")
SIZES = ("small", "medium", "big")
MOTIONS = ("rest", "roll", "slide", "fall", "fly", "swing", "ramp", "move")
"""What an object does: lies still; rolls or slides over a level surface; drops; flies in an arc; hangs
and swings; comes down the ramp; anything else (it tumbles, or is pushed about)."""

UNKNOWN = -1
_SIDE_EDGE = 0.38  # x below: left; above its mirror image: right
_SMALL, _BIG = 0.072, 0.098  # sizes in picture widths
_STILL = 0.03  # moves that nobody notices, in picture widths
_LEVEL = 0.04  # height changes of what stays on a level surface
_DROP = 0.10  # smallest fall
_REBOUND = 0.05  # smallest bounce
_LEAP = 0.04  # what first rises by this, or drifts by _DRIFT while it falls, flies
_DRIFT = 0.15
_TURN = 0.8  # radians; less is no tumbling
_TOUCH = 0.02


@dataclasses.dataclass(frozen=True)
class Facts(TensorBatch):
    """What B videos show; O = 4 objects, S = 6 statics. Ids are -1 where there is nothing to say."""

    seen: Tensor
    """[B, O] the object's centre is in the picture at some time."""
    color: Tensor
    """[B, O] index into `COLOR_NAMES`."""
    shape: Tensor
    """[B, O] index into `SHAPES`."""
    pattern: Tensor
    """[B, O] index into `PATTERNS`."""
    size: Tensor
    """[B, O] index into `SIZES`."""
    side: Tensor
    """[B, O] index into `SIDES` at the first frame, -1 if it is not in the picture then."""
    motion: Tensor
    """[B, O] index into `MOTIONS`."""
    heading: Tensor
    """[B, O] sideways direction in which it sets off: -1 left, 0 none, 1 right."""
    enters: Tensor
    """[B, O] side from which it comes into the picture later on: -1 left, 1 right, else 0."""
    bounces: Tensor
    """[B, O] it comes up again after a fall."""
    lands: Tensor
    """[B, O] what it first falls on is the floor."""
    returns: Tensor
    """[B, O] later it clearly moves back, against its heading."""
    static_seen: Tensor
    """[B, S] which of `STATICS` are in the picture at the first frame."""
    static_color: Tensor
    """[B, S] index into `COLOR_NAMES`."""
    static_side: Tensor
    """[B, S] index into `SIDES`."""
    wall_color: Tensor
    """[B] background, index into `COLOR_NAMES`."""


@dataclasses.dataclass(frozen=True)
class Caption:
    """A prompt, and the ids of what it says of the object that it names first (-1: nothing)."""

    text: str
    color: int
    shape: int
    side: int
    motion: int


def _side(x: Tensor) -> Tensor:
    """Index into `SIDES` for places in picture widths."""
    return 1 + (x > 1.0 - _SIDE_EDGE).long() - (x < _SIDE_EDGE).long()


def _first(event: Tensor, otherwise: Tensor | int) -> Tensor:
    """First time of an event [B, T, O] -> [B, O]."""
    return torch.where(event.any(1), event.int().argmax(1), otherwise)


def _at(values: Tensor, time: Tensor) -> Tensor:
    """Entries of [B, T, O] at times [B, O]."""
    return values.gather(1, time.unsqueeze(1)).squeeze(1)


def _within(place: Tensor) -> Tensor:
    """Whether points [..., 2] lie in the picture."""
    return ((place > 0.0) & (place < 1.0)).all(-1)


def _watched(place: Tensor, within: Tensor) -> Tensor:
    """Places [B, T, O, 2], held where they were last seen while out of the picture.

    Before an object comes in, it is where it comes in.
    """
    time = torch.arange(place.shape[1], device=place.device)[None, :, None]
    last = torch.where(within, time, -1).cummax(1).values
    entry = within.int().argmax(1, keepdim=True)
    index = torch.where(last < 0, entry, last)
    return place.gather(1, index.unsqueeze(-1).expand_as(place))


def _on_ramp(t: Trajectories) -> Tensor:
    """[B, O] the object touches the ramp's upper side at the first frame."""
    relative = t.position[:, 0] - t.static_center[:, None, RAMP]
    angle, half = t.static_angle[:, None, RAMP], t.static_half[:, None, RAMP]
    distance, normal = box_distance(relative, angle, half)
    touches = distance < t.reach()[:, 0] + _TOUCH
    return touches & (normal[..., 1] > 0.5) & t.static_exists[:, None, RAMP]


@torch.no_grad()
def describe(trajectories: Trajectories, looks: Looks) -> Facts:
    """Facts about videos, from their geometry.

    Judges all frames of `trajectories` (cut them with `retime` if fewer are shown). Occluders are not
    looked at: what is hidden counts as seen.
    """
    t = trajectories
    place = project(t, looks)
    within = _within(place) & t.visible
    seen = within.any(1)
    watched = _watched(place, within)
    x, y = watched.unbind(-1)
    frames = t.frames

    offset = x - x[:, :1]
    sets_off = _first(offset.abs() > 2 * _STILL, frames)
    heading = _at(offset, sets_off.clamp(max=frames - 1)).sign() * (sets_off < frames)
    advance = offset * heading.unsqueeze(1)
    returns = (advance.cummax(1).values - advance).amax(1) > _DRIFT

    # A fall begins where the drop from the highest point so far gets large, and ends where it rises.
    drop = y.cummax(1).values - y
    begins = _first(drop > _DROP, frames)
    falls = begins < frames
    time = torch.arange(frames, device=y.device)[None, :, None]
    later = time >= begins.unsqueeze(1)
    rises = torch.cat((y[:, 1:] > y[:, :-1] - 1e-4, torch.ones_like(later[:, :1])), dim=1)
    ends = _first(rises & later, frames - 1)
    low = torch.where(later, y, 9.0).cummin(1).values
    bounces = falls & ((y - low) * later).amax(1).gt(_REBOUND)
    flies = y.cummax(1).values.sub(y[:, :1]).gather(1, ends.unsqueeze(1)).squeeze(1) > _LEAP
    flies = flies | (_at(offset, ends).abs() > _DRIFT)
    floor = t.static_center[:, FLOOR, 1] + t.static_half[:, FLOOR, 1]
    height = t.position[..., 1] - floor[:, None, None] - t.reach()
    lands = falls & (_at(height, ends) < _TOUCH)

    extent = watched.amax(1) - watched.amin(1)
    still = (extent < _STILL).all(-1)
    level = extent[..., 1] < _LEVEL
    round_ = t.shape[:, 0] == SHAPES.index("circle")
    turn = (t.angle - t.angle[:, :1]).abs().amax(1)
    names = {name: i for i, name in enumerate(MOTIONS)}
    motion = torch.full_like(t.shape[:, 0], names["move"])
    for name, condition in (
        ("fly", falls & flies),
        ("fall", falls & ~flies),
        ("ramp", _on_ramp(t) & falls & (heading != 0)),
        ("roll", level & round_ & (turn > _TURN) & (heading != 0)),
        ("slide", level & ~round_ & (turn < _TURN) & (heading != 0)),
        ("swing", t.tethered & ~still),
        ("rest", still),
    ):
        motion = torch.where(condition, names[name], motion)

    corner = t.static_center.clone()
    # Side walls reach far out: what shows is their inner face.
    corner[:, LEFT, 0] += t.static_half[:, LEFT, 0]
    corner[:, RIGHT, 0] -= t.static_half[:, RIGHT, 0]
    spot = project_points(corner.unsqueeze(1), looks, t.clock[:, :1])[:, 0]
    static_seen = t.static_exists & (spot[..., 0] > 0.02) & (spot[..., 0] < 0.98)

    width = t.size * looks.zoom.unsqueeze(1)
    nothing = torch.full_like(motion, UNKNOWN)
    return Facts(
        seen=seen,
        color=torch.where(seen, looks.object_color_id, nothing),
        shape=torch.where(seen, t.shape[:, 0], nothing),
        pattern=torch.where(seen, looks.pattern, nothing),
        size=torch.where(seen, 1 + (width > _BIG).long() - (width < _SMALL).long(), nothing),
        side=torch.where(within[:, 0], _side(x[:, 0]), nothing),
        motion=torch.where(seen, motion, nothing),
        heading=heading.long() * seen,
        enters=((x[:, 0] > 0.7).long() - (x[:, 0] < 0.3).long()) * (seen & ~within[:, 0]),
        bounces=bounces & seen,
        lands=lands & seen,
        returns=returns & seen,
        static_seen=static_seen,
        static_color=looks.static_color_id,
        static_side=_side(spot[..., 0]),
        wall_color=looks.wall_color_id,
    )


# --- words

_NOUNS = {
    "circle": ("ball", "ball", "circle"),
    "triangle": ("triangle",),
    "square": ("box", "square", "block"),
    "pentagon": ("pentagon",),
    "hexagon": ("hexagon",),
    "star": ("star",),
    "ring": ("ring",),
}
_PATTERN_WORDS = {"stripes": "striped", "checker": "checkered", "spot": "spotted"}
_BIG_WORDS, _SMALL_WORDS = ("big", "large"), ("small", "little")
_SIDE_WORDS = {
    "left": ("on the left", "at the left", "on the left side"),
    "middle": ("in the middle", "in the centre", "in the center"),
    "right": ("on the right", "at the right", "on the right side"),
}
_VERBS = {
    "rest": ("rests", "lies still", "does not move", "stays in place"),
    "roll": ("rolls",),
    "slide": ("slides",),
    "fall": ("falls", "drops", "falls down"),
    "fly": ("flies", "is thrown"),
    "swing": ("swings", "swings on a rod", "swings like a pendulum"),
    "move": ("moves",),
}
_HEADED = ("roll", "slide", "fly", "move")
_HEADING_WORDS = {-1: "left", 1: "right"}


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class _Writer:
    """Writes one caption from one row of facts."""

    def __init__(self, row: dict[str, Any], dice: random.Random) -> None:
        self.row, self.dice = row, dice

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def subject(self, o: int, color: bool, shape: bool) -> str:
        """Such as "big striped red ball"."""
        row, words = self.row, []
        size = SIZES[row["size"][o]]
        if size != "medium" and self.chance(0.5):
            words.append(self.dice.choice(_BIG_WORDS if size == "big" else _SMALL_WORDS))
        pattern = _PATTERN_WORDS.get(PATTERNS[row["pattern"][o]])
        if pattern and self.chance(0.2):
            words.append(pattern)
        if color:
            words.append(COLOR_NAMES[row["color"][o]])
        name = SHAPES[row["shape"][o]]
        words.append(self.dice.choice(_NOUNS[name]) if shape else "object")
        return " ".join(words)

    def action(self, o: int) -> str:
        """Such as "falls and bounces on the floor"."""
        row = self.row
        motion, enters = MOTIONS[row["motion"][o]], row["enters"][o]
        heading = _HEADING_WORDS.get(row["heading"][o])
        if motion == "ramp":
            verb = "rolls" if SHAPES[row["shape"][o]] == "circle" else "slides"
            return f"{verb} down the ramp"
        words = self.dice.choice(_VERBS[motion])
        if motion in _HEADED and enters and self.chance(0.7):
            words += f" in from the {_HEADING_WORDS[enters]}"
        elif motion in _HEADED and heading and self.chance(0.8):
            words += f" {heading}" if self.chance(0.5) else f" to the {heading}"
        if motion in ("fall", "fly"):
            if row["bounces"][o] and self.chance(0.75):
                words += " and bounces"
            if row["lands"][o] and motion == "fall" and self.chance(0.4):
                words += " on the floor" if "bounces" in words else " to the floor"
        elif motion in ("roll", "slide") and row["returns"][o] and self.chance(0.6):
            words += " and comes back"
        return words

    def place(self, side: int) -> str:
        return self.dice.choice(_SIDE_WORDS[SIDES[side]])

    def first(self, o: int) -> tuple[str, dict[str, int]]:
        """The sentence on the object named first, and what it says."""
        row = self.row
        says = {
            "color": self.chance(0.94),
            "shape": self.chance(0.94),
            "side": row["side"][o] != UNKNOWN and self.chance(0.85),
            "motion": self.chance(0.8),
        }
        words = self.subject(o, says["color"], says["shape"])
        if not self.chance(0.05):
            words = _article(words)
        place = self.place(row["side"][o]) if says["side"] else ""
        action = self.action(o) if says["motion"] else ""
        style = self.dice.random()
        if not place:
            text = f"{words} {action}".rstrip()
        elif style < 0.65:
            text = f"{words} {place} {action}".rstrip()
        elif style < 0.85 or not action:
            text = f"{place} {words} {action}".rstrip()
        else:
            text = f"{words} starts {place} and {action}"
        said = {name: row[name][o] if says[name] else UNKNOWN for name in says}
        return text, said

    def other(self, o: int) -> str:
        """A shorter sentence on another object."""
        words = _article(self.subject(o, color=True, shape=True))
        if self.row["side"][o] != UNKNOWN and self.chance(0.7):
            words = f"{words} {self.place(self.row['side'][o])}"
        return f"{words} {self.action(o)}" if self.chance(0.6) else words

    def scenery(self) -> list[str]:
        """Sentences on walls, ramp, platform and background."""
        row, found = self.row, []
        for slot, name in ((WALL, "wall"), (RAMP, "ramp"), (PLATFORM, "platform")):
            if not row["static_seen"][slot] or not self.chance(0.7):
                continue
            color = COLOR_NAMES[row["static_color"][slot]]
            words = _article(f"{color} {name}" if self.chance(0.7) else name)
            if self.chance(0.7):
                stands = "stands " if name == "wall" and self.chance(0.5) else ""
                words = f"{words} {stands}{self.place(row['static_side'][slot])}"
            found.append(words)
        if row["static_seen"][LEFT] and row["static_seen"][RIGHT] and self.chance(0.4):
            found.append(f"{COLOR_NAMES[row['static_color'][LEFT]]} walls on both sides")
        if self.chance(0.15):
            found.append(f"{COLOR_NAMES[row['wall_color']]} background")
        if self.chance(0.15):
            found.append(f"{COLOR_NAMES[row['static_color'][FLOOR]]} floor")
        return found

    def caption(self) -> Caption:
        """What fits into `LONGEST` bytes, most important first."""
        row = self.row
        objects = [o for o, seen in enumerate(row["seen"]) if seen]
        if not objects:
            return Caption("an empty scene", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        text, said = self.first(objects[0])
        parts = [self.other(o) for o in objects[1:] if self.chance(0.7)] + self.scenery()
        if self.chance(0.3):  # a short prompt
            parts = []
        for part in parts:
            joint = ", " if self.chance(0.6) else " and "
            if len(text) + len(joint) + len(part) <= LONGEST:
                text = f"{text}{joint}{part}"
        return Caption(text, **said)


def write_captions(facts: Facts, generator: torch.Generator) -> list[Caption]:
    """A prompt for each video: English, lower case, ASCII, at most `LONGEST` bytes, never false.

    Phrases vary, and parts are left out at random, so that short prompts occur too. The object named
    first is the first that is seen. Copies the facts to the CPU once.

    Args:
        generator: On any device; it determines the choice of words.
    """
    seed = torch.randint(1 << 62, (1,), generator=generator, device=generator.device)
    columns = [getattr(facts, field.name).tolist() for field in dataclasses.fields(facts)]
    names: Sequence[str] = [field.name for field in dataclasses.fields(facts)]
    dice = random.Random(int(seed))
    rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return [_Writer(row, dice).caption() for row in rows]
