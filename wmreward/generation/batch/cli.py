"""Videos of a whole job list with MAGI-1, on any number of processes; what is done is never done again.

    python -m generation.batch --jobs prompt/embedded_i2v.jsonl
    torchrun --nproc_per_node 8 -m generation.batch --jobs physics_iq_i2v.jsonl --config_file …

The scripts beside this file launch it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmreward.commands.ending import run_command, say_error
from wmreward.generation.batch.flags import parse

if TYPE_CHECKING:
    from wmreward.batch.folder import RunFolder
    from wmreward.batch.team import Team
    from wmreward.generation.batch.setup import Setup

EXIT_FILE = "WMREWARD_EXIT_FILE"
"""Environment variable with the name of a file that takes exit code and run folder. torchrun takes any code
but 0 for a crash, starts everything again, and prints a traceback of its own."""

LOST_CONTACT = 75
"""Exit code of `wmreward.batch.team.LostContact`: only a restart of all processes helps."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one process; returns its exit code. Errors are printed as one line."""
    ran: list[RunFolder] = []
    code = run_command(partial(_run, ran=ran), argv)
    if code >= 128 or code == LOST_CONTACT:
        return code
    if os.environ.get("RANK", "0") != "0":
        return 0  # the first process says how it went
    if file := os.environ.get(EXIT_FILE):
        Path(file).write_text(f"{code}\n{ran[0].path if ran else ''}\n")
        return 0
    return code


def _run(argv: Sequence[str], ran: list[RunFolder]) -> int:
    """The exit code; the folder of the run is added to ``ran`` where one was worked in."""
    values = parse(argv)
    if values["dry_run"]:
        from wmreward.generation.batch.setup import Setup

        print(Setup.of(values).table(values["processes"]))
        return 0
    from wmreward.batch.team import LostContact, Team

    try:
        team = Team.joined()
        setup, folder = team.together("set up", lambda: _set_up(values))
        code = _generate(setup, folder, team.in_groups(setup.processes_per_video))
    except LostContact as error:  # said by every process that lost it
        say_error(error)
        return LOST_CONTACT
    ran.append(folder)
    return code


def _set_up(values: Mapping[str, Any]) -> tuple[Setup, RunFolder]:
    """All that can be found wrong before processes work together, and the run's folder."""
    from wmreward.generation.batch.setup import Setup

    setup = Setup.of(values)
    cut = setup.check()
    if cut and os.environ.get("RANK", "0") == "0":
        job, first = next(iter(cut.items()))
        print(f"note: job {job}: {first} ({len(cut)} such prompts in the list)", file=sys.stderr)
    return setup, setup.folder()


def _generate(setup: Setup, folder: RunFolder, team: Team) -> int:
    from magi1.parallel.groups import process_groups
    from wmreward.batch.runner import BatchOptions, run_batch
    from wmreward.devices import find_device
    from wmreward.generation.batch.maker import MagiMaker

    values, device = setup.values, find_device(setup.values["device"])
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
