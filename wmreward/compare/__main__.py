"""`python -m wmreward.compare`: see `--help`."""

import sys

from wmreward.compare.cli import main

if __name__ == "__main__":
    sys.exit(main())
