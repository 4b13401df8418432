"""The flags of batch generation: its own, and those of `generate_magi1.py` that shape videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wmreward.commands.flags import Parser, underscored
from wmreward.errors import UsageError
from wmreward.generation.flags import build_parser

VARIANTS = ("plain", "guided")

_EPILOG = """\
All flags of generate_magi1.py that shape videos are taken, too (--config_file, --num_steps, --guidance_scale,
--reward, --offload, --cp_size, …); what differs from job to job stands in the list (prompt/README.md).

Exit code: 0 when all candidates are there, 1 when some failed or the run had to stop, 2 for wrong flags or a
folder that is in use, 143 after SIGTERM and 130 after Ctrl-C: what was finished is kept, and the same command
goes on from there. 75: a process lost the others; torchrun starts all of them again.

examples:
  torchrun --standalone --nproc_per_node 8 -m generation.batch --jobs physics_iq_i2v.jsonl \\
      --config_file MAGI-1/example/4.5B/4.5B_base_config.json --runs runs
  python -m generation.batch --jobs prompt/embedded_i2v.jsonl --dry_run
"""

_OF_ONE_VIDEO = frozenset(
    {
        *("mode", "prompt", "negative_prompt", "init_image", "init_video", "seed", "seeds"),
        *("output_path", "overwrite", "preview", "save_latents", "json", "plan", "version"),
        *("best_of", "search", "candidate_batch", "keep", "compare", "plot", "download"),
    }
)
"""Flags of generate_magi1.py that have no meaning here."""


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """All values: those of a run, and those of the generator.

    Raises:
        UsageError: a flag that is wrong, unknown or of one video only.
    """
    own, generator = _parser(), build_parser()
    given, rest = own.parse_known_args(underscored(argv))
    shaping = vars(generator.parse_args(rest))
    if alien := sorted(_OF_ONE_VIDEO & shaping.keys()):
        raise UsageError(
            f"--{alien[0]} is for one video: it has no meaning here (--help lists all flags)"
        )
    return generator.defaults | shaping | own.defaults | vars(given)


def _parser() -> Parser:
    parser = Parser("Generate the videos of a job list, on any number of processes.", _EPILOG)
    parser.prog = "python -m generation.batch"
    parser.add(parser, "--jobs", "the list (.jsonl)", required=True, metavar="FILE")
    parser.add(
        parser,
        "--runs",
        "folder in which the run gets a folder of its own, named by list and settings",
        default="outputs/runs",
        metavar="DIR",
    )
    parser.add(
        parser,
        "--run",
        "the run's folder itself, instead; other settings than before are refused",
        metavar="DIR",
    )
    parser.add(
        parser,
        "--variants",
        "plain, guided or both, as 'plain guided' (default: guided with --guidance_scale, else plain)",
        nargs="+",
        choices=VARIANTS,
        metavar="NAME",
    )
    parser.add(
        parser,
        "--max_seeds",
        "at most so many seeds of each job",
        type=int,
        metavar="N",
    )
    parser.add(
        parser,
        "--no_scores",
        "do not judge the videos: no world model is loaded",
        action="store_true",
    )
    parser.add(
        parser,
        "--share",
        "work on part K of N only, as tasks of a SLURM array do",
        default="1/1",
        metavar="K/N",
    )
    parser.add(
        parser,
        "--grace_s",
        "seconds to finish a video after SIGTERM; torchrun and SLURM kill after 30",
        type=float,
        default=20.0,
        metavar="S",
    )
    parser.add(parser, "--no_progress", "show no bar", action="store_true")
    parser.add(
        parser,
        "--dry_run",
        "print jobs, memory and hours, and stop; needs no weights",
        action="store_true",
    )
    parser.add(
        parser,
        "--processes",
        "how many there will be, for --dry_run",
        type=int,
        default=1,
        metavar="N",
    )
    return parser
