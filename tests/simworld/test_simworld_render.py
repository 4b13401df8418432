"""Pictures: ranges, antialiasing, independence of the batch, looks, compilation."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from simworld import (
    COLOR_NAMES,
    Looks,
    Style,
    Trajectories,
    hidden,
    make_generator,
    project,
    render,
    sample_drawn_looks,
    sample_looks,
    sample_scenes,
    sensor_noise,
    simulate,
)
from simworld.looks import VIVID, palette


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> tuple[Trajectories, Looks]:
    return simulate(sample_scenes(12, seed=0), 20, 3), sample_looks(12, seed=0)


def plain_looks(count: int) -> Looks:
    """Looks with a still camera and nothing that varies within a surface."""
    looks = sample_looks(count, seed=1)
    zero, one = torch.zeros(count), torch.ones(count)
    return dataclasses.replace(
        looks,
        pan=torch.zeros(count, 2),
        shift=torch.zeros(count, 2),
        zoom=one,
        mirror=one,
        texture=torch.zeros(count, 3),
        shadow=zero,
        gain=one,
    )


@pytest.mark.parametrize("size", [64, 96, 128])
def test_shape_range_and_dtype(world, size):
    trajectories, looks = world[0][:2], world[1][:2]
    video = render(trajectories, looks, size=size, frames=3, dtype=torch.float16)
    assert video.shape == (2, 3, 3, size, size)
    assert video.dtype == torch.float16
    assert torch.isfinite(video).all()
    assert video.min() >= 0.0 and video.max() <= 1.0
    assert video.float().std() > 0.05


def test_resolutions_show_the_same_picture(world):
    trajectories, looks = world[0][:6], world[1][:6]
    small = render(trajectories, looks, size=64, frames=1)[:, :, 0]
    large = render(trajectories, looks, size=128, frames=1)[:, :, 0]
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - pooled).abs().mean() < 0.01


def test_a_scene_looks_the_same_alone_and_in_a_batch(world):
    trajectories, looks = world
    start = torch.arange(12) % 5
    together = render(trajectories, looks, start=start, frames=4)
    alone = render(trajectories[7], looks[7], start=2, frames=4)
    assert torch.allclose(together[7:8], alone, atol=1e-5)


def test_start_selects_frames_and_the_last_one_repeats(world):
    trajectories, looks = world[0][:3], world[1][:3]
    whole = render(trajectories, looks, frames=20)
    assert torch.allclose(render(trajectories, looks, start=6, frames=5), whole[:, :, 6:11])
    late = render(trajectories, looks, start=torch.tensor([18, 19, 18]), frames=3)
    assert torch.allclose(late[0, :, 2], whole[0, :, 19])


def test_subpixel_motion_changes_the_picture_smoothly():
    looks = plain_looks(1)
    still = simulate(sample_scenes(1, seed=3, scenario="flight", occlusion=0.0), 1, 1)
    still = dataclasses.replace(still, occluder_exists=still.occluder_exists & False)
    start = torch.tensor([0.45, 0.7])
    pictures = []
    for step in range(9):
        position = still.position.clone()
        position[:, :, 0] = start + torch.tensor([step / (8 * 64), 0.0])  # an eighth of a pixel
        moved = dataclasses.replace(still, position=position)
        pictures.append(render(moved, looks, frames=1)[0, :, 0])
    changes = torch.stack([(b - a).abs().sum() for a, b in itertools.pairwise(pictures)])
    assert (changes > 0).all(), "motion below a pixel must show"
    assert changes.max() < 3.0 * changes.mean(), "and show evenly, not in jumps"
    whole = (pictures[-1] - pictures[0]).abs().sum()
    assert changes.max() < 0.35 * whole


def test_rolling_shows_on_every_patterned_object():
    scenes = sample_scenes(8, seed=5, scenario="roll", occlusion=0.0)
    trajectories = simulate(scenes, 2, 1)
    looks = dataclasses.replace(plain_looks(8), pattern=torch.full((8, 4), 4))
    turned = dataclasses.replace(trajectories, angle=trajectories.angle + 0.5)
    inside = (project(trajectories, looks)[:, 0, 0] - 0.5).abs().amax(-1) < 0.45
    change = render(turned, looks, frames=1) - render(trajectories, looks, frames=1)
    assert (change.abs().amax((1, 2, 3, 4))[inside] > 0.1).all()


def test_hidden_objects_leave_no_trace():
    scenes = sample_scenes(48, seed=2, occlusion=1.0)
    trajectories = simulate(scenes)
    looks = dataclasses.replace(sample_looks(48, seed=2), shadow=torch.zeros(48))
    covered = hidden(trajectories)[:, :, 0]
    assert covered.any(1).float().mean() > 0.7
    rows = covered.any(1).nonzero().squeeze(1)[:16]
    trajectories, looks, covered = trajectories[rows], looks[rows], covered[rows]
    trajectories = dataclasses.replace(
        trajectories, tethered=torch.zeros_like(trajectories.tethered)
    )
    gone = trajectories.visible.clone()
    gone[:, :, 0] = False
    without = dataclasses.replace(trajectories, visible=gone)
    start = covered.int().argmax(1)
    a = render(trajectories, looks, start=start, frames=4)
    b = render(without, looks, start=start, frames=4)
    trace = (a - b).abs().amax((1, 3, 4))
    now = covered.gather(1, (start.unsqueeze(1) + torch.arange(4)).clamp(max=39))
    assert now.sum() > 40
    assert (trace[now] == 0).all()
    assert (trace[~now] > 0).any()


def test_about_half_of_the_training_scenes_have_a_full_occlusion():
    trajectories = simulate(sample_scenes(160, seed=0))
    number = hidden(trajectories)[:, :, 0].sum(1)
    assert 0.45 < (number >= 4).float().mean() < 0.7
    assert (number > 12).float().mean() < 0.03


def test_noise_is_scaled_and_only_added_where_asked(world):
    trajectories, looks = world
    clean = render(trajectories, looks, frames=2)
    noise = sensor_noise(12, 2, 64, generator=make_generator(0, "noise"))
    noisy = render(trajectories, looks, frames=2, noise=noise)
    change = (noisy - clean).abs().amax((1, 2, 3, 4))
    assert torch.equal(change > 0, looks.noise > 0)
    again = sensor_noise(12, 2, 64, generator=make_generator(0, "noise"))
    assert torch.equal(noisy, render(trajectories, looks, frames=2, noise=again))


@pytest.mark.parametrize("split", ["train", "ood"])
def test_colours_are_named_distinct_and_stand_out(split):
    looks = sample_looks(256, split=split, seed=0)
    colors = palette("cpu")
    assert (looks.object_color - colors[looks.object_color_id]).abs().max() <= 0.05 + 1e-6
    assert looks.object_color_id.max() < VIVID < len(COLOR_NAMES)
    ordered = looks.object_color_id.sort(dim=1).values
    assert (ordered[:, 1:] != ordered[:, :-1]).all()
    assert (looks.other_color_id[:, 0] != looks.object_color_id[:, 0]).all()
    for other in (looks.wall_color[:, 0], looks.wall_color[:, 1], looks.static_color[:, 0]):
        away = (looks.object_color - other.unsqueeze(1)).norm(dim=-1)
        assert away.min() > 0.25
    changed = (looks.object_color[:, 0] - looks.other_color[:, 0]).norm(dim=-1)
    assert changed.min() > 0.3


def test_looks_reproduce_and_differ_between_splits():
    first, again = sample_looks(8, seed=3), sample_looks(8, seed=3)
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(first.zoom, sample_looks(8, split="id", seed=3).zoom)


def test_rendering_is_one_graph(world):
    trajectories, looks = world
    compiled = torch.compile(render, fullgraph=True, backend="eager")
    start, noise = torch.arange(12) % 4, torch.randn(12, 3, 2, 32, 32)
    options = {"start": start, "frames": 2, "size": 32, "noise": noise}
    out = compiled(trajectories, looks, **options)
    assert torch.equal(out, render(trajectories, looks, **options))


def test_rendering_is_differentiable_in_the_motion(world):
    trajectories, looks = world[0][:2], world[1][:2]
    position = trajectories.position.clone().requires_grad_()
    moved = dataclasses.replace(trajectories, position=position)
    render(moved, looks, frames=2).sum().backward()
    assert torch.isfinite(position.grad).all()
    assert position.grad.abs().max() > 0


def test_the_plain_style_changes_nothing(world):
    trajectories, looks = world
    style = Style.plain(len(looks))
    assert torch.equal(
        render(trajectories, looks, frames=4, style=style), render(trajectories, looks, frames=4)
    )
    assert style.snapped(trajectories).position is not None
    assert torch.equal(style.snapped(trajectories).position, trajectories.position)


def test_styles_draw_edges_lines_and_whole_pixels():
    trajectories = simulate(sample_scenes(6, seed=3, scenario="flight", occlusion=0.0), 2)
    looks, style = plain_looks(6), Style.plain(6)

    def shades(edge: float) -> int:
        drawn = render(
            trajectories,
            looks,
            frames=1,
            style=dataclasses.replace(style, edge=edge + style.stroke),
        )
        return int((drawn[0] * 1000).round().unique().numel())

    assert shades(0.05) < shades(1.0) < shades(2.5)  # mixed colours are along the edges
    lined = render(
        trajectories, looks, frames=1, style=dataclasses.replace(style, stroke=style.edge)
    )
    plain = render(trajectories, looks, frames=1)
    assert (lined <= plain).all() and lined.mean() < plain.mean() - 1e-3
    grid = dataclasses.replace(style, grid=style.edge / 128)
    place = grid.snapped(trajectories).position
    assert torch.allclose((place * 128).round(), place * 128, atol=1e-4)
    assert 0 < (place - trajectories.position).abs().max() <= 0.5 / 128 + 1e-6


def test_drawn_looks_are_flat_and_reproduce():
    looks, style = sample_drawn_looks(64, seed=5)
    again, _ = sample_drawn_looks(64, seed=5)
    assert all(
        torch.equal(getattr(looks, f.name), getattr(again, f.name))
        for f in dataclasses.fields(looks)
    )
    assert (looks.pan == 0).all() and (looks.wall_color[:, 0] == looks.wall_color[:, 1]).all()
    assert (looks.texture == 0).all(1).float().mean() > 0.6
    assert (style.edge < 0.5).any() and (style.edge > 1.2).any() and (style.grid > 0).any()
