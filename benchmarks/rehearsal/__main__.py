"""`python -m benchmarks.rehearsal`: see `--help`."""

import sys

from benchmarks.rehearsal.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
