"""`python -m wmreward.select`: see `--help`."""

import sys

from wmreward.select.cli import main

if __name__ == "__main__":
    sys.exit(main())
