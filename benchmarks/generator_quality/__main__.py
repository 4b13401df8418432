"""`python -m benchmarks.generator_quality`: see `--help`."""

import sys

from benchmarks.generator_quality.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
