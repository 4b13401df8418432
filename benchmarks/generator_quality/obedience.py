"""Does a clip show what its prompt asks for? Colour, side and motion of one object, by the detector.

Places are those of the first frames and motions those of the whole clip, as in the captions that
generators are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from benchmarks.shared.held_out import HeldOut
from benchmarks.shared.object_detector import OBJECT_COLORS, Detections
from simworld.captions import MOTIONS, SIDES, Facts
from simworld.geometry import SHAPES
from simworld.looks import COLOR_NAMES

NOUNS = {"circle": "ball", "triangle": "triangle", "square": "box"}
MOVES = ("rest", "fall", "left", "right")
_OTHER = {"left": "right", "right": "left", "rest": "fall", "fall": "rest", "": ""}

_EARLY = 12  # frames in half of which the colour must be found
_MIDDLE = 0.05  # half width of the strip that is neither left nor right
_STILL = 0.05  # resting objects stay within this
_SETS_OFF = 0.04  # sideways motion begins with this
_DROP = 0.08  # a fall is at least this deep


@dataclass(frozen=True)
class Request:
    """What is asked of a clip.

    Attributes:
        text: The prompt.
        color: Index into `OBJECT_COLORS` of the object asked for.
        side: "left" or "right", where it starts; or "" if nothing is said.
        move: One of `MOVES`.
    """

    text: str
    color: int
    side: str
    move: str


def request(color: str, shape: str, side: str, move: str) -> Request:
    """In words such as "a red ball on the left rolls to the right"."""
    verb = "rolls" if shape == "circle" else "slides"
    action = {"rest": "lies still", "fall": "falls"}.get(move, f"{verb} to the {move}")
    article = "an" if color[0] in "aeiou" else "a"
    place = f" on the {side}" if side else ""
    text = f"{article} {color} {NOUNS[shape]}{place} {action}"
    return Request(text, OBJECT_COLORS.index(color), side, move)


def all_requests() -> list[Request]:
    """Every colour, shape and side with three motions: resting, falling, crossing to the other side."""
    return [
        request(color, shape, side, _OTHER[side] if move == "across" else move)
        for color, shape, side, move in product(
            OBJECT_COLORS, NOUNS, ("left", "right"), ("rest", "fall", "across")
        )
    ]


def _move(facts: Facts, row: int, o: int) -> str:
    """One of `MOVES`, or "" for what has no such simple word."""
    motion = MOTIONS[int(facts.motion[row, o])]
    if motion in ("roll", "slide"):
        return "left" if facts.heading[row, o] < 0 else "right"
    return motion if motion in MOVES else ""


def _protagonist(facts: Facts, row: int) -> tuple[int, str]:
    """The object that captions name first, and its move; ("" if it is not to be seen)."""
    seen = facts.seen[row]
    o = int(seen.int().argmax())
    return o, _move(facts, row, o) if seen.any() else ""


def true_requests(clips: HeldOut) -> tuple[Tensor, list[Request]]:
    """The requests that true clips fulfil: indices [N] of the clips and what they show.

    One for each clip whose first seen object starts left or right and rests, falls or crosses.
    """
    rows, found = [], []
    for row in range(len(clips)):
        o, move = _protagonist(clips.facts, row)
        side = SIDES[int(clips.facts.side[row, o])] if clips.facts.side[row, o] >= 0 else "middle"
        if move and side not in ("middle", move):
            rows.append(row)
            found.append(request(*_names(clips.facts, row, o), side, move))
    return torch.tensor(rows, dtype=torch.long), found


def steering_requests(clips: HeldOut) -> tuple[Tensor, list[Request], list[Request]]:
    """Clips whose first frame leaves open where an object will roll or slide, with words for both ways.

    Returns:
        Indices [N] of the clips, requests for what truly happens, requests for the opposite.
    """
    rows, true, opposite = [], [], []
    for row in range(len(clips)):
        o, move = _protagonist(clips.facts, row)
        if move in ("left", "right") and clips.facts.side[row, o] >= 0:
            names = _names(clips.facts, row, o)
            rows.append(row)
            true.append(request(*names, "", move))
            opposite.append(request(*names, "", _OTHER[move]))
    return torch.tensor(rows, dtype=torch.long), true, opposite


def _names(facts: Facts, row: int, o: int) -> tuple[str, str]:
    return COLOR_NAMES[int(facts.color[row, o])], SHAPES[int(facts.shape[row, o])]


def obeyed(detections: Detections, requests: list[Request]) -> dict[str, Tensor]:
    """Whether clips do what was asked of them: {"color", "side", "move", "all"}, 0 or 1, [B] each.

    Colour: it is found in at least half of the first twelve frames. Side: where it is first found;
    the middle tenth of the picture is neither. Move: stays, drops or sets off sideways from there.
    Without the colour nothing is obeyed; a side that was not asked for is.
    """
    device = detections.area.device
    color = torch.tensor([r.color for r in requests], device=device)
    rows = torch.arange(len(requests), device=device)
    found = detections.found[rows, :, color]  # [B, T]
    x, y = detections.center[rows, :, color].unbind(-1)
    has_color = found[:, :_EARLY].float().mean(dim=1) >= 0.5

    start_x = x.gather(1, found.int().argmax(dim=1, keepdim=True))  # [B, 1]
    offset = torch.where(found, x - start_x, 0.0)
    off = offset.abs() > _SETS_OFF
    heading = offset.gather(1, off.int().argmax(dim=1, keepdim=True)).squeeze(1).sign()
    heading = heading * off.any(dim=1)
    drop = torch.where(found, y, -9.0).cummax(dim=1).values - torch.where(found, y, 9.0)
    still = torch.maximum(_extent(x, found), _extent(y, found)) < _STILL
    does = {
        "rest": still,
        "fall": drop.amax(dim=1) > _DROP,
        "left": heading < 0,
        "right": heading > 0,
    }
    lies = {
        "left": start_x.squeeze(1) < 0.5 - _MIDDLE,
        "right": start_x.squeeze(1) > 0.5 + _MIDDLE,
        "": torch.ones_like(has_color),
    }
    on_side = torch.stack([lies[r.side][i] for i, r in enumerate(requests)]) & has_color
    moves = torch.stack([does[r.move][i] for i, r in enumerate(requests)]) & has_color
    verdicts = {"color": has_color, "side": on_side, "move": moves, "all": on_side & moves}
    return {name: verdict.float() for name, verdict in verdicts.items()}


def contradicted(detections: Detections, requests: list[Request]) -> dict[str, Tensor]:
    """Whether clips obey requests with one word turned into its opposite: {"color", "side", "move"}.

    What ignores a word obeys its opposite as often. Opposite colours are half of the table apart.
    """
    half, colors = len(OBJECT_COLORS) // 2, len(OBJECT_COLORS)
    wrong = {
        "color": [replace(r, color=(r.color + half) % colors) for r in requests],
        "side": [replace(r, side=_OTHER[r.side]) for r in requests],
        "move": [replace(r, move=_OTHER[r.move]) for r in requests],
    }
    return {word: obeyed(detections, changed)[word] for word, changed in wrong.items()}


def _extent(values: Tensor, mask: Tensor) -> Tensor:
    """Largest less smallest of values [B, T] where the mask holds, [B]."""
    return torch.where(mask, values, -9.0).amax(dim=1) - torch.where(mask, values, 9.0).amin(dim=1)
