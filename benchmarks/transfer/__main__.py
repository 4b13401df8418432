"""`python -m benchmarks.transfer`: see `--help`."""

import sys

from benchmarks.transfer.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
