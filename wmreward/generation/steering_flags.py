"""The flags of guidance, rewards and search. Nothing heavy is imported here."""

from __future__ import annotations

from wmreward.commands.flags import Parser
from wmreward.commands.reward_flags import add_reward_flags

GUIDANCE_SCALE = 0.15
"""Strength of guidance where a video or an image is continued and no flag says another. The settings here are
what benchmarks/physics_repair supports: they put objects of continued videos nearer to the truth, lower
the error of moving pixels after videos and images, and cost three times the time of the small generator.
Videos from a text, which have no truth to be held against, are not guided unless a scale is given. The
original's is 0.001.
"""

GUIDED_MODES = frozenset({"i2v", "v2v"})

GUIDANCE_RANGE = (0.05, 0.6)
"""When to guide where no flag says when, from the same experiments: guiding to the end does harm."""

STRIDE, SCORE = 8, "top"
"""Frames from one scored window to the next, so that every frame is predicted once, and the rule of the
surprise. The original's are 4 and plain: half as much time again, and no more gain.
"""


def add_steering_flags(parser: Parser) -> None:
    """Guidance, rewards, and the search among candidates."""
    _add_guidance(parser)
    add_reward_flags(
        parser,
        "tiny for the small generator that comes along, vitg for all others",
        stride=STRIDE,
        score=SCORE,
    )
    _add_search(parser)
    _add_particles(parser)


def _add_guidance(parser: Parser) -> None:
    group = parser.add_argument_group(
        "guidance (the reward's gradient corrects the velocity while denoising)"
    )
    parser.add(
        group,
        "--guidance_scale",
        "size of the correction relative to the velocity; 0 is off, the original's is 0.001 "
        f"(default: {GUIDANCE_SCALE:g} after an image or a video; 0 from a text, where surprise is not "
        "among the rewards, and for lists of jobs)",
        type=float,
        metavar="S",
    )
    parser.add(
        group,
        "--guidance_frequency",
        "guide every how many steps",
        type=int,
        default=1,
        metavar="N",
    )
    parser.add(
        group,
        "--guidance_steps",
        "which steps are guided, as '0x5,1x45': five not, then 45",
        metavar="RUNS",
    )
    parser.add(
        group,
        "--guidance_scales",
        "a scale for every step instead of one, as '0.001x50'",
        metavar="RUNS",
    )
    parser.add(
        group,
        "--guidance_range",
        "guide only at times between LO and HI (0 is noise, 1 the finished video; default: "
        f"{GUIDANCE_RANGE[0]:g} {GUIDANCE_RANGE[1]:g}, or all with --guidance_steps or --guidance_scales)",
        type=float,
        nargs=2,
        metavar=("LO", "HI"),
    )
    parser.add(
        group,
        "--guidance_through",
        "what the gradient passes: x0 (decoder and reward) or dit (the transformer, too: several times "
        "the time)",
        default="x0",
        choices=("x0", "dit"),
        metavar="WHAT",
    )
    parser.add(
        group,
        "--guidance_rule",
        "relative (scale · |v|/|g| · g, as the original) or tilt (scale · (1-t)/t · g, bounded)",
        default="relative",
        choices=("relative", "tilt"),
        metavar="RULE",
    )
    parser.add(
        group,
        "--guidance_keep",
        "what the correction spares: edges (less sharpness is lost) or nothing (as the original)",
        default="edges",
        choices=("edges", "nothing"),
        metavar="WHAT",
    )
    parser.add(
        group,
        "--guidance_repeats",
        "gradient steps within one denoising step",
        type=int,
        default=1,
        metavar="N",
    )
    parser.add(
        group,
        "--guidance_null",
        "also measure what a random direction of the same size would do",
        action="store_true",
    )
    parser.add(
        group,
        "--context_grad",
        "differentiate the world model's prediction too, not only what it sees",
        action="store_true",
    )
    parser.add(
        group,
        "--plot",
        "draw what guidance did at every step beside the output",
        action="store_true",
    )


def _add_search(parser: Parser) -> None:
    group = parser.add_argument_group(
        "search (several candidates, of which the best is the output)"
    )
    parser.add(
        group,
        "--best_of",
        "candidates; those of an earlier run count, so N can be raised",
        type=int,
        default=1,
        metavar="N",
    )
    parser.add(
        group,
        "--seeds",
        "their seeds (default: N from --seed on)",
        type=int,
        nargs="+",
        metavar="SEED",
    )
    parser.add(
        group,
        "--search",
        "best_of (independent) or particles (copied and dropped by their reward while denoising)",
        default="best_of",
        choices=("best_of", "particles"),
        metavar="HOW",
    )
    parser.add(
        group,
        "--candidate_batch",
        "candidates at once on a device: faster, more memory",
        type=int,
        default=1,
        metavar="N",
    )
    parser.add(
        group,
        "--keep",
        "candidates whose videos stay in the folder beside the output: all, best, or the K best",
        default="best",
        metavar="WHICH",
    )
    parser.add(
        group,
        "--compare",
        "also write a video with the plain, the guided and the chosen one side by side",
        action="store_true",
    )


def _add_particles(parser: Parser) -> None:
    group = parser.add_argument_group("particles (--search particles)")
    parser.add(
        group,
        "--particle_beta",
        "how sharply the reward selects: weights are exp(beta · gain)",
        type=float,
        default=20.0,
        metavar="B",
    )
    parser.add(
        group,
        "--particle_every",
        "steps of a chunk from one look at the reward to the next",
        type=int,
        default=4,
        metavar="N",
    )
    parser.add(
        group,
        "--particle_range",
        "look only in steps between times LO and HI (default: 0.1 0.5)",
        type=float,
        nargs=2,
        metavar=("LO", "HI"),
    )
    parser.add(
        group,
        "--particle_threshold",
        "resample when the effective number of particles falls below this part of them",
        type=float,
        default=0.5,
        metavar="P",
    )
    parser.add(
        group,
        "--particle_churn",
        "share of the noise that every step renews, so that copies part ways: 0 to 1",
        type=float,
        default=0.5,
        metavar="C",
    )
