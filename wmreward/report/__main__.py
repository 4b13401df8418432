"""`python -m wmreward.report`: see `--help`."""

import sys

from wmreward.report.cli import main

if __name__ == "__main__":
    sys.exit(main())
