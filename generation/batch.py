"""Videos of a whole job list with MAGI-1, from a clone: `python -m generation.batch --jobs LIST`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.generation.batch.cli")
