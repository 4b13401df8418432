"""`python -m benchmarks.intuitive_physics`: see `--help`."""

import sys

from benchmarks.intuitive_physics.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
