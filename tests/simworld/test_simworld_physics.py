"""Laws that the simulation must obey: energy, momentum, constraints, rest."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from simworld import (
    LONGEST_OCCLUSION,
    SHAPES,
    Scenes,
    hidden,
    sample_scenes,
    simulate,
    vary_scenes,
)
from simworld.contacts import Bodies, State, object_contacts, static_contacts, turned_corners
from simworld.geometry import box_distance, look_up, polygon_distance
from simworld.physics import (
    Intervention,
    initial_state,
    make_bodies,
    rod_length,
    substep,
)
from simworld.scenes import FLOOR, OBJECTS

DT = 1.0 / 6.0


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def empty_scenes(count: int, **fields: Tensor) -> Scenes:
    """Scenes without statics, gravity, friction or tether, all objects still; then `fields`."""
    scenes = sample_scenes(count, seed=0)
    zero = torch.zeros(count, OBJECTS)
    neutral = {
        "gravity": torch.zeros(count),
        "exists": torch.zeros(count, OBJECTS, dtype=torch.bool),
        "static_exists": torch.zeros_like(scenes.static_exists),
        "tethered": torch.zeros_like(scenes.tethered),
        "velocity": torch.zeros(count, OBJECTS, 2),
        "angle": zero,
        "spin": zero,
        "friction": zero,
        "rolling": zero,
        "restitution": zero + 1.0,
        "shape": torch.zeros(count, OBJECTS, dtype=torch.long),
        "size": zero + 0.08,
    }
    return dataclasses.replace(scenes, **{**neutral, **fields})


def run(scenes: Scenes, steps: int) -> tuple[Bodies, list[State]]:
    """Bodies and the states after every substep."""
    bodies, rod = make_bodies(scenes, 6), rod_length(scenes)
    states = [initial_state(scenes)]
    for _ in range(steps):
        states.append(substep(states[-1], bodies, scenes, rod, DT))
    return bodies, states


def energy(scenes: Scenes, state: State) -> Tensor:
    """[B] kinetic plus potential energy; a pendulum's bob does not turn about itself."""
    mass = scenes.size**2 * scenes.exists
    inertia = mass * scenes.size**2 * look_up(scenes.shape).inertia
    inertia = inertia * ~scenes.tethered
    kinetic = 0.5 * mass * state.velocity.square().sum(-1) + 0.5 * inertia * state.spin**2
    return (kinetic + mass * scenes.gravity[:, None] * state.position[..., 1]).sum(1)


def momentum(scenes: Scenes, state: State) -> tuple[Tensor, Tensor]:
    """Linear [B, 2] and angular [B] momentum."""
    mass = scenes.size**2 * scenes.exists
    inertia = mass * scenes.size**2 * look_up(scenes.shape).inertia
    p = mass.unsqueeze(-1) * state.velocity
    orbit = state.position[..., 0] * p[..., 1] - state.position[..., 1] * p[..., 0]
    return p.sum(1), (orbit + inertia * state.spin).sum(1)


def crowd(count: int, split: str, **fields: Tensor) -> Scenes:
    """Four objects of random shape flying towards the middle, without gravity."""
    drawn = sample_scenes(count, split=split, seed=5)
    g = torch.Generator().manual_seed(1)
    corners = torch.tensor([[0.2, 0.2], [0.8, 0.25], [0.25, 0.8], [0.75, 0.75]])
    position = corners + 0.06 * torch.rand(count, OBJECTS, 2, generator=g)
    velocity = 0.06 * (0.5 - position) + 0.01 * torch.randn(count, OBJECTS, 2, generator=g)
    return empty_scenes(
        count,
        exists=torch.ones(count, OBJECTS, dtype=torch.bool),
        position=position,
        velocity=velocity,
        spin=0.2 * torch.randn(count, OBJECTS, generator=g),
        angle=6.0 * torch.rand(count, OBJECTS, generator=g),
        shape=drawn.shape,
        size=drawn.size,
        **fields,
    )


def test_free_flight_is_a_parabola_and_keeps_its_energy():
    scenes = empty_scenes(
        8,
        exists=torch.tensor([True, False, False, False]).expand(8, 4),
        gravity=torch.linspace(0.0016, 0.0075, 8),
        velocity=torch.tensor([0.02, 0.03]).expand(8, OBJECTS, 2),
        spin=torch.full((8, OBJECTS), 0.1),
    )
    _, states = run(scenes, 150)
    times = torch.arange(151) * DT
    start = scenes.position[:, 0]
    x = start[:, :1] + 0.02 * times
    y = start[:, 1:] + 0.03 * times - 0.5 * scenes.gravity[:, None] * times**2
    path = torch.stack([s.position[:, 0] for s in states], dim=1)
    assert torch.allclose(path, torch.stack((x, y), -1), atol=1e-3, rtol=1e-4)
    total = torch.stack([energy(scenes, s) for s in states], dim=1)
    assert torch.allclose(total, total[:, :1].expand_as(total), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("restitution", [0.0, 0.5, 1.0])
def test_head_on_balls_keep_momentum_and_rebound_by_restitution(restitution):
    scenes = empty_scenes(
        1,
        exists=torch.tensor([[True, True, False, False]]),
        position=torch.tensor([[[0.3, 0.5], [0.7, 0.5], [0.0, 0.0], [0.0, 0.0]]]),
        velocity=torch.tensor([[[0.02, 0.0], [-0.01, 0.0], [0.0, 0.0], [0.0, 0.0]]]),
        size=torch.tensor([[0.06, 0.1, 0.1, 0.1]]),
        restitution=torch.full((1, OBJECTS), restitution),
    )
    _, states = run(scenes, 120)
    before, after = states[0], states[-1]
    assert torch.allclose(momentum(scenes, before)[0], momentum(scenes, after)[0], atol=1e-9)
    speed = after.velocity[0, 1, 0] - after.velocity[0, 0, 0]
    assert float(speed) == pytest.approx(restitution * 0.03, abs=1e-6)
    if restitution == 1.0:
        assert float(energy(scenes, after)) == pytest.approx(
            float(energy(scenes, before)), rel=1e-5
        )


@pytest.mark.parametrize("split", ["train", "ood"])
def test_crowds_keep_momentum_and_never_gain_energy(split):
    friction = torch.full((64, OBJECTS), 0.4)
    scenes = crowd(64, split, friction=friction, restitution=torch.full_like(friction, 0.95))
    _, states = run(scenes, 150)
    linear, angular = momentum(scenes, states[0])
    met = torch.zeros(64, dtype=torch.bool)
    highest = energy(scenes, states[0])
    for state in states[1:]:
        now_linear, now_angular = momentum(scenes, state)
        assert torch.allclose(now_linear, linear, atol=2e-8)
        # Overlaps are pushed apart along the normal, which may turn the pair very slightly.
        assert torch.allclose(now_angular, angular, atol=2e-5)
        now = energy(scenes, state)
        assert (now <= highest * (1.0 + 1e-5)).all()
        met |= now < 0.999 * highest
    assert met.float().mean() > 0.8  # the crowds really collide


@pytest.mark.parametrize("split", ["train", "ood"])
def test_energy_of_whole_scenes_never_grows_by_more_than_projection(split):
    scenes = sample_scenes(64, split=split, seed=3)
    scale = (scenes.size**2 * scenes.exists).sum(1) * scenes.gravity  # energy per unit of height
    _, states = run(scenes, 150)
    heights = torch.stack([energy(scenes, s) / scale for s in states], dim=1)
    gain = heights - heights.cummin(dim=1).values
    assert gain.max() < 0.02, "energy rose by more than 2 % of the picture's height"
    assert gain.amax(1).median() < 1e-3
    assert (heights[:, -1] < heights[:, 0]).float().mean() > 0.8


def test_ball_bounces_to_the_height_that_restitution_allows():
    e = torch.tensor([0.3, 0.5, 0.7, 0.9])
    base = sample_scenes(4, seed=0)
    floor = torch.zeros_like(base.static_exists)
    floor[:, FLOOR] = True
    scenes = empty_scenes(
        4,
        exists=torch.tensor([True, False, False, False]).expand(4, 4),
        static_exists=floor,
        gravity=torch.full((4,), 0.004),
        restitution=e.unsqueeze(1).expand(4, OBJECTS),
    )
    ground = scenes.static_center[:, FLOOR, 1] + 1.0 + 0.08
    position = torch.stack((torch.full((4,), 0.5), ground + 0.5), dim=-1)
    scenes = dataclasses.replace(scenes, position=position.unsqueeze(1).expand(4, OBJECTS, 2))
    _, states = run(scenes, 6 * 60)
    height = torch.stack([s.position[:, 0, 1] for s in states], dim=1) - ground.unsqueeze(1)
    for row, restitution in zip(height, e.tolist(), strict=True):
        landed = int((row < 1e-4).int().argmax())
        falling_again = landed + int((row[landed + 2 :] < 1e-4).int().argmax())
        assert float(row[landed:falling_again].max()) == pytest.approx(
            0.5 * restitution**2, rel=0.03
        )


def test_things_come_to_rest_without_jitter():
    scenes = sample_scenes(24, seed=7, scenario=("rest", "stack"))
    scenes = dataclasses.replace(
        scenes,
        restitution=scenes.restitution.clamp(max=0.4),
        rolling=torch.full_like(scenes.rolling, 0.04),
        friction=scenes.friction.clamp(min=0.3),
    )
    trajectories = simulate(scenes, 120)
    path = trajectories.position[:, -20:]
    drift = (path - path[:, :1]).norm(dim=-1).amax(1)  # [B, O]
    still = torch.where(scenes.exists, drift, 0.0) < 2e-3
    assert still.float().mean() > 0.9
    resting = scenes.scenario == 6
    first = trajectories.position - trajectories.position[:, :1]
    moved = torch.where(scenes.exists.unsqueeze(1), first.norm(dim=-1), 0.0)[resting]
    assert moved[:, :40].max() < 0.03  # unless something leaned on it


def test_ball_rolls_without_slipping():
    scenes = sample_scenes(64, seed=2, scenario="roll", occlusion=0.0)
    alone = torch.tensor([True, False, False, False])
    scenes = dataclasses.replace(scenes, exists=scenes.exists & alone)
    circle = scenes.shape[:, 0] == SHAPES.index("circle")
    clear = ~scenes.static_exists[:, 1:].any(1)
    scenes = scenes[circle & clear]
    trajectories = simulate(scenes, 12)
    way = trajectories.position[:, -1, 0, 0] - trajectories.position[:, 0, 0, 0]
    turned = trajectories.angle[:, -1, 0] - trajectories.angle[:, 0, 0]
    assert len(scenes) > 5
    assert torch.allclose(turned, -way / scenes.size[:, 0], atol=0.02)


def test_pendulum_keeps_its_length_and_energy():
    scenes = sample_scenes(32, seed=4, scenario="pendulum")
    alone = torch.tensor([True, False, False, False])
    scenes = dataclasses.replace(
        scenes, exists=scenes.exists & alone, static_exists=torch.zeros_like(scenes.static_exists)
    )
    rod = rod_length(scenes)[:, 0]
    _, states = run(scenes, 240)
    for state in states:
        arm = (state.position[:, 0] - scenes.anchor).norm(dim=-1)
        assert torch.allclose(arm, rod, atol=2e-6)
    total = torch.stack([energy(scenes, s) for s in states], dim=1)
    scale = scenes.size[:, 0] ** 2 * scenes.gravity * rod
    assert ((total - total[:, :1]).abs() / scale.unsqueeze(1)).max() < 2e-3
    angles = torch.stack([s.position[:, 0, 0] - scenes.anchor[:, 0] for s in states], dim=1)
    assert (angles.amax(1) > 0).all() or (angles.amin(1) < 0).all()


@pytest.mark.parametrize("split", ["train", "ood"])
def test_objects_neither_overlap_nor_sink_in(split):
    scenes = sample_scenes(64, split=split, seed=6)
    trajectories = simulate(scenes, 30)
    bodies = make_bodies(scenes, 6)
    deepest = []
    for t in range(0, 30, 3):
        position, angle = trajectories.position[:, t], trajectories.angle[:, t]
        state = State(position, torch.zeros_like(position), angle, torch.zeros_like(angle))
        corners = turned_corners(state, bodies)
        found = (
            object_contacts(state, bodies, corners),
            static_contacts(state, bodies, corners),
        )
        deepest += [torch.where(c.touching, c.depth, 0.0).amax((1, 2)) for c in found]
    depth = torch.stack(deepest)
    assert depth.max() < 0.025  # for a moment, in a hard hit on a pile
    assert depth.flatten().quantile(0.99) < 0.005
    assert depth[:2].max() < 1e-5  # nothing starts inside something else


def test_distances_agree_with_brute_force():
    g = torch.Generator().manual_seed(0)
    points = torch.rand(400, 2, generator=g) * 4 - 2
    for sides in (3, 4, 5, 6):
        k = torch.arange(sides)
        angle = (2 * k + 1) * math.pi / sides + 0.3
        corners = torch.stack((angle.cos(), angle.sin()), -1)
        ends = corners.roll(-1, 0)
        edge = ends - corners
        along = ((points[:, None] - corners) * edge).sum(-1) / (edge**2).sum(-1)
        nearest = corners + along.clamp(0, 1).unsqueeze(-1) * edge
        brute = (points[:, None] - nearest).norm(dim=-1).amin(1)
        apothem = torch.tensor(math.cos(math.pi / sides))
        half = torch.tensor(math.sin(math.pi / sides))
        distance, normal = polygon_distance(
            points, torch.tensor(0.3), torch.tensor(float(sides)), apothem, half
        )
        assert torch.allclose(distance.abs(), brute, atol=1e-5)
        assert torch.allclose(normal.norm(dim=-1), torch.ones(400), atol=1e-5)
        # Walking back along the normal by the distance ends on the outline.
        landing = points - distance.unsqueeze(-1) * normal
        again, _ = polygon_distance(
            landing, torch.tensor(0.3), torch.tensor(float(sides)), apothem, half
        )
        assert again.abs().max() < 1e-4
    half_extents = torch.tensor([0.7, 0.7])
    square, _ = polygon_distance(
        points, torch.tensor(0.3), torch.tensor(4.0), torch.tensor(0.7), torch.tensor(0.7)
    )
    box, _ = box_distance(points, torch.tensor(0.3), half_extents)
    assert torch.allclose(square, box, atol=1e-5)


def test_seeds_reproduce_and_splits_are_apart():
    first, again = sample_scenes(32, seed=1), sample_scenes(32, seed=1)
    other, unseen = sample_scenes(32, seed=2), sample_scenes(32, split="id", seed=1)
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(first.position, other.position)
    assert not torch.equal(first.position, unseen.position)
    a, b = simulate(first, 10), simulate(again, 10)
    assert torch.equal(a.position, b.position)
    ood = sample_scenes(64, split="ood", seed=1)
    assert set(ood.shape.unique().tolist()) <= {3, 4, 5, 6}
    assert set(first.shape.unique().tolist()) <= {0, 1, 2}
    assert ((ood.gravity < 0.00161) | (ood.gravity > 0.0074)).all()


def test_scenes_do_not_depend_on_their_neighbours_in_the_batch():
    scenes = sample_scenes(16, seed=8)
    together = simulate(scenes, 8)
    alone = simulate(scenes[3], 8)
    assert len(alone) == 1
    assert torch.allclose(together[3].position, alone.position, atol=1e-5)


def test_neutral_intervention_changes_nothing():
    scenes = sample_scenes(32, seed=9)
    plain = simulate(scenes, 12)
    neutral = simulate(scenes, 12, intervention=Intervention.none(scenes))
    for field in dataclasses.fields(plain):
        assert torch.equal(getattr(plain, field.name), getattr(neutral, field.name)), field.name


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="split must be one of"):
        sample_scenes(1, split="test", seed=0)
    with pytest.raises(ValueError, match="exactly one of seed and generator"):
        sample_scenes(1)
    with pytest.raises(ValueError, match="scenario must be among"):
        sample_scenes(1, seed=0, scenario="explosion")
    with pytest.raises(ValueError, match="must be positive"):
        simulate(sample_scenes(1, seed=0), frames=0)
    with pytest.raises(IndexError, match="outside a batch of 2"):
        sample_scenes(2, seed=0)[2]


def test_a_substep_is_one_graph():
    scenes = sample_scenes(4, seed=0)
    compiled = torch.compile(substep, fullgraph=True, backend="eager")
    compiled_path = simulate(scenes, 3, step=compiled).position
    assert torch.equal(compiled_path, simulate(scenes, 3).position)


def test_varied_scenes_go_the_same_way_at_another_pace():
    """In free flight a scene at half the pace is after two frames where it was after one."""
    count = 24
    exists = torch.zeros(count, OBJECTS, dtype=torch.bool)
    exists[:, 0] = True
    fallen = empty_scenes(
        count,
        exists=exists,
        gravity=torch.full((count,), 0.002),
        velocity=torch.tensor([0.01, 0.02]).expand(count, OBJECTS, 2),
    )
    varied = vary_scenes(fallen, torch.Generator().manual_seed(0))
    pace = (varied.gravity / fallen.gravity).sqrt()
    same = pace == 1
    assert 4 < same.sum() < 20
    assert 0.55 <= pace.min() < 0.7 and 1.0 < pace.max() <= 1.25
    assert torch.equal(varied.restitution[same], fallen.restitution[same])
    assert (varied.occluder_frames[~same] > 7).any() and varied.occluder_frames.max() <= 20
    time = torch.arange(8.0)
    path = simulate(varied, 8).position[:, :, 0]
    clock = pace[:, None] * time
    expected = fallen.position[:, :1] + torch.stack(
        (0.01 * clock, 0.02 * clock - 0.5 * 0.002 * clock**2), dim=-1
    )
    assert torch.allclose(path, expected, atol=1e-4)


def test_longer_occlusions_are_made_where_asked():
    scenes = sample_scenes(96, seed=4)
    scenes = dataclasses.replace(
        scenes, occluder_frames=torch.full_like(scenes.occluder_frames, 16)
    )
    covered = hidden(simulate(scenes, 48, 2, longest_occlusion=LONGEST_OCCLUSION))[:, :, 0].sum(1)
    assert ((covered >= 14) & (covered <= LONGEST_OCCLUSION)).sum() > 30
    assert (covered <= LONGEST_OCCLUSION).all()
