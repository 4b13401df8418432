"""`python -m wmreward.physics_iq`: see `--help`."""

import sys

from wmreward.physics_iq.cli import main

if __name__ == "__main__":
    sys.exit(main())
