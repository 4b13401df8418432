"""`python -m wmreward.generation.batch`: see `--help`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.generation.batch.cli")
