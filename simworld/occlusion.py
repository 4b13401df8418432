"""Occluders: foreground boxes placed, after the fact, where they hide object 0 for some frames.

Occluders take no part in the physics, so they are aimed at the finished trajectory: for every start
frame the smallest covering box is tried, and one is drawn among those that hide the object fully
for 4 to 9 frames (training asks for more, too) with clear frames before and after.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simworld.scenes import DECORATIVE, FLOOR, NO_OCCLUDER, SLIDING, STANDING, Scenes
from simworld.trajectories import EDGE, inside_box, outside_box

HIDDEN_FRAMES = (4, 9)
"""Shortest and, if nothing else is asked for, longest full occlusion by an aimed occluder."""
CLEAR_FRAMES = 3
"""Fewest frames in full view before and after an aimed occlusion."""
_LARGEST_HALF = (0.26, 0.40)
_OUT_OF_PICTURE = 9.0


def place_occluders(
    scenes: Scenes, position: Tensor, radius: Tensor, longest: int = HIDDEN_FRAMES[1]
) -> tuple[Tensor, Tensor, Tensor]:
    """Occluders for finished trajectories.

    Args:
        position: [B, T, O, 2]
        radius: [B, T, O] radius of the circle around each object.
        longest: most frames for which an aimed occluder may hide object 0.

    Returns:
        center [B, T, K, 2], half [B, K, 2], exists [B, K].
    """
    frames = position.shape[1]
    plan = scenes.occluder_plan
    standing = _aim(scenes, position, radius, longest=longest, sliding=False)
    sliding = _aim(scenes, position, radius, longest=longest, sliding=True)
    aimed = (plan == STANDING) | (plan == SLIDING)
    # Resting or slow objects have no moment for a standing occluder: one slides in front of them.
    use_standing = (plan[:, 0] == STANDING) & standing[2]
    center = torch.where(use_standing[:, None, None], standing[0], sliding[0])
    half = torch.where(use_standing[:, None], standing[1], sliding[1])
    found = use_standing | (sliding[2] & aimed[:, 0])

    dice = scenes.occluder_dice[:, 1]
    plain_center = torch.stack((0.1 + 0.8 * dice[:, 0], 0.15 + 0.75 * dice[:, 1]), dim=-1)
    plain_half = torch.stack((0.05 + 0.09 * dice[:, 2], 0.05 + 0.15 * dice[:, 3]), dim=-1)
    drift = torch.where(dice[:, 4] < 0.4, 0.012 * (2.0 * dice[:, 5] - 1.0), 0.0)
    time = torch.arange(frames, device=position.device) - 0.5 * frames
    moved = torch.stack((torch.zeros_like(time), time), dim=-1)
    plain = plain_center.unsqueeze(1) + drift[:, None, None] * moved
    exists = torch.stack((found, plan[:, 1] == DECORATIVE), dim=1)
    return (
        torch.stack((center, plain), dim=2),
        torch.stack((half, plain_half), dim=1),
        exists & (plan != NO_OCCLUDER),
    )


def _aim(
    scenes: Scenes, position: Tensor, radius: Tensor, *, longest: int, sliding: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The occluder [B, T, 2], [B, 2] aimed at object 0 and whether a good moment exists [B]."""
    path, rim = position[:, :, 0], radius[:, :, 0] + EDGE + 0.002
    b, frames = path.shape[:2]
    device = path.device
    dice = scenes.occluder_dice[:, 0]
    length = scenes.occluder_frames[:, 0]
    starts = torch.arange(frames, device=device)
    ahead = torch.minimum(torch.arange(longest, device=device), (length - 1).unsqueeze(1))
    window = (starts[:, None] + ahead.unsqueeze(1)).clamp(max=frames - 1)  # [B, S, longest]
    rows = torch.arange(b, device=device)[:, None, None]
    low = (path - rim.unsqueeze(-1))[rows, window].amin(2)  # [B, S, 2]
    high = (path + rim.unsqueeze(-1))[rows, window].amax(2)

    # Most standing occluders near the floor stand on it; all get some extra height.
    floor = scenes.static_center[:, FLOOR, 1] + scenes.static_half[:, FLOOR, 1]
    if not sliding:
        foot = (floor - 0.01 - 0.05 * dice[:, 1]).unsqueeze(1)
        near_floor = (low[..., 1] - foot < 0.35) & (dice[:, :1] < 0.75)
        low_y = torch.where(near_floor, torch.minimum(low[..., 1], foot), low[..., 1])
        low = torch.stack((low[..., 0], low_y), dim=-1)
    taller = ((0.03 if sliding else 0.10) * dice[:, 2]).unsqueeze(1)
    high = torch.stack((high[..., 0], high[..., 1] + taller), dim=-1)
    center, half = 0.5 * (low + high), 0.5 * (high - low)  # [B, S, 2]

    track = center.unsqueeze(2).expand(b, frames, frames, 2)  # [B, S, T, 2]
    if sliding:
        # It waits out of the way, stays in front for the window, and leaves where it came from.
        middle = starts[:, None] + 0.5 * (length - 1)[:, None, None]  # [B, S, 1]
        late = ((starts - middle).abs() - 0.5 * length[:, None, None]).clamp(min=0.0)
        speed = (0.03 + 0.05 * dice[:, 3])[:, None, None]
        sideways = (dice[:, 4] < 0.3)[:, None]
        sign = torch.where(dice[:, 5] < 0.5, -1.0, 1.0)[:, None]
        direction = torch.where(
            sideways,
            torch.cat((sign, torch.zeros_like(sign)), dim=1),
            torch.tensor([0.0, 1.0], device=device),
        )
        track = track + (speed * late).unsqueeze(-1) * direction[:, None, None]

    here, rim_now = path.unsqueeze(1), rim.unsqueeze(1)
    half_now = half.unsqueeze(2)
    covered = inside_box(here, rim_now, track, half_now)  # [B, S, T]
    clear = outside_box(here, rim_now, track, half_now)
    before = starts.unsqueeze(0) < starts.unsqueeze(1)
    in_view = ((path > 0.04) & (path < 0.96)).all(-1).unsqueeze(1)
    number = covered.sum(2)
    good = (number >= HIDDEN_FRAMES[0]) & (number <= longest)
    good &= (clear & before & in_view).sum(2) >= CLEAR_FRAMES
    good &= (clear & ~before & in_view).sum(2) >= CLEAR_FRAMES
    good &= (center > 0.06).all(-1) & (center < 0.94).all(-1)
    good &= (half < half.new_tensor(_LARGEST_HALF)).all(-1)
    good &= starts + length.unsqueeze(1) <= frames

    # Spread the choice over time: the valid start nearest to a random frame.
    wish = dice[:, 6:7] * (frames - length.unsqueeze(1))
    cost = (starts - wish).abs() + torch.where(good, 0.0, 1e6)
    chosen = cost.argmin(1)
    batch = torch.arange(b, device=device)
    found = good.any(1)
    track = torch.where(found[:, None, None], track[batch, chosen], _OUT_OF_PICTURE)
    return track, half[batch, chosen], found
