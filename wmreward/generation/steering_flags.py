"""The flags of guidance, rewards and search. Nothing heavy is imported here."""

from __future__ import annotations

from wmreward.commands import shared
from wmreward.commands.flags import Flag
from wmreward.commands.kinds import Number, OneOf, Whole

GUIDED_MODES = frozenset({"v2v"})
"""Where guidance is on if no flag says so: benchmarks/physics_repair found that it puts objects of continued
videos nearer to the truth and lowers the error of moving pixels. After an image that was not measured with
the present world model, and videos from a text have no truth to be held against.
"""

CONTINUED_REWARD = {"reward": ["seam"], "frame_strides": (1, 2, 3)}
"""What judges and guides a continued video if neither flag is given: it looks a second ahead of the given
frames.
"""

CONTINUED_GUIDANCE = {
    "guidance_scale": 0.5,
    "guidance_range": (0.05, 0.4),
    "guidance_frequency": 2,
}
"""How a continued video is guided if none of these is given: 1.7 times the time of the small generator."""

GUIDANCE_SCALE = 0.15
"""Strength of guidance elsewhere where it is asked for without a number; the original's is 0.001."""

GUIDANCE_RANGE = (0.05, 0.6)
"""When to guide where no flag says when: guiding to the end does harm."""

STRIDE, SCORE = 8, "top"
"""Frames from one scored window to the next, so that every frame is predicted once, and the rule of the
surprise. The original's are 4 and plain: half as much time again, and no more gain.
"""

_TIMES = Number(0, 1)

GUIDANCE = (
    Flag(
        "guidance_scale",
        "size of the correction relative to the velocity; 0 is off, the original's is 0.001",
        metavar="S",
        kind=Number(0, 1e6),
        usually=f"{CONTINUED_GUIDANCE['guidance_scale']:g} where a video is continued by surprise or seam "
        f"({GUIDANCE_SCALE:g} if another flag says when to guide); 0 elsewhere",
    ),
    Flag(
        "guidance_frequency",
        "guide every how many steps",
        metavar="N",
        kind=Whole(1),
        usually="1; 2 where a video is continued and no other flag says when to guide",
        rare=True,
    ),
    Flag(
        "guidance_steps",
        "which steps are guided, as '0x5,1x45': five not, then 45",
        metavar="RUNS",
        rare=True,
    ),
    Flag(
        "guidance_scales",
        "a scale for every step instead of one, as '0.001x50'",
        metavar="RUNS",
        rare=True,
    ),
    Flag(
        "guidance_range",
        "guide only at times between LO and HI (0 is noise, 1 the finished video)",
        metavar=("LO", "HI"),
        kind=_TIMES,
        usually=f"{GUIDANCE_RANGE[0]:g} {GUIDANCE_RANGE[1]:g}, or all with --guidance_steps or "
        "--guidance_scales; 0.05 0.4 where a video is continued and no other flag says when to guide",
        rare=True,
    ),
    Flag(
        "guidance_through",
        "what the gradient passes: x0 (decoder and reward) or dit (the transformer, too: several times the "
        "time)",
        metavar="WHAT",
        kind=OneOf(("x0", "dit")),
        default="x0",
        rare=True,
    ),
    Flag(
        "guidance_rule",
        "relative (scale · |v|/|g| · g, as the original) or tilt (scale · (1-t)/t · g, bounded)",
        metavar="RULE",
        kind=OneOf(("relative", "tilt")),
        default="relative",
        rare=True,
    ),
    Flag(
        "guidance_keep",
        "what the correction spares: edges (less sharpness is lost) or nothing (as the original)",
        metavar="WHAT",
        kind=OneOf(("edges", "nothing")),
        default="edges",
        rare=True,
    ),
    Flag(
        "guidance_repeats",
        "gradient steps within one denoising step",
        metavar="N",
        kind=Whole(1, 10_000),
        default=1,
        rare=True,
    ),
    Flag(
        "guidance_measure",
        "also measure what every guided step did to the reward, for a quarter of the time of guidance more",
        usually="--plot does",
        rare=True,
    ),
    Flag(
        "guidance_null",
        "also measure what a random direction of the same size would do",
        rare=True,
    ),
    Flag(
        "context_grad",
        "differentiate the world model's prediction too, not only what it sees",
        rare=True,
    ),
)

_NOTES = {"frame_strides": "1 2 3 where a video is continued and no reward is given"}

REWARDS = (
    shared.REWARD.but(
        usually="seam where a video is continued and frame_strides are not given; else surprise"
    ),
    *shared.REWARDS[1:],
    *shared.WORLD_MODEL,
    *(
        flag.but(rare=True, note=_NOTES.get(flag.name, flag.note))
        for flag in shared.surprise(STRIDE, SCORE)  # their defaults are what the evidence supports
    ),
)

_SEARCH = (
    Flag(
        "best_of",
        "candidates, of which the best is the output; those of an earlier run count, so N can be raised",
        metavar="N",
        kind=Whole(1, 100_000),
        default=1,
    ),
    shared.SEEDS.but(rare=True),
    Flag(
        "search",
        "best_of (independent) or particles (copied and dropped by their reward while denoising)",
        metavar="HOW",
        kind=OneOf(("best_of", "particles")),
        default="best_of",
        rare=True,
    ),
    Flag(
        "candidate_batch",
        "candidates at once on a device: faster, more memory",
        metavar="N",
        kind=Whole(1, 10_000),
        default=1,
        rare=True,
    ),
    Flag(
        "keep",
        "candidates whose videos stay in the folder beside the output: all, best, or the K best",
        metavar="WHICH",
        default="best",
        rare=True,
    ),
    Flag(
        "compare",
        "also write a video with the plain, the guided and the chosen one side by side",
    ),
    Flag(
        "judge",
        "a world model that has no part in guiding and choosing (a name as of --model): with --compare it "
        "says which videos are more plausible than the plain one",
        metavar="NAME",
        usually="referee where tiny guides or chooses, and tiny where referee does; else what guides and "
        "chooses, which proves little",
        rare=True,
    ),
)

PARTICLES = (
    Flag(
        "particle_beta",
        "how sharply the reward selects: weights are exp(beta · gain)",
        metavar="B",
        kind=Number(0, 1e9),
        default=20.0,
        rare=True,
    ),
    Flag(
        "particle_every",
        "steps of a chunk from one look at the reward to the next",
        metavar="N",
        kind=Whole(1),
        default=4,
        rare=True,
    ),
    Flag(
        "particle_range",
        "look only in steps between times LO and HI",
        metavar=("LO", "HI"),
        kind=_TIMES,
        usually="0.1 0.5",
        rare=True,
    ),
    Flag(
        "particle_threshold",
        "resample when the effective number of particles falls below this part of them",
        metavar="P",
        kind=Number(0, 1),
        default=0.5,
        rare=True,
    ),
    Flag(
        "particle_churn",
        "share of the noise that every step renews, so that copies part ways",
        metavar="C",
        kind=Number(0, 1),
        default=0.5,
        rare=True,
    ),
)

STEERING = {
    "guidance (the reward's gradient corrects the velocity while denoising)": GUIDANCE,
    "rewards": REWARDS,
    "search (several candidates, of which the best is the output)": _SEARCH,
    "particles (--search particles)": PARTICLES,
}
