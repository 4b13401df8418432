"""`python -m wmreward.compare`: see `--help`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.compare.cli")
