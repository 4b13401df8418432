"""`python -m benchmarks.bench_generate`: see `--help`."""

import sys

from benchmarks.bench_generate.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
