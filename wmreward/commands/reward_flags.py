"""The flags of rewards, shared by generating and selecting. Nothing heavy is imported here."""

from __future__ import annotations

import argparse

from wmreward.commands.flags import Parser


def add_reward_flags(
    parser: Parser, default_model: str, *, stride: int = 2, score: str = "plain"
) -> argparse._ArgumentGroup:
    """Which rewards judge, and the settings of the surprise.

    Args:
        parser: Gets the flags.
        default_model: For the help.
        stride, score: Defaults of ``--reward_stride`` and ``--score``.
    """
    group = parser.add_argument_group("rewards")
    parser.add(
        group,
        "--reward",
        "surprise, seam (half of it where given frames end: for continued videos), consensus (nearness to "
        "the other candidates) or one of your own, package.module:factory; "
        "several are combined, each with a weight if NAME=WEIGHT is given (default: surprise)",
        nargs="+",
        action="extend",
        metavar="NAME",
    )
    parser.add(
        group,
        "--combine",
        "sum (weighted scores) or rank (weighted ranks among the candidates: any scales mix)",
        default="sum",
        choices=("sum", "rank"),
        metavar="HOW",
    )
    parser.add(
        group,
        "--reward_model",
        f"world model: vitg (the paper's), vitl, vith, vitg384 or tiny (default: {default_model})",
        metavar="NAME",
    )
    parser.add(
        group,
        "--reward_weights",
        "a .pt or .safetensors file, or a folder, instead of that model's own weights",
        metavar="PATH",
    )
    numbers = (
        ("--reward_window_size", "frames per window of the surprise", 16),
        ("--reward_context_frames", "frames of a window that are seen before the prediction", 8),
        ("--reward_stride", "frames from one window to the next", stride),
    )
    for flag, text, default in numbers:
        parser.add(group, flag, text, type=int, default=default, metavar="N")
    parser.add(
        group,
        "--reward_mode",
        "how windows make a surprise: mean, max, median, topkK or toppP",
        default="mean",
        metavar="RULE",
    )
    parser.add(
        group,
        "--score",
        "the surprise: plain (the paper's), top (its most surprising tokens), or against copying the last "
        "frame: excess or relative",
        default=score,
        metavar="RULE",
    )
    parser.add(
        group,
        "--similarity",
        "axis of the cosine: feature (the paper's equation) or token (the published code)",
        default="feature",
        metavar="AXIS",
    )
    return group
