"""Score videos by the surprise of a world model (V-JEPA 2): the lower, the more physically plausible.

    python compute_wmreward.py --video_path clip.mp4
    python compute_wmreward.py --video_path videos/ --output scores.jsonl --map
    torchrun --nproc_per_node 8 compute_wmreward.py --video_path videos/ --output scores.jsonl

From Python, in the folder of this file or after an install:

    from compute_wmreward import compute_vjepa_surprise
    surprise = compute_vjepa_surprise("clip.mp4", model="tiny")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmreward.surprise.compute import compute_vjepa_surprise

__all__ = ["compute_vjepa_surprise"]


def __getattr__(name: str) -> Any:
    """`compute_vjepa_surprise`, imported when it is asked for: PyTorch takes seconds, --help should not."""
    if name != "compute_vjepa_surprise":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wmreward.surprise.compute import compute_vjepa_surprise

    return compute_vjepa_surprise


if __name__ == "__main__":
    # Read when PyTorch is loaded. On a CPU its threads otherwise spin while they wait for one another:
    # with the decoding threads or other programs on the same cores that makes scoring several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from wmreward.scoring.cli import main

    raise SystemExit(main())
