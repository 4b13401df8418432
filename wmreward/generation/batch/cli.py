"""Videos of a whole job list, on any number of processes; what is done is never done again.

    python -m generation.batch --jobs prompt/embedded_i2v.jsonl
    torchrun --nproc_per_node 8 -m generation.batch --jobs physics_iq_i2v.jsonl --config_file …

The scripts beside this file launch it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wmreward.commands.ending import run_command, say_error
from wmreward.commands.flags import Values
from wmreward.generation.batch.early import check_early
from wmreward.generation.batch.flags import parse
from wmreward.pipelines.command.flags import check_flags

if TYPE_CHECKING:
    from wmreward.batch.folder import RunFolder
    from wmreward.batch.processes.team import Team
    from wmreward.generation.batch.wanted import Wanted

EXIT_FILE = "WMREWARD_EXIT_FILE"
"""Environment variable with the name of a file that takes exit code and run folder. torchrun takes any code
but 0 for a crash, starts everything again, and prints a traceback of its own."""

LOST_CONTACT = 75
"""Exit code of `wmreward.batch.processes.team.LostContact`: only a restart of all processes helps."""


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
    check_flags(values)
    check_early(values)
    if values["dry_run"]:
        print(_wanted(values).table(values["processes"]))
        return 0
    from wmreward.batch.processes.team import LostContact, Team

    try:
        team = Team.joined()
        wanted, folder = team.together("set up", lambda: _set_up(values))
        code = _generate(wanted, folder, team.in_groups(wanted.processes_per_video))
    except LostContact as error:  # said by every process that lost it
        say_error(error)
        return LOST_CONTACT
    ran.append(folder)
    return code


def _wanted(values: Values) -> Wanted:
    """What is to be done, by the generator that the flags name."""
    from wmreward.generation.unused import tell_unused

    if values["pipeline"]:
        from wmreward.pipelines.command.batch import PipelineBatch

        pipelines = PipelineBatch.of(values)
        tell_unused(values, pipelines.steering)
        return pipelines
    from wmreward.generation.batch.setup import Setup

    wanted = Setup.of(values)
    tell_unused(values, wanted.steering, config=wanted.config)
    return wanted


def _set_up(values: Values) -> tuple[Wanted, RunFolder]:
    """All that can be found wrong before processes work together, and the run's folder."""
    wanted = _wanted(values)
    notes = wanted.check()
    if os.environ.get("RANK", "0") == "0":
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    return wanted, wanted.folder()


def _generate(wanted: Wanted, folder: RunFolder, team: Team) -> int:
    from magi1.parallel.groups import process_groups
    from wmreward.batch.runner import BatchOptions, run_batch
    from wmreward.devices import find_device

    values, device = wanted.values, find_device(wanted.values["device"])
    options = BatchOptions(
        cost=wanted.cost, grace_s=values["grace_s"], progress=not values["no_progress"]
    )
    with process_groups(wanted.engine, device.type) as place:
        return run_batch(
            folder,
            wanted.jobs,
            wanted.variants,
            lambda: wanted.maker(place),
            team=team,
            options=options,
        )
