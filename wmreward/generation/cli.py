"""The command line of `wmreward generate` (`generate_magi1.py`). Nothing heavy is imported before the flags are understood."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import Values
from wmreward.errors import UsageError, WMRewardError
from wmreward.generation.flags import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run,
        argv,
        interrupted=lambda _: "interrupted; the same command goes on from the last finished chunk",
    )


def _run(argv: Sequence[str]) -> int:
    values = build_parser().read(argv)
    from magi1.errors import MagiError
    from wmweights import WeightsError

    try:
        return _generate(values)
    except (MagiError, WeightsError) as error:
        failure = WMRewardError(str(error))
        failure.exit_code = getattr(error, "exit_code", 1)
        raise failure from error


def _generate(values: Values) -> int:
    from wmreward.generation.job import configuration, job_from, plan_table, with_mode

    values = with_mode(values)

    config = configuration(values)
    if values["plan"]:
        print(plan_table(config, values))
        return 0
    if values["download"]:
        from magi1.download import download

        config = download(config)
    job = job_from(config, values)
    if "window_size" in values.given and job.steering.rewards is None:
        raise UsageError(
            "--window_size is of the surprise, and nothing here is judged or guided by it (chunks in flight: "
            "--chunks_at_once)"
        )
    from wmreward.generation.run import run

    return run(job)
