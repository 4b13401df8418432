"""torchrun for `generation.batch`, as `common.sh` calls it: its flags, but no tracebacks of its own.

torchrun answers SIGTERM and Ctrl-C with some forty lines, before or after what the processes themselves say.
"""

from __future__ import annotations

import logging
import sys

from wmreward.commands.ending import start


def main() -> int:
    """Run torchrun; returns its exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.ERROR)  # not every signal it passes on
    try:
        run(parse_args(sys.argv[1:]))
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        print(
            f"error: process {rank} ended with exit code {failure.exitcode} (below 0: a signal), and "
            "--max-restarts allows no further start; what was finished is kept",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    start("generation.launch")
