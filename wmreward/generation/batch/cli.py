"""Videos of a whole job list with MAGI-1, on any number of processes; what is done is never done again.

    python -m generation.batch --jobs prompt/embedded_i2v.jsonl
    torchrun --nproc_per_node 8 -m generation.batch --jobs physics_iq_i2v.jsonl --config_file …

The scripts beside this file launch it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wmreward.errors import WMRewardError
from wmreward.generation.batch.flags import parse

if TYPE_CHECKING:
    from wmreward.batch import RunFolder
    from wmreward.generation.batch.setup import Setup

EXIT_FILE = "WMREWARD_EXIT_FILE"
"""Environment variable with the name of a file that takes exit code and run folder. torchrun takes any code
but 0 for a crash, starts everything again, and prints a traceback of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one process; returns its exit code."""
    from magi1.errors import MagiError
    from wmreward.batch.team import LostContact
    from wmweights import WeightsError

    argv = sys.argv[1:] if argv is None else argv
    first = os.environ.get("RANK", "0") == "0"
    folder = ""
    try:
        code, folder = _run(argv)
    except LostContact as error:
        _say(f"process {os.environ.get('RANK', '0')}: {error}")
        return error.exit_code
    except (WMRewardError, MagiError, WeightsError) as error:
        if first:
            _say(f"error: {error}")
        code = int(getattr(error, "exit_code", 1))
    except KeyboardInterrupt:  # before there was anything to stop
        return 130
    if code >= 128:
        return code
    if not first:
        return 0
    if file := os.environ.get(EXIT_FILE):
        Path(file).write_text(f"{code}\n{folder}\n")
        return 0
    return code


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Exit code, and the folder of the run if there is one."""
    values = parse(argv)
    from wmreward.generation.batch.setup import Setup

    setup = Setup.of(values)
    if values["dry_run"]:
        print(setup.table(values["processes"]))
        return 0, ""
    setup.check()
    folder = setup.folder()
    return _generate(setup, folder), str(folder.path)


def _generate(setup: Setup, folder: RunFolder) -> int:
    from magi1.parallel.groups import process_groups
    from wmreward.batch import BatchOptions, run_batch
    from wmreward.batch.team import Team
    from wmreward.devices import find_device
    from wmreward.generation.batch.maker import MagiMaker

    values, device = setup.values, find_device(setup.values["device"])
    team = Team.joined(setup.processes_per_video)
    options = BatchOptions(
        cost=setup.cost, grace_s=values["grace_s"], progress=not values["no_progress"]
    )
    with process_groups(setup.config.engine_config, device.type) as place:
        return run_batch(
            folder,
            setup.jobs,
            setup.variants,
            lambda: MagiMaker(setup, place),
            team=team,
            options=options,
        )


def _say(text: str) -> None:
    print(" ".join(text.split("\n")), file=sys.stderr)
