"""A command of the project as a process of its own, watched; hollow weights are filled.

python -m benchmarks.rehearsal.command FOLDER MODULE [FLAG …]
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.rehearsal.weights import fill_hollow_files


def main() -> None:
    fill_hollow_files()
    from benchmarks.rehearsal.phases import watch
    from wmreward.commands.ending import start

    folder, module, *flags = sys.argv[1:]
    watch(Path(folder))
    sys.argv = [module, *flags]
    start(module)


if __name__ == "__main__":
    main()
