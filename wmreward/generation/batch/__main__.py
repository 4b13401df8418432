"""`python -m wmreward.generation.batch`: see `--help`."""

import sys

from wmreward.generation.batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
