"""`python -m wmreward.prompts`: see `--help`."""

from wmreward.commands.ending import start

if __name__ == "__main__":
    start("wmreward.prompts.cli")
