"""`python -m wmreward.prompts`: see `--help`."""

import sys

from wmreward.prompts.cli import main

if __name__ == "__main__":
    sys.exit(main())
