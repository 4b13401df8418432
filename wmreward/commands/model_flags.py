"""The flags of how a V-JEPA 2.1 model is read, for scores and rewards. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from typing import Any

from wmreward.commands.flags import Parser

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "crop": (
        "V-JEPA 2.1: side in pixels of the square it sees, a multiple of 16 from 32 on; its published "
        "training size, 256, costs a third of its own 384",
        {"type": int, "metavar": "N"},
    ),
    "positions": (
        "V-JEPA 2.1: how rows and columns count where upstream contradicts itself: rescaled (as in its "
        "training code, and here unless said otherwise), hub (not in the predictor) or raw (its evaluation); "
        "all the same at a crop of 256",
        {"metavar": "RULE"},
    ),
    "levels": (
        "V-JEPA 2.1: compare the last level (unless said otherwise) or all four that were trained; a "
        "distilled model has only the last",
        {"metavar": "WHICH"},
    ),
    "observed": (
        "distilled V-JEPA 2.1: compare with what the teacher sees (unless said otherwise: vitG21), or with "
        "the student's own view of it, which needs no teacher and is another quantity, ours and unverified",
        {"metavar": "WHOSE"},
    ),
    "teacher_weights": (
        "a .pt or .safetensors file, or a folder, of the teacher of a distilled V-JEPA 2.1",
        {"metavar": "PATH"},
    ),
}


def add_reading_flags(parser: Parser, group: argparse._ArgumentGroup, prefix: str = "") -> None:
    """Flags whose names begin with ``prefix``; without them a model is read in its own way."""
    for name, (text, how) in _FLAGS.items():
        parser.add(group, f"--{prefix}{name}", text, **how)
