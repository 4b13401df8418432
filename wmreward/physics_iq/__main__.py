"""`python -m wmreward.physics_iq`: see `--help`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.physics_iq.cli")
