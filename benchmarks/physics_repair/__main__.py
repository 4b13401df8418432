"""`python -m benchmarks.physics_repair`: see `--help`."""

import sys

from benchmarks.physics_repair.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
