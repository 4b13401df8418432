"""Captions are true of what is seen, short, varied and determined by their generator."""

from __future__ import annotations

import collections
import dataclasses
import math
import re

import pytest
import torch
from torch import Tensor

from simworld import (
    COLOR_NAMES,
    MOTIONS,
    PATTERNS,
    SHAPES,
    SIDES,
    STATICS,
    Caption,
    Facts,
    Looks,
    Trajectories,
    describe,
    project,
    render,
    sample_looks,
    sample_plain_looks,
    sample_plain_scenes,
    sample_scenes,
    simulate,
    write_captions,
)
from simworld.captions import LONGEST

COUNT, FRAMES = 192, 48
VERBS = "bounces|comes|flies|rolls|slides|falls|drops|swings|is|lies|rests|does|stays|moves"
WORDS_OF_SHAPE = {
    "ball": "circle", "circle": "circle", "triangle": "triangle",
    "box": "square", "square": "square", "block": "square",
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> tuple[Trajectories, Looks, Facts]:
    trajectories = simulate(sample_plain_scenes(COUNT, seed=0), FRAMES, 3)
    looks = sample_plain_looks(COUNT, seed=0)
    return trajectories, looks, describe(trajectories, looks)


@pytest.fixture(scope="module")
def captions(world: tuple[Trajectories, Looks, Facts]) -> list[Caption]:
    return write_captions(world[2], torch.Generator().manual_seed(0))


def still_camera(count: int) -> Looks:
    looks = sample_plain_looks(count, seed=1)
    ones, zeros = torch.ones(count), torch.zeros(count, 2)
    return dataclasses.replace(looks, mirror=ones, zoom=ones, shift=zeros)


def staged(path: list[list[tuple[float, float]]], **changes: Tensor) -> Trajectories:
    """One lonely ball per given path (x, y), above a floor at 0.1."""
    count, frames = len(path), len(path[0])
    base = simulate(sample_plain_scenes(count, seed=2), frames, 1)
    position = base.position.clone()
    position[:, :, 0] = torch.tensor(path)
    visible = torch.zeros_like(base.visible)
    visible[:, :, 0] = True
    floor = base.static_center.clone()
    floor[:, 0, 1] = 0.1 - base.static_half[:, 0, 1]
    exists = torch.zeros_like(base.static_exists)
    exists[:, 0] = True
    fields = {
        "position": position,
        "visible": visible,
        "shape": torch.zeros_like(base.shape),
        "size": torch.full_like(base.size, 0.08),
        "angle": torch.zeros_like(base.angle),
        "tethered": torch.zeros_like(base.tethered),
        "static_center": floor,
        "static_exists": exists,
    }
    return dataclasses.replace(base, **(fields | changes))


T = [i / 23 for i in range(24)]
FALL = [(0.2, max(0.18, 0.8 - 2.0 * t * t)) for t in T]
BOUNCE = [(0.8, 0.18 + 0.6 * (1 - 2 * t) ** 2) for t in T]
ARC = [(0.2 + 0.6 * t, 0.18 + 0.4 * (1 - (2 * t - 0.4) ** 2 / 1.0) * (t < 0.7)) for t in T]
LEVEL = [(0.9 - 0.5 * t, 0.18) for t in T]
REST = [(0.5, 0.18) for t in T]
BACK = [(0.1 + 0.5 * (1 - abs(2 * t - 1)), 0.18) for t in T]
ENTER = [(-0.2 + 0.8 * t, 0.18) for t in T]


def test_motions_of_staged_paths() -> None:
    paths = [FALL, BOUNCE, ARC, LEVEL, REST, BACK, ENTER]
    angle = torch.zeros(len(paths), len(T), 4)
    angle[3:, :, 0] = torch.linspace(0, 6, len(T))
    facts = describe(staged(paths, angle=angle), still_camera(len(paths)))[:]
    motion = [MOTIONS[m] for m in facts.motion[:, 0].tolist()]
    assert motion == ["fall", "fall", "fly", "roll", "rest", "roll", "roll"]
    assert facts.heading[:, 0].tolist() == [0, 0, 1, -1, 0, 1, 1]
    assert facts.bounces[:, 0].tolist() == [False, True, False, False, False, False, False]
    assert facts.lands[:, 0].tolist() == [True, True, True, False, False, False, False]
    assert facts.returns[:, 0].tolist() == [False] * 5 + [True, False]
    assert facts.side[:, 0].tolist() == [0, 2, 0, 2, 1, 0, -1]
    assert facts.enters[:, 0].tolist() == [0, 0, 0, 0, 0, 0, -1]


def test_boxes_slide_and_tumbling_is_neither() -> None:
    shape = torch.zeros(2, len(T), 4, dtype=torch.long)
    shape[:, :, 0] = SHAPES.index("square")
    angle = torch.zeros(2, len(T), 4)
    angle[1, :, 0] = torch.linspace(0, math.pi, len(T))
    facts = describe(staged([LEVEL, LEVEL], shape=shape, angle=angle), still_camera(2))
    assert [MOTIONS[m] for m in facts.motion[:, 0].tolist()] == ["slide", "move"]


def test_mirror_swaps_left_and_right(world: tuple[Trajectories, Looks, Facts]) -> None:
    trajectories, looks, facts = world
    flipped = dataclasses.replace(
        looks, mirror=-looks.mirror, shift=looks.shift * torch.tensor([-1.0, 1.0])
    )
    # The camera looks at another place now: turn the world around its own middle instead.
    turned = dataclasses.replace(
        trajectories,
        position=torch.stack(
            (1 - trajectories.position[..., 0], trajectories.position[..., 1]), -1
        ),
    )
    same = describe(turned, flipped)
    assert torch.equal(same.side, facts.side) and torch.equal(same.heading, facts.heading)
    other = describe(turned, dataclasses.replace(flipped, mirror=looks.mirror))
    swapped = torch.where(facts.side >= 0, 2 - facts.side, -1)
    assert torch.equal(other.side, swapped)
    assert torch.equal(other.heading, -facts.heading)
    assert torch.equal(other.enters, -facts.enters)


def test_sides_are_where_the_pixels_are(world: tuple[Trajectories, Looks, Facts]) -> None:
    """The object is found by taking it away: also under mirror, zoom and shift."""
    trajectories, looks, facts = (part[:48] for part in world)
    without = trajectories.visible.clone()
    without[:, :, 0] = False
    bare = dataclasses.replace(trajectories, visible=without)
    plain = dataclasses.replace(looks, shadow=torch.zeros(48))
    change = (render(trajectories, plain, frames=1) - render(bare, plain, frames=1)).abs()
    columns = change.sum((1, 2, 3))  # [B, W]
    middle = (columns * (torch.arange(64) + 0.5)).sum(1) / columns.sum(1).clamp(min=1e-6) / 64
    found = (columns.sum(1) > 1) & (facts.side[:, 0] >= 0)
    assert found.sum() > 30
    for x, side in zip(middle[found].tolist(), facts.side[found, 0].tolist(), strict=True):
        if 0.1 < x < 0.9:  # else cut by the border, and its centre is not that of the pixels
            assert {"left": x < 0.42, "middle": 0.34 < x < 0.66, "right": x > 0.58}[SIDES[side]]


def test_facts_fit_the_scenarios(world: tuple[Trajectories, Looks, Facts]) -> None:
    trajectories, looks, facts = world
    place = project(trajectories, looks)
    motion = facts.motion
    for name, share in {"fall": 0.03, "fly": 0.1, "roll": 0.1, "slide": 0.03, "rest": 0.1}.items():
        assert (motion[facts.seen] == MOTIONS.index(name)).float().mean() > share
    swings = motion == MOTIONS.index("swing")
    assert (trajectories.tethered[swings]).all() and swings.any()
    rests = (motion == MOTIONS.index("rest")).nonzero()
    for b, o in rests.tolist():
        path = place[b, :, o][((place[b, :, o] > 0) & (place[b, :, o] < 1)).all(-1)]
        assert (path - path[0]).norm(dim=-1).max() < 0.05
    ramps = motion == MOTIONS.index("ramp")
    assert ramps.any()
    drop = trajectories.position[:, 0, :, 1] - trajectories.position[..., 1].amin(1)
    assert (drop[ramps] > 0.1 / 1.15).all()  # world, not picture
    assert trajectories.static_exists[ramps.any(1), STATICS.index("ramp")].all()
    ids = looks.object_color_id
    assert torch.equal(facts.color[facts.seen], ids[facts.seen])
    assert (facts.color[~facts.seen] == -1).all() and (facts.motion[~facts.seen] == -1).all()


def test_statics_are_placed_in_the_picture() -> None:
    trajectories = simulate(sample_scenes(64, seed=3, scenario="wall"), 4, 1)
    looks = sample_looks(64, seed=3)
    looks = dataclasses.replace(looks, pan=torch.zeros(64, 2), shift=torch.zeros(64, 2))
    facts = describe(trajectories, looks)
    wall = STATICS.index("wall")
    x = 0.5 + (trajectories.static_center[:, wall, 0] - 0.5) * looks.zoom * looks.mirror
    assert facts.static_seen[:, wall].all()
    assert torch.equal(facts.static_side[:, wall] == 0, x < 0.38)
    assert torch.equal(facts.static_side[:, wall] == 2, x > 0.62)
    # A left wall has its face at the left edge unless the picture is flipped.
    left = STATICS.index("left wall")
    shown = facts.static_seen[:, left]
    assert shown.any()
    assert torch.equal(facts.static_side[shown, left] == 0, looks.mirror[shown] > 0)


# --- words


def test_captions_are_short_plain_and_varied(captions: list[Caption]) -> None:
    for caption in captions:
        assert re.fullmatch(r"[a-z]+( [a-z]+|, [a-z]+)*", caption.text), caption.text
        assert len(caption.text.encode()) <= LONGEST
    lengths = [len(caption.text) for caption in captions]
    assert min(lengths) < 30 and max(lengths) > 80
    assert len({caption.text for caption in captions}) > 0.9 * len(captions)
    said = collections.Counter(
        name
        for c in captions
        for name in ("color", "shape", "side", "motion")
        if getattr(c, name) >= 0
    )
    assert 0.85 < said["color"] / COUNT < 1 and 0.7 < said["motion"] / COUNT < 0.95
    assert said["side"] / COUNT > 0.55  # the rest is not in the first frame, or not said


def test_what_a_caption_says_of_the_first_object_is_true(
    world: tuple[Trajectories, Looks, Facts], captions: list[Caption]
) -> None:
    """Read back from the text itself, up to the next sentence."""
    facts = world[2]
    for b, caption in enumerate(captions):
        if not facts.seen[b].any():
            assert caption.text == "an empty scene"
            continue
        o = int(facts.seen[b].int().argmax())
        clause = re.split(
            r", | and (?!bounces|comes|flies|rolls|slides|falls|drops|swings|is|lies|rests|does|stays|moves)",
            caption.text,
        )[0]
        words = clause.split()
        for word in words:
            if word in WORDS_OF_SHAPE:
                assert SHAPES[facts.shape[b, o]] == WORDS_OF_SHAPE[word] and caption.shape >= 0
            if word in COLOR_NAMES:
                assert COLOR_NAMES[facts.color[b, o]] == word and caption.color >= 0
        size = facts.size[b, o]
        assert size == 2 or not {"big", "large"} & set(words)
        assert size == 0 or not {"small", "little"} & set(words)
        for word, pattern in {
            "striped": "stripes",
            "spotted": "spot",
            "checkered": "checker",
        }.items():
            assert word not in words or PATTERNS[facts.pattern[b, o]] == pattern
        place = re.search(r"(?:on|at|in) the (left|right|middle|centre|center)", clause)
        place_side = place and {"centre": "middle", "center": "middle"}.get(place[1], place[1])
        assert (place is None) == (caption.side == -1)
        assert place is None or (SIDES[facts.side[b, o]] == place_side == SIDES[caption.side]), (
            caption.text
        )
        toward = re.search(
            r"(?:\w+ (?:to the )?)(left|right)(?: and|$)", clause.replace("side", "")
        )
        toward = re.search(r"(?:rolls|slides|flies|thrown|moves) (?:to the )?(left|right)", clause)
        if toward:
            assert facts.heading[b, o] == {"left": -1, "right": 1}[toward[1]]
        enters = re.search(r"in from the (left|right)", clause)
        if enters:
            assert facts.enters[b, o] == {"left": -1, "right": 1}[enters[1]]
            assert facts.side[b, o] == -1
        motion = MOTIONS[facts.motion[b, o]]
        for pattern, allowed in {
            "rolls": ("roll", "ramp"),
            "slides": ("slide", "ramp"),
            "down the ramp": ("ramp",),
            "falls|drops": ("fall",),
            "flies|thrown": ("fly",),
            "swings": ("swing",),
            "rests|still|stays|not move": ("rest",),
        }.items():
            if re.search(pattern, clause):
                assert motion in allowed and caption.motion == facts.motion[b, o]
        assert "bounces" not in clause or facts.bounces[b, o]
        assert "floor" not in clause or facts.lands[b, o]
        assert "comes back" not in clause or facts.returns[b, o]


def test_scenery_is_there(
    world: tuple[Trajectories, Looks, Facts], captions: list[Caption]
) -> None:
    facts = world[2]
    for b, caption in enumerate(captions):
        for name in ("wall", "platform"):
            found = re.search(
                rf"(?:an? (\w+)?) ?\b{name}\b(?: stands)?(?: (?:on|at|in) the (\w+))?", caption.text
            )
            if not found:
                continue
            slot = STATICS.index(name)
            assert facts.static_seen[b, slot], caption.text
            color = found[1]
            assert color in (None, name) or COLOR_NAMES[facts.static_color[b, slot]] == color
            side = {"centre": "middle", "center": "middle"}.get(found[2], found[2])
            assert side is None or SIDES[facts.static_side[b, slot]] == side
        for what, ids in (("background", facts.wall_color), ("floor", facts.static_color[:, 0])):
            if named := re.search(rf"({'|'.join(COLOR_NAMES)}) {what}", caption.text):
                assert COLOR_NAMES[ids[b]] == named[1]


def test_generator_determines_the_words(world: tuple[Trajectories, Looks, Facts]) -> None:
    facts = world[2][:32]
    first, again, other = (
        write_captions(facts, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert first == again
    assert sum(a.text != b.text for a, b in zip(first, other, strict=True)) > 20


# --- the plain style


def test_plain_scenes_are_slowed_copies() -> None:
    """At 0.8 of the speed the path is the same: frame 10 is where frame 8 was."""
    slow = sample_plain_scenes(16, seed=4)
    fast = dataclasses.replace(
        slow,
        gravity=slow.gravity / 0.64,
        velocity=slow.velocity / 0.8,
        spin=slow.spin / 0.8,
    )
    # Free flight is integrated exactly; contacts depend on the substeps, so the first frames only.
    a, b = simulate(slow, 6, 8), simulate(fast, 5, 8)
    free = slow.exists & (slow.position[..., 1] > 0.55) & ~slow.tethered
    assert free.sum() > 3
    assert torch.allclose(a.position[:, 5][free], b.position[:, 4][free], atol=2e-3)


def test_plain_style_is_gentle() -> None:
    scenes, looks = sample_plain_scenes(256, seed=5), sample_plain_looks(256, seed=5)
    assert not scenes.exists[:, 3].any() and scenes.exists[:, 0].all()
    assert not simulate(scenes[:16], 8, 1).occluder_exists.any()
    assert not looks.pan.any() and not looks.noise.any() and looks.shift.abs().max() <= 0.05
    wall = STATICS.index("wall")
    same = looks.static_color_id[:, wall, None] == looks.object_color_id[:, :3]
    assert same.float().mean() < 0.01  # a colour names one thing
    assert torch.equal(looks.static_color_id[:, 1], looks.static_color_id[:, 2])


def test_plain_style_leaves_the_usual_draws_alone() -> None:
    """Only through the generator are they related: the plain one starts with the same draws."""
    a = sample_plain_looks(8, generator=torch.Generator().manual_seed(7))
    b = sample_looks(8, generator=torch.Generator().manual_seed(7))
    assert torch.equal(a.object_color, b.object_color) and torch.equal(a.wall_color, b.wall_color)
    c = sample_plain_scenes(8, generator=torch.Generator().manual_seed(7))
    d = sample_scenes(8, generator=torch.Generator().manual_seed(7), occlusion=0.0)
    assert torch.equal(c.position, d.position) and torch.equal(c.velocity, d.velocity * 0.8)
