"""`python -m benchmarks.pipeline_repair`: see `--help`."""

import sys

from benchmarks.pipeline_repair.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
