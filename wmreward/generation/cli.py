"""The command line of `generate_magi1.py`. Nothing heavy is imported before the flags are understood."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.ending import run_command
from wmreward.commands.flags import underscored
from wmreward.errors import WMRewardError
from wmreward.generation.flags import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(
        _run,
        argv,
        interrupted=lambda _: "interrupted; the same command goes on from the last finished chunk",
    )


def _run(argv: Sequence[str]) -> int:
    parser = build_parser()
    given = vars(parser.parse_args(underscored(argv)))
    values = parser.defaults | given
    if values["version"]:
        from wmreward.version import __version__

        print(f"wmreward {__version__}")
        return 0
    from magi1.errors import MagiError
    from wmweights import WeightsError

    try:
        return _generate(values)
    except (MagiError, WeightsError) as error:
        failure = WMRewardError(str(error))
        failure.exit_code = getattr(error, "exit_code", 1)
        raise failure from error


def _generate(values: dict[str, object]) -> int:
    from wmreward.generation.job import configuration, job_from, plan_table

    config = configuration(values)
    if values["plan"]:
        print(plan_table(config, values))
        return 0
    if values["download"]:
        from magi1.download import download

        config = download(config)
    job = job_from(config, values)
    from wmreward.generation.run import run

    return run(job)
