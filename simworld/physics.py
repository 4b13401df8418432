"""Rigid-body motion: scenes in, trajectories out.

A frame is a number of substeps; each flies freely (exact for constant acceleration), swings the
pendulum along its circle, then resolves contacts. There is no data-dependent control flow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from simworld.batch import TensorBatch
from simworld.contacts import (
    Bodies,
    State,
    corner_offsets,
    object_contacts,
    resolve,
    static_contacts,
    static_corners,
    turned_corners,
)
from simworld.geometry import look_up, reach
from simworld.occlusion import HIDDEN_FRAMES, place_occluders
from simworld.scenes import OBJECTS, STATICS, Scenes
from simworld.trajectories import Trajectories

SWEEPS = 3
"""Rounds over all contacts in a substep: the first bounces, the others settle what is left."""


@dataclasses.dataclass(frozen=True)
class Intervention(TensorBatch):
    """Breaks of the physics from a chosen frame on; that frame is the first to differ.

    Every field is neutral by default (`Intervention.none`).
    """

    frame: Tensor
    """[B] the frame of the break."""
    absent_from: Tensor
    """[B, O] first frame without the object ..."""
    absent_until: Tensor
    """[B, O] ... and first frame with it again (equal: never absent)."""
    shift: Tensor
    """[B, O, 2] displacement at `frame`."""
    kick: Tensor
    """[B, O, 2] change of velocity at `frame`."""
    gravity_factor: Tensor
    """[B] multiplies gravity from `frame` on."""
    ghost: Tensor
    """[B, O, S] statics that the object passes through from `frame` on."""
    halt: Tensor
    """[B, O] stops and floats from `frame` on."""
    shape: Tensor
    """[B, O] shape id from `frame` on, -1 to keep it."""
    recolor: Tensor
    """[B, O] wears its other colour from `frame` on."""

    @classmethod
    def none(cls, scenes: Scenes) -> Intervention:
        """No break at all."""
        b, device = len(scenes), scenes.gravity.device

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(b, *shape, dtype=dtype, device=device)

        return cls(
            frame=zeros(dtype=torch.long),
            absent_from=zeros(OBJECTS, dtype=torch.long),
            absent_until=zeros(OBJECTS, dtype=torch.long),
            shift=zeros(OBJECTS, 2),
            kick=zeros(OBJECTS, 2),
            gravity_factor=zeros() + 1.0,
            ghost=zeros(OBJECTS, len(STATICS), dtype=torch.bool),
            halt=zeros(OBJECTS, dtype=torch.bool),
            shape=zeros(OBJECTS, dtype=torch.long) - 1,
            recolor=zeros(OBJECTS, dtype=torch.bool),
        )


def initial_state(scenes: Scenes) -> State:
    """The state at frame 0."""
    return State(scenes.position, scenes.velocity, scenes.angle, scenes.spin)


def make_bodies(
    scenes: Scenes,
    corners: int,
    shape: Tensor | None = None,
    present: Tensor | None = None,
    ghost: Tensor | None = None,
    halted: Tensor | None = None,
    gravity_factor: Tensor | None = None,
) -> Bodies:
    """Physical parameters of one frame; the optional arguments carry an intervention's state.

    `corners` is the number of corner slots per object, see `corner_offsets`.
    """
    shape = scenes.shape if shape is None else shape
    present = scenes.exists if present is None else present
    table = look_up(shape)
    size = scenes.size
    # Density 1; all shapes of one size cover about the same area.
    free = torch.ones_like(size) if halted is None else (~halted).to(size.dtype)
    inverse_mass = free / size**2
    inverse_inertia = inverse_mass / (table.inertia * size**2)
    inverse_inertia = inverse_inertia * (~scenes.tethered).to(size.dtype)
    gravity = scenes.gravity if gravity_factor is None else scenes.gravity * gravity_factor
    corner, has_corner = corner_offsets(table, size, corners)
    not_self = ~torch.eye(OBJECTS, dtype=torch.bool, device=shape.device)
    hits_static = scenes.exists.unsqueeze(2) & scenes.static_exists.unsqueeze(1)
    return Bodies(
        sides=table.sides,
        apothem=table.apothem * size,
        half_side=table.half_side * size,
        rounding=table.rounding * size,
        corner=corner,
        has_corner=has_corner,
        is_round=table.corner == 0,
        size=size,
        inverse_mass=inverse_mass,
        inverse_inertia=inverse_inertia,
        restitution=scenes.restitution,
        friction=scenes.friction,
        rolling=scenes.rolling,
        gravity=gravity.unsqueeze(1) * free,
        hits_object=present.unsqueeze(1) & present.unsqueeze(2) & not_self,
        hits_static=hits_static if ghost is None else hits_static & ~ghost,
        static_center=scenes.static_center,
        static_half=scenes.static_half,
        static_angle=scenes.static_angle,
        static_corner=static_corners(scenes.static_center, scenes.static_half, scenes.static_angle),
    )


def _swing(
    state: State, bodies: Bodies, scenes: Scenes, rod: Tensor, free: State, dt: float
) -> State:
    """Replace free flight by a velocity-Verlet step of the pendulum where an object is tethered."""
    arm = state.position - scenes.anchor.unsqueeze(1)
    length = rod.clamp(min=1e-6)
    phase = torch.atan2(arm[..., 0], -arm[..., 1])
    rate = (state.velocity[..., 0] * phase.cos() + state.velocity[..., 1] * phase.sin()) / length
    pull = bodies.gravity / length
    rate = rate - 0.5 * dt * pull * phase.sin()
    turn = dt * rate
    phase = phase + turn
    rate = rate - 0.5 * dt * pull * phase.sin()
    sin, cos = phase.sin(), phase.cos()
    length = length.unsqueeze(-1)
    on_rod = scenes.tethered.unsqueeze(-1)
    return State(
        position=torch.where(
            on_rod,
            scenes.anchor.unsqueeze(1) + length * torch.stack((sin, -cos), -1),
            free.position,
        ),
        velocity=torch.where(
            on_rod,
            length * rate.unsqueeze(-1) * torch.stack((cos, sin), -1),
            free.velocity,
        ),
        angle=torch.where(scenes.tethered, state.angle + turn, free.angle),
        spin=torch.where(scenes.tethered, 0.0, free.spin),
    )


def _constrain(state: State, scenes: Scenes, rod: Tensor) -> State:
    """After contacts, put the bob back on its circle and keep only its motion along it."""
    arm = state.position - scenes.anchor.unsqueeze(1)
    unit = arm / torch.hypot(arm[..., 0], arm[..., 1]).clamp(min=1e-6).unsqueeze(-1)
    on_rod = scenes.tethered.unsqueeze(-1)
    radial = (state.velocity * unit).sum(-1, keepdim=True) * unit
    return dataclasses.replace(
        state,
        position=torch.where(
            on_rod, scenes.anchor.unsqueeze(1) + rod.unsqueeze(-1) * unit, state.position
        ),
        velocity=torch.where(on_rod, state.velocity - radial, state.velocity),
    )


def substep(state: State, bodies: Bodies, scenes: Scenes, rod: Tensor, dt: float) -> State:
    """Advance by `dt` frames."""
    pull = torch.stack((torch.zeros_like(bodies.gravity), -bodies.gravity), dim=-1)
    free = State(
        position=state.position + dt * state.velocity + (0.5 * dt * dt) * pull,
        velocity=state.velocity + dt * pull,
        angle=state.angle + dt * state.spin,
        spin=state.spin,
    )
    state = _swing(state, bodies, scenes, rod, free, dt)
    # What one substep of gravity gives, a few times over, is no bounce.
    slow = (4.0 * dt * scenes.gravity)[:, None, None] + 0.001
    corners = turned_corners(state, bodies)
    between = object_contacts(state, bodies, corners)
    state = resolve(state, bodies, between, slow=slow, first=True)
    standing = static_contacts(state, bodies, corners)
    state = resolve(state, bodies, standing, slow=slow, first=True)
    for _ in range(SWEEPS - 1):
        state = resolve(state, bodies, between, slow=slow, first=False)
        state = resolve(state, bodies, standing, slow=slow, first=False)
    return _constrain(state, scenes, rod)


def rod_length(scenes: Scenes) -> Tensor:
    """[B, O] distance of each object's start from the anchor (used where tethered)."""
    arm = scenes.position - scenes.anchor.unsqueeze(1)
    return torch.hypot(arm[..., 0], arm[..., 1])


@torch.no_grad()
def simulate(
    scenes: Scenes,
    frames: int = 40,
    substeps: int = 6,
    intervention: Intervention | None = None,
    step: Callable[[State, Bodies, Scenes, Tensor, float], State] = substep,
    longest_occlusion: int = HIDDEN_FRAMES[1],
) -> Trajectories:
    """Run the scenes and place their occluders.

    Args:
        frames: number of frames T, the initial state included.
        substeps: steps per frame.
        intervention: breaks of the physics, for impossible twins. Frames before
            `intervention.frame` are equal to those of the undisturbed run.
        step: `substep`, or `torch.compile(substep)`: on a GPU with large batches it saves most of
            the time. Compiled results differ by rounding.
        longest_occlusion: most frames for which an occluder aimed at object 0 may hide it.
    """
    if frames < 1 or substeps < 1:
        raise ValueError(f"frames and substeps must be positive; got {frames=}, {substeps=}")
    state, rod = initial_state(scenes), rod_length(scenes)
    plan = Intervention.none(scenes) if intervention is None else intervention
    intervened = intervention is not None
    # One look at the data, before the first step: boxes need fewer corner slots than hexagons.
    shapes = torch.cat((scenes.shape, plan.shape.clamp(min=0)))
    corners = int(look_up(shapes).sides.max())
    bodies = make_bodies(scenes, corners)
    record: dict[str, list[Tensor]] = {
        k: [] for k in ("position", "angle", "visible", "shape", "recolor")
    }
    never = torch.zeros_like(scenes.exists)
    present, shape, recolor = scenes.exists, scenes.shape, never
    for t in range(frames):
        if intervened:
            begun = (plan.frame <= t).unsqueeze(1)
            now = (plan.frame == t)[:, None, None]
            absent = (plan.absent_from <= t) & (plan.absent_until > t)
            present = scenes.exists & ~absent
            shape = torch.where(begun & (plan.shape >= 0), plan.shape, scenes.shape)
            recolor = begun & plan.recolor
            halted = begun & plan.halt
            bodies = make_bodies(
                scenes,
                corners,
                shape,
                present,
                begun.unsqueeze(2) & plan.ghost,
                halted,
                torch.where(begun.squeeze(1), plan.gravity_factor, 1.0),
            )
            velocity = torch.where(now, state.velocity + plan.kick, state.velocity)
            state = dataclasses.replace(
                state,
                position=torch.where(now, state.position + plan.shift, state.position),
                velocity=torch.where(halted.unsqueeze(-1), 0.0, velocity),
                spin=torch.where(halted, 0.0, state.spin),
            )
        if t > 0:
            for _ in range(substeps):
                state = step(state, bodies, scenes, rod, 1.0 / substeps)
        record["position"].append(state.position)
        record["angle"].append(state.angle)
        record["visible"].append(present)
        record["shape"].append(shape)
        record["recolor"].append(recolor)
    stacked = {name: torch.stack(values, dim=1) for name, values in record.items()}
    center, half, exists = place_occluders(
        scenes,
        stacked["position"],
        reach(stacked["shape"], scenes.size.unsqueeze(1)),
        longest_occlusion,
    )
    return Trajectories(
        **stacked,
        clock=torch.arange(frames, device=rod.device, dtype=torch.float32).repeat(len(scenes), 1),
        occluder_center=center,
        occluder_half=half,
        occluder_exists=exists,
        size=scenes.size,
        tethered=scenes.tethered,
        anchor=scenes.anchor,
        static_exists=scenes.static_exists,
        static_center=scenes.static_center,
        static_half=scenes.static_half,
        static_angle=scenes.static_angle,
        scenario=scenes.scenario,
    )
