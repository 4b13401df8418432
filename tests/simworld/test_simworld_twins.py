"""Pairs: equal before the violation, visibly different after it, hidden where promised."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simworld import (
    HIDDEN,
    VIOLATIONS,
    Pairs,
    hidden,
    load_pairs,
    make_generator,
    make_pairs,
    render,
    sample_looks,
    sample_scenes,
    save_pairs,
    seen,
    simulate,
)
from simworld.__main__ import main
from simworld.batch import Draw
from simworld.scenes import FLOOR, WALL
from simworld.trajectories import PER_FRAME
from simworld.twins import make_twins, throughout, violation_range

COUNT = 2
FRAMES = 24  # the default of 40 only takes longer


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pairs]:
    """A few pairs of every kind, all from one batch of scenes (as `make_pairs` does for one kind)."""
    generator = make_generator(1, "twins")
    scenes = sample_scenes(160, generator=generator, occlusion=0.6)
    possible = simulate(scenes, FRAMES)
    looks = sample_looks(160, generator=generator)
    looks = dataclasses.replace(looks, shadow=torch.zeros(160))
    found = {}
    for kind in VIOLATIONS:
        twins = make_twins(kind, scenes, possible, looks, Draw(160, generator), "id")
        assert len(twins.rows) >= COUNT, kind
        found[kind] = Pairs(
            kind=kind,
            split="id",
            possible=twins.possible[:COUNT],
            impossible=twins.impossible[:COUNT],
            looks=looks[twins.rows[:COUNT]],
            violation_frame=twins.violation_frame[:COUNT],
        )
    return found


def videos(pair: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Both videos [N, 3, T, 64, 64] with the same sensor noise."""
    noise = torch.randn(len(pair), 3, FRAMES, 64, 64, generator=torch.Generator().manual_seed(0))
    return (
        render(pair.possible, pair.looks, frames=FRAMES, noise=noise),
        render(pair.impossible, pair.looks, frames=FRAMES, noise=noise),
    )


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_twins_are_equal_before_and_visibly_different_after(pairs, kind):
    pair = pairs[kind]
    low, high = violation_range(FRAMES)
    real, fake = videos(pair)
    change = (real - fake).abs().amax((1, 3, 4))  # [N, T]
    for i, frame in enumerate(pair.violation_frame.tolist()):
        assert frame == 0 if kind == "reverse_all" else low <= frame <= high
        for name in PER_FRAME:
            a, b = getattr(pair.possible, name)[i], getattr(pair.impossible, name)[i]
            assert torch.equal(a[:frame], b[:frame]), name
        assert (change[i, :frame] == 0).all()
        assert change[i, frame:].max() > 0.15
        if kind in HIDDEN:
            covered = hidden(pair.possible)[i, :, 0]
            assert (change[i, covered] == 0).all(), "seen although the object is hidden"
        # A difference of a few pixels at most would be no evidence for a viewer.
        many = ((real[i] - fake[i]).abs().amax(0) > 0.1).sum((1, 2))
        assert many.max() >= 12


@pytest.mark.parametrize("kind", sorted(HIDDEN))
def test_hidden_violations_happen_behind_an_occluder(pairs, kind):
    pair = pairs[kind]
    covered = hidden(pair.possible)[:, :, 0]
    sight = seen(pair.possible, pair.looks)[:, :, 0]
    for i, frame in enumerate(pair.violation_frame.tolist()):
        assert covered[i, frame] and covered[i, frame - 1]
        assert 4 <= covered[i].sum() <= 9
        assert sight[i, :frame].sum() >= 3 and sight[i, frame:].sum() >= 3


def test_each_kind_does_what_its_name_says(pairs):
    def at(kind: str) -> list[tuple]:
        pair = pairs[kind]
        return [
            (pair.possible[i], pair.impossible[i], int(pair.violation_frame[i]))
            for i in range(COUNT)
        ]

    for kind in ("vanish", "vanish_occ"):
        for real, fake, t in at(kind):
            assert real.visible[0, :, 0].all() and not fake.visible[0, t:, 0].any()
    for real, fake, t in at("appear"):
        assert not real.visible[0, :, 0].any()
        assert fake.visible[0, t:, 0].all() and not fake.visible[0, :t, 0].any()
    for real, fake, t in at("teleport"):
        jump = (fake.position[0, t, 0] - real.position[0, t, 0]).norm()
        assert jump > 0.15
    for _, fake, t in at("pass_wall"):
        offset = (fake.position[0, t:, 0] - fake.static_center[0, WALL]).abs()
        assert (offset < fake.static_half[0, WALL]).all(-1).any()
    for real, fake, t in at("fall_through_floor"):
        floor = fake.static_center[0, FLOOR, 1] + fake.static_half[0, FLOOR, 1]
        assert fake.position[0, t:, 0, 1].min() < floor
        assert real.position[0, :, 0, 1].min() > floor
    for real, fake, t in at("gravity_flip"):
        assert fake.position[0, -1, 0, 1] > real.position[0, -1, 0, 1]
        assert t > 0
    for _, fake, t in at("hover_stop"):
        rest = fake.position[0, t:, 0]
        assert torch.equal(rest, rest[:1].expand_as(rest))
    for real, fake, t in at("kick"):
        change = (fake.position[0, t, 0] - real.position[0, t, 0]).norm()
        assert 0.01 < change < 0.08
    for _, fake, t in at("shape"):
        assert (fake.shape[0, t:, 0] != fake.shape[0, 0, 0]).all()
    for kind in ("color", "color_occ"):
        for real, fake, t in at(kind):
            assert fake.recolor[0, t:, 0].all() and not real.recolor.any()
            assert torch.equal(real.position, fake.position)
    for _, fake, t in at("freeze_all"):
        assert (fake.clock[0, t - 1 :] == t - 1).all()
    for _, fake, t in at("reverse_mid"):
        assert torch.equal(fake.clock[0, t : t + 5], torch.arange(t - 2.0, t - 7.0, -1.0))
    for _, fake, t in at("shuffle"):
        assert sorted(fake.clock[0].tolist()) == list(range(FRAMES))
        assert fake.clock[0, t] != t
    for real, fake, _ in at("reverse_all"):
        assert torch.equal(fake.position, real.position.flip(1))


def test_pairs_reproduce_and_depend_on_the_seed():
    assert violation_range(40) == (13, 26)
    first, again, other = (
        make_pairs("kick", 1, split="train", seed=seed, frames=18) for seed in (4, 4, 5)
    )
    assert torch.equal(first.possible.position, again.possible.position)
    assert torch.equal(first.impossible.position, again.impossible.position)
    assert torch.equal(first.looks.object_color, again.looks.object_color)
    assert not torch.equal(first.possible.position, other.possible.position)


def test_ood_pairs_use_unseen_shapes():
    pair = make_pairs("shape", 2, split="ood", seed=0, frames=FRAMES)
    assert len(pair) == 2 and pair.possible.frames == FRAMES
    assert pair.possible.shape.min() >= 3 and pair.impossible.shape.min() >= 3


def test_file_round_trip(pairs, tmp_path):
    groups = [pairs["vanish_occ"], pairs["shuffle"]]
    path = tmp_path / "pairs.safetensors"
    save_pairs(path, groups)
    assert path.stat().st_size < 2 * COUNT * 10_000 + 20_000
    loaded = load_pairs(path)
    assert [p.kind for p in loaded] == ["vanish_occ", "shuffle"]
    for before, after in zip(groups, loaded, strict=True):
        assert torch.equal(before.violation_frame, after.violation_frame)
        assert before.split == after.split
        for field in dataclasses.fields(before.looks):
            same = torch.equal(getattr(before.looks, field.name), getattr(after.looks, field.name))
            assert same, field.name
        a, b = videos(before), videos(after)
        assert (a[1] - b[1]).abs().max() < 0.05
        frame = int(after.violation_frame[0])
        assert torch.equal(b[0][0, :, :frame], b[1][0, :, :frame])
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_pairs(bad)


def test_pairs_index_like_their_parts(pairs):
    pair = pairs["color"]
    assert len(pair) == COUNT and len(pair[1]) == 1 and len(pair[-1]) == 1
    assert torch.equal(pair[-1].violation_frame, pair.violation_frame[-1:])
    assert len(pair[torch.tensor([1, 0])]) == 2


def test_throughout_looks_around():
    mask = torch.tensor([[True, True, True, False, True, True]])
    assert throughout(mask, 1, 1).tolist() == [[False, True, False, False, False, False]]


def test_bad_kinds_are_refused():
    with pytest.raises(ValueError, match="kind must be one of vanish, "):
        make_pairs("explode", 1)
    with pytest.raises(ValueError, match="count must be positive"):
        make_pairs("vanish", 0)


def test_command_line_writes_sheet_and_videos(tmp_path, capsys):
    assert main(["--count", "1", "--frames", "6", "--size", "32", "--out", str(tmp_path)]) == 0
    assert "1 videos" in capsys.readouterr().out
    assert (tmp_path / "contact_sheet.png").stat().st_size > 500
    assert len(list(tmp_path.glob("*.mp4"))) == 1
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "(default: 64)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--num_frames", "1000000"],
            "need 549.3 GiB of memory, but 1.0 GiB are there: up to 1820 ",
        ),
        (["--num_frames", "1000000", "--kind", "vanish"], "need 915.5 GiB of memory"),
        (["--count", "1000000"], "lower --count or --size"),
        (["--count", "0"], "--count must be a whole number from 1 on"),
        (["--every", "0"], "--every must be a whole number from 1 on"),
    ],
)
def test_numbers_that_nothing_can_be_made_of_are_refused(
    monkeypatch, tmp_path, capsys, flags, says
):
    monkeypatch.setattr("simworld.__main__.available_memory", lambda: 2**30)
    monkeypatch.setattr("simworld.__main__._draw_rows", lambda _: pytest.fail("something is drawn"))
    with pytest.raises(SystemExit) as refused:
        main([*flags, "--out", str(tmp_path)])
    assert refused.value.code == 2 and says in capsys.readouterr().err.replace("\n", " ")
