"""Possible films and impossible twins of pymunk's scenes, by the kinds of `simworld.VIOLATIONS`.

Drawn by rejection: object 0 is in full view around the violation, and where a path is broken the two
soon lie well apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.transfer.scenes import (
    FLOOR,
    FRAMES,
    THINGS,
    WALL,
    Box,
    Break,
    Film,
    Rng,
    Scene,
    play,
    random_scene,
)

DIVERGENCE = 0.12
"""How far apart the two objects must get within half a second, in picture widths."""
_SOON = 12
_EARLIEST, _LATEST = 16, 30
_MOVES = 0.008  # picture widths per frame: a pixel of 128
_OPEN = ("thrown", "rolling", "dropped", "wall", "ramp")
_MOST_TRIES = 4000

Twins = tuple[Film, Film, int]
"""Possible, impossible, and the first frame that differs."""


@dataclass(frozen=True)
class Pair:
    """One scene, filmed twice."""

    kind: str
    scene: Scene
    possible: Film
    impossible: Film
    frame: int


def make_pair(kind: str, rng: Rng) -> Pair:
    """Draw scenes until one shows the violation."""
    settings, twin = KINDS[kind]
    for _ in range(_MOST_TRIES):
        scene = random_scene(rng, settings, alone=kind == "appear")
        possible = play(scene)
        if kind.endswith("_occ"):
            scene = replace(scene, screen=_screen(scene, possible, rng))
            if scene.screen is None:
                continue
        found = twin(kind, scene, possible, rng)
        if found is not None:
            return Pair(kind, scene, *found)
    raise RuntimeError(f"no pair of kind {kind!r} in {_MOST_TRIES} scenes")


def _in_view(scene: Scene, film: Film) -> np.ndarray:
    """[T] object 0 lies within the picture."""
    place, size = film.position[:, 0], scene.bodies[0].size
    return np.all((place > size) & (place < 1 - size), axis=-1)


def _speed(film: Film) -> np.ndarray:
    """[T] how far object 0 came since the last frame."""
    step = np.linalg.norm(np.diff(film.position[:, 0], axis=0), axis=-1)
    return np.concatenate([step[:1], step])


def _around(mask: np.ndarray, before: int, after: int) -> np.ndarray:
    """[T] the mask holds at all of the frames t - before ... t + after."""
    good = np.zeros_like(mask)
    for t in range(before, len(mask) - after):
        good[t] = mask[t - before : t + after + 1].all()
    return good


def _choose(good: np.ndarray, rng: Rng) -> int | None:
    times = [t for t in range(_EARLIEST, _LATEST + 1) if good[t]]
    return int(rng.choice(times)) if times else None


def _apart(scene: Scene, a: Film, b: Film, frame: int) -> bool:
    """The twins' objects get far from each other soon, and one of them in view."""
    far = np.linalg.norm(a.position[:, 0] - b.position[:, 0], axis=-1) > DIVERGENCE
    sight = _in_view(scene, a) | _in_view(scene, b)
    return bool((far & sight)[frame : frame + _SOON + 1].any())


def _open(kind: str, scene: Scene, possible: Film, rng: Rng) -> Twins | None:
    """The kinds that change nothing but how object 0 looks, or whether it is there."""
    frame = _choose(_around(_in_view(scene, possible), 3, 5), rng)
    if frame is None:
        return None
    late = np.arange(FRAMES) >= frame
    if kind == "vanish":
        others = play(scene, Break(frame, through=FLOOR | WALL | THINGS))
        return possible, replace(others, there=~late), frame
    if kind == "appear":
        return replace(possible, there=np.zeros(FRAMES, bool)), replace(possible, there=late), frame
    name = "other_shape" if kind == "shape" else "other_color"
    return possible, replace(possible, **{name: late}), frame


def _broken(kind: str, scene: Scene, possible: Film, rng: Rng) -> Twins | None:
    """The kinds that break the path of object 0."""
    sight, place = _in_view(scene, possible), possible.position[:, 0]
    good = _around(sight, 3, 1)
    if kind == "hover_stop":
        above = place[:, 1] - scene.bodies[0].size > scene.floor + 0.08
        good &= above & (_speed(possible) > 1.5 * _MOVES)
    frame = _choose(good, rng)
    if frame is None:
        return None
    plan = Break(frame)
    if kind == "teleport":
        target = np.array([rng.uniform(0.12, 0.88), scene.floor + rng.uniform(0.15, 0.6)])
        shift = target - place[frame]
        if np.hypot(*shift) < 0.22 or not _free(scene, possible, frame, target):
            return None
        plan = replace(plan, shift=tuple(shift))
    elif kind == "kick":
        heading, speed = rng.uniform(-0.3, 3.44), rng.uniform(0.8, 1.4)
        plan = replace(plan, kick=(speed * np.cos(heading), speed * np.sin(heading)))
    elif kind == "gravity_flip":
        plan = replace(plan, gravity=-1.0)
    elif kind == "hover_stop":
        plan = replace(plan, halt=True)
    elif kind == "fall_through_floor":
        plan = Break(0, through=FLOOR)
    elif kind == "pass_wall":
        plan = Break(0, through=WALL)
    impossible = play(scene, plan)
    if kind in ("fall_through_floor", "pass_wall"):
        differs = np.abs(possible.position[:, 0] - impossible.position[:, 0]).max(-1) > 1e-4
        frame = int(differs.argmax()) if differs.any() else FRAMES
        if not _EARLIEST <= frame <= _LATEST or not good[frame]:
            return None
        # It may have been a fake contact until then: both films share their beginning.
        impossible.position[:frame] = possible.position[:frame]
        impossible.angle[:frame] = possible.angle[:frame]
    elif not _in_view(scene, impossible)[frame : frame + 4].all():
        return None
    return (possible, impossible, frame) if _apart(scene, possible, impossible, frame) else None


def _free(scene: Scene, film: Film, frame: int, target: np.ndarray) -> bool:
    """Nothing else is near the target."""
    size = scene.bodies[0].size
    for body, place in zip(scene.bodies[1:], film.position[frame, 1:], strict=True):
        if np.hypot(*(place - target)) < 1.5 * (size + body.size):
            return False
    boxes = [box for box in (scene.wall, scene.ramp) if box is not None]
    for box in boxes:
        corners = np.array(box.corners())
        if ((target > corners.min(0) - 1.3 * size) & (target < corners.max(0) + 1.3 * size)).all():
            return False
    return True


def _screen(scene: Scene, film: Film, rng: Rng) -> Box | None:
    """A screen on the floor that hides object 0 for 5 to 12 frames."""
    body = scene.bodies[0]
    half = 1.3 * body.size + rng.uniform(0.03, 0.1)
    x, top = rng.uniform(0.35, 0.65), scene.floor + 2.8 * body.size + rng.uniform(0.05, 0.3)
    return Box((x - half, scene.floor - rng.uniform(0.0, 0.06), x + half, top))


def _hidden(kind: str, scene: Scene, possible: Film, rng: Rng) -> Twins | None:
    """Object 0 is gone, or another colour, when it should come out from behind the screen."""
    assert scene.screen is not None
    left, bottom, right, top = scene.screen.edges
    place, rim = possible.position[:, 0], 1.3 * scene.bodies[0].size
    inside = (place[:, 0] - rim > left) & (place[:, 0] + rim < right)
    inside &= (place[:, 1] + rim < top) & (place[:, 1] - rim > bottom - 0.1)
    clear = (place[:, 0] + rim < left) | (place[:, 0] - rim > right) | (place[:, 1] - rim > top)
    clear &= _in_view(scene, possible)
    if not 5 <= inside.sum() <= 12:
        return None
    times = np.flatnonzero(inside)
    frame = int(times[len(times) // 2])
    if times[-1] - times[0] + 1 != len(times) or not _EARLIEST - 4 <= frame <= _LATEST + 2:
        return None
    if clear[:frame].sum() < 4 or clear[frame : frame + 16].sum() < 4:
        return None
    late = np.arange(FRAMES) >= frame
    if kind == "color_occ":
        return possible, replace(possible, other_color=late), frame
    others = play(scene, Break(frame, through=FLOOR | WALL | THINGS))
    moved = np.abs(others.position[:, 1:] - possible.position[:, 1:]).max(initial=0.0) > 1e-3
    return None if moved else (possible, replace(possible, there=~late), frame)


def _retimed(kind: str, scene: Scene, possible: Film, rng: Rng) -> Twins | None:
    """The kinds that change the order of the frames."""
    time, sight, speed = np.arange(FRAMES), _in_view(scene, possible), _speed(possible)
    if kind == "reverse_all":
        height = possible.position[:, 0, 1]
        velocity = np.gradient(possible.position[:, 0], axis=0) * 24
        energy = scene.gravity * height + 0.5 * (velocity**2).sum(-1)
        lost = energy[2:8].mean() - energy[-8:-2].mean()
        if lost < 0.12 * scene.gravity or (sight & (speed > _MOVES)).sum() < 12:
            return None
        return possible, possible.retimed(FRAMES - 1 - time), 0
    good = _around(sight, 3, 5) & _around(speed > 1.5 * _MOVES, 2, 3)
    frame = _choose(good, rng)
    if frame is None:
        return None
    if kind == "freeze_all":
        index = np.minimum(time, frame - 1)
    elif kind == "reverse_mid":
        index = np.where(time >= frame, np.abs(2 * (frame - 1) - time), time)
    else:
        index = time.copy()
        rng.shuffle(index[frame:])
        if index[frame] == frame:
            return None
    impossible = possible.retimed(index)
    return (possible, impossible, frame) if _apart(scene, possible, impossible, frame) else None


Make = Callable[[str, Scene, Film, Rng], Twins | None]
KINDS: dict[str, tuple[tuple[str, ...], Make]] = {
    "vanish": (_OPEN, _open),
    "vanish_occ": (("rolling", "thrown"), _hidden),
    "appear": (_OPEN, _open),
    "teleport": (_OPEN, _broken),
    "pass_wall": (("wall",), _broken),
    "fall_through_floor": (("thrown", "dropped", "ramp"), _broken),
    "gravity_flip": (_OPEN, _broken),
    "kick": (_OPEN, _broken),
    "hover_stop": (("thrown", "dropped", "wall"), _broken),
    "shape": (_OPEN, _open),
    "color": (_OPEN, _open),
    "color_occ": (("rolling", "thrown"), _hidden),
    "freeze_all": (_OPEN, _retimed),
    "reverse_mid": (_OPEN, _retimed),
    "shuffle": (_OPEN, _retimed),
    "reverse_all": (("thrown", "dropped", "wall"), _retimed),
}
"""The settings and the maker of each kind."""
