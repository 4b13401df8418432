"""Impossible twins: the same scene, breaking one rule from a violation frame on.

A kind is a way to choose the violation frame, a way to make the twin (an intervention in a second
simulation, or an edit of the frames' order), and rules that keep only pairs in which a viewer can
see the violation. Twins equal their possible videos bit for bit before the violation frame. It is
always object 0 that breaks the rule, except where the whole world does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from simworld.batch import Draw
from simworld.camera import in_picture, project, seen
from simworld.geometry import SHAPES, box_distance
from simworld.looks import Looks
from simworld.physics import Intervention, simulate
from simworld.scenes import FLOOR, SCENARIO_NAMES, WALL, Scenes, Split
from simworld.trajectories import PER_FRAME, Trajectories, hidden

VIOLATIONS = (
    "vanish",  # object 0 is gone
    "vanish_occ",  # the same while it is hidden: it does not come out again
    "appear",  # object 0 is suddenly there; the possible video never has it
    "teleport",  # jumps elsewhere and moves on from there
    "pass_wall",  # moves through the wall that should stop it
    "fall_through_floor",  # the floor no longer carries it
    "gravity_flip",  # gravity points up, for everything
    "kick",  # changes its velocity without a cause
    "hover_stop",  # stops in mid air and stays
    "shape",  # turns into another shape
    "color",  # turns into another colour
    "color_occ",  # the same while it is hidden
    "freeze_all",  # the video stands still
    "reverse_mid",  # the video turns back in time
    "shuffle",  # the rest of the frames come in random order
    "reverse_all",  # the whole video runs backwards; violation frame 0
)
"""All kinds of violation."""
HIDDEN = frozenset({"vanish_occ", "color_occ"})
"""Kinds that happen behind an occluder: only memory of the object can tell."""
RETIMED = frozenset({"freeze_all", "reverse_mid", "shuffle", "reverse_all"})
"""Kinds that reorder the frames of the possible video."""

_MOVING = tuple(name for name in SCENARIO_NAMES if name != "rest")
_UNTIED = tuple(name for name in _MOVING if name != "pendulum")
KIND_SCENARIOS = {
    "vanish": SCENARIO_NAMES,
    # A pendulum's rod would be seen to go with the bob.
    "vanish_occ": tuple(name for name in SCENARIO_NAMES if name != "pendulum"),
    "appear": tuple(name for name in SCENARIO_NAMES if name != "pendulum"),
    "teleport": _UNTIED,
    "pass_wall": ("wall",),
    "fall_through_floor": _UNTIED,
    "gravity_flip": SCENARIO_NAMES,
    "kick": _UNTIED,
    "hover_stop": ("flight", "wall", "stack"),
    "shape": SCENARIO_NAMES,
    "color": SCENARIO_NAMES,
    "color_occ": SCENARIO_NAMES,
    "freeze_all": _MOVING,
    "reverse_mid": _MOVING,
    "shuffle": _MOVING,
    "reverse_all": _UNTIED,
}
"""Scenarios from which the scenes of each kind are drawn."""

DIVERGENCE = 0.12
"""How far apart, in picture widths, the twins' objects must get where a trajectory is broken."""
SMALLEST = {"shape": 0.07, "color": 0.06, "color_occ": 0.06}
"""Smallest size of object 0, in picture widths, where its shape or colour has to be made out."""
_SOON = 10  # frames within which they must be
_PIXEL = 1.0 / 64.0


@dataclasses.dataclass(frozen=True)
class Twins:
    """Candidates for pairs, with the ones to keep."""

    possible: Trajectories
    impossible: Trajectories
    violation_frame: Tensor  # [N]
    rows: Tensor  # [N] positions in the batch of scenes


def violation_range(frames: int) -> tuple[int, int]:
    """First and last frame at which a violation may begin: 13 and 26 of 40."""
    return round(0.325 * frames), round(0.65 * frames)


def throughout(mask: Tensor, before: int, after: int) -> Tensor:
    """[B, T] whether `mask` holds at all of the frames t - before ... t + after."""
    frames = mask.shape[1]
    padded = torch.nn.functional.pad(mask, (before, after))
    return torch.stack([padded[:, k : k + frames] for k in range(before + after + 1)]).all(0)


def choose_frame(good: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """A random frame [B] among the `good` ones [B, T] in the violation range, and if there is one."""
    low, high = violation_range(good.shape[1])
    time = torch.arange(good.shape[1], device=good.device)
    good = good & (time >= low) & (time <= high)
    score = torch.where(good, draw.uniform(0.0, 1.0, good.shape[1]), -1.0)
    return score.argmax(1), good.any(1)


def first_difference(a: Trajectories, b: Trajectories) -> Tensor:
    """[B] first frame at which object 0 is elsewhere (T if never)."""
    differs = ((a.position[:, :, 0] - b.position[:, :, 0]).abs() > 1e-5).any(-1)
    frames = differs.shape[1]
    return torch.where(differs.any(1), differs.to(torch.int64).argmax(1), frames)


def _since(frame: Tensor, frames: int) -> Tensor:
    """[B, T] time since the violation."""
    return torch.arange(frames, device=frame.device) - frame.unsqueeze(1)


def _holds(mask: Tensor, frame: Tensor, low: int, high: int) -> Tensor:
    """[B] whether `mask` [B, T] holds at frame + low ... frame + high."""
    since = _since(frame, mask.shape[1])
    return (mask | (since < low) | (since > high)).all(1)


def _diverges(
    possible: Trajectories, impossible: Trajectories, looks: Looks, frame: Tensor
) -> Tensor:
    """[B] object 0 soon is far from where it should be, and one of the two places is in sight."""
    offset = project(possible, looks)[:, :, 0] - project(impossible, looks)[:, :, 0]
    far = torch.hypot(offset[..., 0], offset[..., 1]) >= DIVERGENCE
    sight = seen(possible, looks)[:, :, 0] | seen(impossible, looks)[:, :, 0]
    since = _since(frame, far.shape[1])
    return (far & sight & (since >= 0) & (since <= _SOON)).any(1)


def _speed(possible: Trajectories, looks: Looks) -> Tensor:
    """[B, T] motion of object 0 since the last frame, in picture widths."""
    place = project(possible, looks)[:, :, 0]
    step = (place[:, 1:] - place[:, :-1]).norm(dim=-1)
    return torch.cat((step[:, :1], step), dim=1)


def _large_enough(kind: str, scenes: Scenes, looks: Looks) -> Tensor:
    """[B] object 0 is large enough in the picture for this kind."""
    return scenes.size[:, 0] * looks.zoom >= SMALLEST.get(kind, 0.0)


def _gap(trajectories: Trajectories, position: Tensor) -> Tensor:
    """[B, T] free space around object 0 if it were at `position` [B, T, 2]."""
    t = trajectories
    radius = t.reach()
    apart = (position.unsqueeze(2) - t.position[:, :, 1:]).norm(dim=-1)
    apart = apart - radius[..., :1] - radius[..., 1:]
    apart = torch.where(t.visible[:, :, 1:], apart, 9.0).amin(2)
    relative = position.unsqueeze(2) - t.static_center.unsqueeze(1)
    solid = box_distance(relative, t.static_angle.unsqueeze(1), t.static_half.unsqueeze(1))[0]
    solid = torch.where(t.static_exists.unsqueeze(1), solid, 9.0).amin(2) - radius[..., 0]
    return torch.minimum(apart, solid)


def _gap_to_objects(trajectories: Trajectories) -> Tensor:
    """[B, T] distance of object 0 from the nearest other object."""
    t, radius = trajectories, trajectories.reach()
    apart = (t.position[:, :, :1] - t.position[:, :, 1:]).norm(dim=-1)
    apart = apart - radius[..., :1] - radius[..., 1:]
    return torch.where(t.visible[:, :, 1:], apart, 9.0).amin(2)


def _at(values: Tensor, frame: Tensor) -> Tensor:
    """Entries of [B, T, ...] at frame [B]."""
    return values[torch.arange(len(values), device=values.device), frame]


def _rerun(
    scenes: Scenes, possible: Trajectories, plan: Intervention, keep: Tensor
) -> tuple[Trajectories, Tensor]:
    """Simulate the kept scenes with their interventions; occluders stay where they are."""
    rows = keep.nonzero().squeeze(1)
    twin = simulate(scenes[rows], possible.frames, intervention=plan[rows])
    original = possible[rows]
    twin = dataclasses.replace(
        twin,
        occluder_center=original.occluder_center,
        occluder_half=original.occluder_half,
        occluder_exists=original.occluder_exists,
    )
    return twin, rows


def _edit_object(values: Tensor, new: Tensor | float) -> Tensor:
    """A copy of [B, O, ...] with object 0's entry replaced."""
    values = values.clone()
    values[:, 0] = new
    return values


def make_twins(
    kind: str,
    scenes: Scenes,
    possible: Trajectories,
    looks: Looks,
    draw: Draw,
    split: Split,
) -> Twins:
    """Twins of `kind` for those scenes of the batch in which the violation is well visible.

    Args:
        kind: one of `VIOLATIONS`.
        scenes: initial conditions; `possible` is their simulation, `looks` how they are seen.
        draw: source of randomness for B scenes.
        split: decides into which shapes objects may turn.
    """
    if kind not in VIOLATIONS:
        raise ValueError(f"kind must be one of {', '.join(VIOLATIONS)}; got {kind!r}")
    if kind in RETIMED:
        return _retimed(kind, scenes, possible, looks, draw)
    if kind in HIDDEN:
        return _behind_occluder(kind, scenes, possible, looks, draw)
    makers: dict[str, Callable[..., Twins]] = {"appear": _appear, "pass_wall": _pass_wall}
    maker = makers.get(kind, _in_the_open)
    return maker(kind, scenes, possible, looks, draw, split)


def _in_the_open(
    kind: str, scenes: Scenes, possible: Trajectories, looks: Looks, draw: Draw, split: Split
) -> Twins:
    """Kinds that befall object 0 in full view at a chosen frame."""
    plan = Intervention.none(scenes)
    in_sight = seen(possible, looks)[:, :, 0]
    good = throughout(in_sight, 3, 4 if kind in ("vanish", "shape", "color") else 0)
    if kind == "hover_stop":
        # Well above everything, and not at the top of its flight, where stopping is no surprise.
        free = _gap(possible, possible.position[:, :, 0]) > 0.03
        good = (
            good & throughout(free, 1, 1) & throughout(_speed(possible, looks) > 0.6 * _PIXEL, 1, 0)
        )
    if kind == "kick":
        good = good & throughout(_gap_to_objects(possible) > 0.06, 2, 1)
    if kind in SMALLEST:
        good = good & _large_enough(kind, scenes, looks).unsqueeze(1)
    frame, keep = choose_frame(good, draw)
    plan = dataclasses.replace(plan, frame=frame)
    edit: dict[str, Tensor] = {}
    if kind == "vanish":
        edit["absent_from"] = _edit_object(plan.absent_from, frame)
        edit["absent_until"] = _edit_object(plan.absent_until, possible.frames)
    elif kind == "teleport":
        place = _at(possible.position[:, :, 0], frame - 1)
        target = torch.stack((draw.uniform(0.05, 0.95), draw.uniform(0.2, 0.95)), dim=-1)
        shift = target - place
        there = possible.position[:, :, 0] + shift.unsqueeze(1)
        keep = keep & (_at(_gap(possible, there), frame - 1) > 0.01)
        keep = keep & (shift.norm(dim=-1) * looks.zoom > 0.22)
        edit["shift"] = _edit_object(plan.shift, shift)
    elif kind == "fall_through_floor":
        ghost = plan.ghost.clone()
        ghost[:, 0, FLOOR] = True
        edit["ghost"] = ghost
    elif kind == "gravity_flip":
        edit["gravity_factor"] = torch.full_like(plan.gravity_factor, -1.0)
    elif kind == "kick":
        # Any direction, but not into the floor.
        heading = draw.uniform(-0.3, 3.44)
        change = draw.uniform(0.028, 0.055) / looks.zoom
        kick = change.unsqueeze(1) * torch.stack((heading.cos(), heading.sin()), dim=-1)
        edit["kick"] = _edit_object(plan.kick, kick)
    elif kind == "hover_stop":
        edit["halt"] = _edit_object(plan.halt, True)
    elif kind == "shape":
        edit["shape"] = _edit_object(plan.shape, _other_shape(scenes.shape[:, 0], draw, split))
    elif kind == "color":
        edit["recolor"] = _edit_object(plan.recolor, True)
    twin, rows = _rerun(scenes, possible, dataclasses.replace(plan, **edit), keep)
    original, view, frame = possible[rows], looks[rows], frame[rows]

    good_twin = torch.ones_like(rows, dtype=torch.bool)
    twin_seen = seen(twin, view)[:, :, 0]
    if kind == "fall_through_floor":
        low, high = violation_range(possible.frames)
        frame = first_difference(original, twin)
        good_twin &= (frame >= low) & (frame <= high)
        good_twin &= _holds(seen(original, view)[:, :, 0], frame, -3, 2)
    if kind in ("teleport", "kick", "hover_stop", "shape"):
        good_twin &= _holds(twin_seen, frame, 0, 4)
    if kind == "gravity_flip":
        good_twin &= _holds(twin_seen, frame, 0, 2)
    if kind in ("teleport", "fall_through_floor", "gravity_flip", "kick", "hover_stop"):
        good_twin &= _diverges(original, twin, view, frame)
    return _select(original, twin, frame, rows, good_twin)


def _select(
    possible: Trajectories, impossible: Trajectories, frame: Tensor, rows: Tensor, keep: Tensor
) -> Twins:
    """Keep some candidates, and make the frames before the violation equal bit for bit.

    They are equal anyway up to rounding, which on some devices depends on the size of the batch.
    """
    before = torch.arange(possible.frames, device=frame.device) < frame.unsqueeze(1)

    def splice(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(before.reshape(before.shape + (1,) * (a.dim() - 2)), a, b)

    impossible = dataclasses.replace(
        impossible,
        **{name: splice(getattr(possible, name), getattr(impossible, name)) for name in PER_FRAME},
    )
    return Twins(possible[keep], impossible[keep], frame[keep], rows[keep])


def _other_shape(shape: Tensor, draw: Draw, split: Split) -> Tensor:
    """A clearly different shape of the same split for each of [B]."""
    names = {
        "circle": ("square", "triangle"),
        "triangle": ("circle", "square"),
        "square": ("circle", "triangle"),
        "pentagon": ("star", "ring"),
        "hexagon": ("star", "ring"),
        "star": ("hexagon", "ring"),
        "ring": ("star", "hexagon"),
    }
    table = torch.tensor(
        [[SHAPES.index(other) for other in names[name]] for name in SHAPES], device=shape.device
    )
    return table[shape, draw.integer(0, 1)]


def _appear(
    kind: str, scenes: Scenes, possible: Trajectories, looks: Looks, draw: Draw, split: Split
) -> Twins:
    """Object 0 comes from nowhere; in the possible video it never exists.

    Before it appears it moves on unseen and touches no other object, so both videos agree.
    """
    never = Intervention.none(scenes)
    never = dataclasses.replace(
        never, absent_until=_edit_object(never.absent_until, possible.frames)
    )
    alone, rows = _rerun(scenes, possible, never, torch.ones_like(scenes.exists[:, 0]))
    there = dataclasses.replace(alone, visible=alone.visible | scenes.exists.unsqueeze(1))
    free = _gap_to_objects(there) > 0.005
    good = throughout(seen(there, looks)[:, :, 0], 1, 4) & throughout(free, 1, 0)
    frame, keep = choose_frame(good, draw)
    plan = dataclasses.replace(never, absent_until=_edit_object(never.absent_until, frame))
    twin, rows = _rerun(scenes, possible, plan, keep)
    good_twin = _holds(seen(twin, looks[rows])[:, :, 0], frame[rows], 0, 4)
    return _select(alone[rows], twin, frame[rows], rows, good_twin)


def _pass_wall(
    kind: str, scenes: Scenes, possible: Trajectories, looks: Looks, draw: Draw, split: Split
) -> Twins:
    """The wall does not exist for object 0: the violation begins when it should be stopped."""
    plan = Intervention.none(scenes)
    ghost = plan.ghost.clone()
    ghost[:, 0, WALL] = True
    twin, rows = _rerun(
        scenes, possible, dataclasses.replace(plan, ghost=ghost), scenes.static_exists[:, WALL]
    )
    original, view = possible[rows], looks[rows]
    low, high = violation_range(possible.frames)
    frame = first_difference(original, twin)
    keep = (frame >= low) & (frame <= high)
    frame = frame.clamp(max=possible.frames - 1)
    keep &= _holds(seen(original, view)[:, :, 0], frame, -3, 1)
    keep &= _holds(seen(twin, view)[:, :, 0], frame, -3, 4)
    # It really goes through: its centre comes to lie inside the wall, soon, while in sight.
    side = (twin.position[:, :, 0] - original.static_center[:, None, WALL]).abs()
    within = (side < original.static_half[:, None, WALL]).all(-1) & seen(twin, view)[:, :, 0]
    since = _since(frame, original.frames)
    keep &= (within & (since >= 0) & (since <= 8)).any(1)
    keep &= _diverges(original, twin, view, frame)
    return _select(original, twin, frame, rows, keep)


def _behind_occluder(
    kind: str, scenes: Scenes, possible: Trajectories, looks: Looks, draw: Draw
) -> Twins:
    """Object 0 vanishes or changes colour while nothing of it is to be seen."""
    covered = hidden(possible)[:, :, 0] & in_picture(possible, looks)[:, :, 0]
    in_sight = seen(possible, looks)[:, :, 0]
    frame, keep = choose_frame(throughout(covered, 1, 0), draw)
    keep &= _large_enough(kind, scenes, looks)
    number = covered.sum(1)
    keep &= (number >= 4) & (number <= 9)
    since = _since(frame, possible.frames)
    keep &= (in_sight & (since < 0) & (since >= -12)).sum(1) >= 3
    keep &= (in_sight & (since > 0) & (since <= 12)).sum(1) >= 3
    plan = dataclasses.replace(Intervention.none(scenes), frame=frame)
    if kind == "vanish_occ":
        plan = dataclasses.replace(
            plan,
            absent_from=_edit_object(plan.absent_from, frame),
            absent_until=_edit_object(plan.absent_until, possible.frames),
        )
    else:
        plan = dataclasses.replace(plan, recolor=_edit_object(plan.recolor, True))
    twin, rows = _rerun(scenes, possible, plan, keep)
    original, frame = possible[rows], frame[rows]
    # What it held up or pushed must not give it away while it is still covered.
    moved = (twin.position - original.position)[:, :, 1:].abs().amax((2, 3)) > 1e-4
    revealed = moved & covered[rows] & (_since(frame, possible.frames) >= 0)
    return _select(original, twin, frame, rows, ~revealed.any(1))


def _retimed(kind: str, scenes: Scenes, possible: Trajectories, looks: Looks, draw: Draw) -> Twins:
    """Kinds that reorder time. Only where object 0 moves, in full view, by more than a pixel."""
    frames = possible.frames
    time = torch.arange(frames, device=scenes.gravity.device).expand(len(scenes), frames)
    in_sight = seen(possible, looks)[:, :, 0]
    speed = _speed(possible, looks)
    if kind == "reverse_all":
        frame, keep = torch.zeros_like(scenes.scenario), _irreversible(scenes, possible, in_sight)
        moving = (speed > _PIXEL) & in_sight
        keep &= moving.sum(1) >= 8
        index = frames - 1 - time
    else:
        moving = throughout(speed > _PIXEL, 2, 2)
        frame, keep = choose_frame(throughout(in_sight, 3, 4) & moving, draw)
        last = (frame - 1).unsqueeze(1)
        if kind == "freeze_all":
            index = torch.minimum(time, last)
        elif kind == "reverse_mid":
            index = torch.where(time > last, (2 * last - time).abs(), time)
        else:
            key = torch.where(time > last, draw.uniform(0.0, 1.0, frames), -1.0 - frames + time)
            # The frame that is due comes last, so that the violation begins at once.
            index = torch.where(time == frame.unsqueeze(1), 2.0, key).argsort(dim=1)
    rows = keep.nonzero().squeeze(1)
    original, frame = possible[rows], frame[rows]
    twin = original.retime(index[rows])
    good = torch.ones_like(frame, dtype=torch.bool)
    if kind != "reverse_all":
        good = _diverges(original, twin, looks[rows], frame)
    return _select(original, twin, frame, rows, good)


def _irreversible(scenes: Scenes, possible: Trajectories, in_sight: Tensor) -> Tensor:
    """[B] object 0 loses much energy in sight: backwards it gains it from nowhere.

    Free flight and a swinging pendulum look possible in reverse.
    """
    path = possible.position[:, :, 0]
    velocity = path[:, 1:] - path[:, :-1]
    height = 0.5 * (path[:, 1:, 1] + path[:, :-1, 1])
    head = height + (velocity**2).sum(-1) / (2.0 * scenes.gravity.unsqueeze(1))
    sight = in_sight[:, 1:] & in_sight[:, :-1]
    highest = torch.where(sight, head, -9.0).cummax(dim=1).values
    return (torch.where(sight, highest - head, 0.0) > 0.10).any(1)
