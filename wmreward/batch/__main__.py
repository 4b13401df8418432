"""`python -m wmreward.batch`: see `--help`."""

import sys

from wmreward.batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
