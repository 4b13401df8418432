"""Smaller latents, a smaller video: what is averaged, what its gradient is, what is told and refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("diffusers")

from run_rewards import Bright
from test_decoding import CHANNELS, double, gradient, latents, weights
from tiny_pipelines import tiny

from wmreward.errors import UsageError
from wmreward.pipelines import guide_pipeline
from wmreward.pipelines.decoding import Decoder, Economy
from wmreward.pipelines.shrinking import resized, shrunk
from wmreward.steering.guidance import GuidanceConfig
from wmreward.steering.schedule import GuidanceSchedule


def test_squares_are_averaged() -> None:
    z = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    pooled = F.avg_pool2d(z.flatten(0, 2), 2).unflatten(0, (2, 3, 4))
    torch.testing.assert_close(shrunk(z, 2), pooled)
    assert shrunk(z, 1) is z and shrunk(z, None) is z


@pytest.mark.parametrize(("size", "small"), [((5, 7), (2, 4)), ((8, 11), (4, 6))])
def test_what_does_not_divide_keeps_its_edges(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    """Nothing is cut off and nothing is moved: the mean stays, left and right are alike, and every cell
    counts as much as any other.
    """
    z = torch.randn(1, 2, 3, *size, dtype=torch.float64, requires_grad=True)
    found = shrunk(z, 2)
    assert found.shape == (1, 2, 3, *small)
    torch.testing.assert_close(found.mean((-2, -1)), z.mean((-2, -1)))
    torch.testing.assert_close(shrunk(z.flip(-1, -2), 2), found.flip(-1, -2))
    (of_cells,) = torch.autograd.grad(found.sum(), z)
    torch.testing.assert_close(of_cells, of_cells.mean().expand_as(of_cells))


@pytest.mark.parametrize("name", CHANNELS)
def test_normalisation_may_come_before_or_after(name: str) -> None:
    own, z = double(name), latents(name, frames=3, side=4)
    torch.testing.assert_close(own.denormalised(shrunk(z, 2)), shrunk(own.denormalised(z), 2))


@pytest.mark.parametrize("name", ["wan", "ltx_timestep", "cogvideox"])
def test_the_gradient_is_that_of_the_smaller_video(name: str) -> None:
    """Finite differences agree; what is exact beside it changes nothing, and by one nothing is shrunk."""
    own, z = double(name), latents(name, frames=3, side=4)
    economy = Economy(shrink=2)
    small, whole = Decoder(own, economy)(z), Decoder(own, Economy())(z)
    assert small.shape[:3] == whole.shape[:3]
    assert [2 * side for side in small.shape[-2:]] == list(whole.shape[-2:])
    wanted = weights(small)
    found = gradient(Decoder(own, economy), z, wanted)
    for other in (Economy(shrink=2, apart=True), Economy(shrink=2, on_host=True)):
        assert torch.equal(gradient(Decoder(own, other), z, wanted), found)
    ends = []
    for sign in (1, -1):
        moved = z + sign * 1e-3 * found / found.norm()
        ends.append((own.decode(F.avg_pool3d(moved, (1, 2, 2))) * wanted).sum())
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-3, found.norm(), rtol=3e-3, atol=0)
    same = Decoder(own, Economy(shrink=1))
    assert torch.equal(same(z), whole) and not same.economy.errors


def test_how_far_it_is_from_exact_is_measured_once_for_each_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And said where it is too far for its gradient to be of use."""
    own, z = double("wan"), latents("wan", side=4)
    economy = Economy(shrink=2)
    decoder = Decoder(own, economy)
    true = resized(Decoder(own, Economy())(z), 16, 16)
    apart = ((decoder(z) - true).square().mean().sqrt() / true.std()).item()
    assert economy.errors == pytest.approx([apart]) and apart > 0.01
    decoder(z + 1)
    assert len(economy.errors) == len(caplog.messages) == 1
    assert caplog.messages[0].startswith("shrink=2: smaller frames differ from the exact ones by")
    economy.scored = 2
    shown = decoder(z, turn=1)
    apart = ((shown - true[:, :, 5:13]).square().mean().sqrt() / true[:, :, 5:13].std()).item()
    assert shown.shape == (1, 3, 8, 16, 16) and len(economy.errors) == 2
    assert economy.errors[1] == pytest.approx(apart)
    caplog.clear()
    own.decode = lambda latents: latents[:, :3]  # type: ignore[method-assign]
    alike = (
        torch.arange(5.0).view(1, 1, 5, 1, 1).expand_as(z)
    )  # nothing in space that could get lost
    decoder = Decoder(own, Economy(shrink=2))
    decoder(alike)
    assert decoder.economy.errors == [0] and not caplog.messages


def test_it_goes_with_pieces() -> None:
    own, z = double("wan"), latents("wan", side=4)
    wanted = weights(Decoder(own, Economy(shrink=2))(z))
    whole = gradient(Decoder(own, Economy(shrink=2)), z, wanted)
    pieces = gradient(Decoder(own, Economy(shrink=2, pieces=2, warm_up=5)), z, wanted)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=3e-6 * whole.abs().max().item())


@pytest.mark.parametrize("name", ["wan", "cogvideox_i2v", "ltx_i2v", "cosmos2"])
def test_a_pipeline_is_guided_by_smaller_videos(name: str) -> None:
    """Conditioned ones, too: what is given is put in before, and shrinks with the rest. It is the smaller
    video that surely gets better: what that says of the exact one, random decoders do not tell.
    """
    made = tiny(name)
    config = GuidanceConfig(schedule=GuidanceSchedule((0.0, 0.15, 0.15, 0.0)), measure=True)
    plain = made.video()
    with guide_pipeline(made.pipe, Bright(), config, economy=Economy(shrink=2)) as guided:
        video = made.video()
    assert video.shape == plain.shape and not torch.equal(video, plain)
    assert all((record.gain or 0) > 0 for record in guided.records)
    assert "or smaller differ from the exact ones by up to" in str(guided)


@pytest.mark.parametrize("by", [3, 0, -2])
def test_too_small_a_picture_is_refused_before_a_step(by: int) -> None:
    made = tiny("wan")
    with (
        pytest.raises(UsageError, match=f"shrink={by} must be from 1 to 2 for latents of 4 × 4"),
        guide_pipeline(made.pipe, Bright(), 0.1, economy=Economy(shrink=by)),
    ):
        made.latents()
