"""Videos of a whole job list with MAGI-1, from a clone: `python -m generation.batch --jobs LIST`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Without an install the package lies one level down: a dash cannot be imported.
    sys.path.insert(1, str(Path(__file__).parents[1] / "MAGI-1"))
    # Read when PyTorch is loaded; otherwise its threads spin while they wait for one another.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from wmreward.generation.batch.cli import main

    raise SystemExit(main())
