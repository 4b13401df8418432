"""Score videos by the surprise of a world model (V-JEPA 2): the lower, the more physically plausible.

    python compute_wmreward.py --video_path clip.mp4
    python compute_wmreward.py --video_path videos/ --output scores.jsonl --map
    torchrun --nproc_per_node 8 compute_wmreward.py --video_path videos/ --output scores.jsonl

From Python, in the folder of this file or after an install:

    from compute_wmreward import compute_vjepa_surprise
    surprise = compute_vjepa_surprise("clip.mp4", model="tiny")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from wmreward.commands.ending import start

if TYPE_CHECKING:
    from wmreward.surprise.compute import compute_vjepa_surprise

__all__ = ["compute_vjepa_surprise"]


def __getattr__(name: str) -> Any:
    """`compute_vjepa_surprise`, imported when it is asked for: PyTorch takes seconds, --help should not."""
    if name != "compute_vjepa_surprise":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wmreward.surprise.compute import compute_vjepa_surprise

    return compute_vjepa_surprise


def main() -> NoReturn:
    """The command line, as a process of its own."""
    start("wmreward.scoring.cli")


if __name__ == "__main__":
    main()
