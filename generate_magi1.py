"""Generate a video with MAGI-1: from a text, an image, or the beginning of a video.

    python generate_magi1.py --mode t2v --prompt "a red ball falls and bounces on the floor"
    python generate_magi1.py --config_file ./MAGI-1/example/4.5B/4.5B_base_config.json \\
        --mode i2v --init_image first.png --prompt "waves roll onto a beach" --output beach.mp4
    torchrun --nproc_per_node 8 generate_magi1.py --config_file ./MAGI-1/example/24B/24B_base_config.json …
"""

from __future__ import annotations

from typing import NoReturn

from wmreward.commands.ending import start


def main() -> NoReturn:
    """The command line, as a process of its own."""
    start("wmreward.generation.cli")


if __name__ == "__main__":
    main()
