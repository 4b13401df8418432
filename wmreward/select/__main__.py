"""`python -m wmreward.select`: see `--help`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.select.cli")
