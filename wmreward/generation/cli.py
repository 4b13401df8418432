"""The command line of `wmreward generate` (`generate_magi1.py`).

Nothing heavy is imported before the flags are understood.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Values
from wmreward.errors import UsageError
from wmreward.generation.flags import build_parser
from wmreward.pipelines.command.flags import check_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=_interrupted)


def _interrupted(argv: Sequence[str]) -> str:
    if "--plan" in argv:
        return "interrupted"
    return "interrupted; the same command goes on from the last finished chunk, if any"


def _run(argv: Sequence[str]) -> int:
    values = build_parser().read(argv)
    if values["mode"] is None:
        values["mode"] = _mode_of(values)
    return _generate(values)


def _mode_of(values: Values) -> str:
    """What is generated follows from what is given."""
    if values["init_image"] and values["init_video"]:
        raise UsageError("--init_image and --init_video: leave out one")
    if values["init_image"]:
        return "i2v"
    return "v2v" if values["init_video"] else "t2v"


def _generate(values: Values) -> int:
    from wmreward.generation.early import check_early

    check_flags(values)
    check_early(values)
    from wmreward.generation.asked import check_asked, usual_model

    if values["pipeline"]:
        check_asked(values, values["num_steps"], "vitg")
        from wmreward.pipelines.command.workshop import generate

        return generate(values)
    from wmreward.generation.configured import configuration

    config = configuration(values)
    runtime = config.runtime_config
    check_asked(values, runtime.num_steps, usual_model(config.model_config.model_name))
    if values["plan"]:
        from wmreward.generation.planned import plan_table

        print(plan_table(config, values))
        return 0
    if values["download"]:
        from magi1.files.download import download

        config = download(config)
    from wmreward.generation.job import job_from

    job = job_from(config, values)
    from wmreward.generation.foreign import foreign
    from wmreward.generation.run import run
    from wmreward.generation.unused import tell_unused

    tell_unused(values, job.steering, job.search, config)
    judge = None if job.search is None else job.search.judge
    for note in foreign(config.model_config.model_name, job.steering.rewards, judge):
        print(f"note: {note}", file=sys.stderr)
    return run(job)
