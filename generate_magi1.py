"""Generate a video with MAGI-1: from a text, an image, or the beginning of a video.

    python generate_magi1.py --mode t2v --prompt "a red ball falls and bounces on the floor"
    python generate_magi1.py --config_file ./MAGI-1/example/4.5B/4.5B_base_config.json \\
        --mode i2v --init_image first.png --prompt "waves roll onto a beach" --output_path beach.mp4
    torchrun --nproc_per_node 8 generate_magi1.py --config_file ./MAGI-1/example/24B/24B_base_config.json …
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Without an install the package lies one level down: a dash cannot be imported.
    sys.path.insert(1, str(Path(__file__).parent / "MAGI-1"))
    # Read when PyTorch is loaded; otherwise its threads spin while they wait for one another.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from wmreward.generation.cli import main

    raise SystemExit(main())
