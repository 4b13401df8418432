"""`python -m benchmarks.bench_pipelines`: see `--help`."""

import sys

from benchmarks.bench_pipelines.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
