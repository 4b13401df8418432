"""The flags of `wmreward batch`: its own, and those of `wmreward generate` that shape videos."""

from __future__ import annotations

from collections.abc import Sequence

from wmreward.commands.flags import Flag, Parser, Values
from wmreward.commands.kinds import Number, OneOf, Whole, place
from wmreward.generation.flags import GROUPS, OLD
from wmreward.generation.steering_flags import PARTICLES

VARIANTS = ("plain", "guided")

_EPILOG = """\
All flags of `wmreward generate` that shape videos are taken, too (--config_file, --pipeline, --num_steps,
--guidance_scale, --reward, --offload, --cp_size, …; --help-all lists them); what differs from job to job
stands in the list (prompt/README.md in the repository's clone).

Exit code: 0 when all candidates are there, 1 when some failed or the run had to stop, 2 for wrong flags or a
folder that is in use, 143 after SIGTERM and 130 after Ctrl-C: what was finished is kept, and the same command
goes on from there. 75: a process lost the others; torchrun starts all of them again.

  wmreward batch status RUN     how far a run is, who works on it, what failed
  wmreward evaluate RUN         its Physics-IQ scores
  wmreward report RUN           one page about it

examples (prompt/ and MAGI-1/ are folders of the repository's clone):
  wmreward batch --jobs prompt/embedded_i2v.jsonl --dry_run
  torchrun --standalone --nproc_per_node 8 -m wmreward.generation.batch --jobs physics_iq_i2v.jsonl \\
      --config_file MAGI-1/example/4.5B/4.5B_base_config.json --runs runs
"""

_OF_ONE_VIDEO = frozenset(
    {
        *("mode", "prompt", "negative_prompt", "init_image", "init_video", "seed", "seeds"),
        *("output", "overwrite", "preview", "save_latents", "json", "plan"),
        *("best_of", "search", "candidate_batch", "keep", "compare", "judge", "plot", "download"),
        *(flag.name for flag in PARTICLES),
    }
)
"""Flags of `wmreward generate` that have no meaning here, because each job has its own or none has any."""

_OWN = (
    Flag("jobs", "the list of jobs (.jsonl)", metavar="FILE", kind=place, required=True),
    Flag(
        "runs",
        "folder in which the run gets a folder of its own, named by list and settings",
        metavar="DIR",
        kind=place,
        default="outputs/runs",
    ),
    Flag(
        "run",
        "the run's folder itself, instead; other settings than before are refused",
        metavar="DIR",
        kind=place,
    ),
    Flag(
        "variants",
        "plain, guided or both, as 'plain guided'",
        metavar="NAME",
        kind=OneOf(VARIANTS),
        many=True,
        usually="guided with --guidance_scale, else plain",
    ),
    Flag(
        "max_seeds",
        "at most so many seeds of each job",
        metavar="N",
        kind=Whole(1),
    ),
    Flag("no_scores", "do not judge the videos: no world model is loaded"),
    Flag(
        "share",
        "work on part K of N only, as tasks of a SLURM array do",
        metavar="K/N",
        default="1/1",
    ),
    Flag(
        "grace_s",
        "seconds to finish a video after SIGTERM; torchrun and SLURM kill after 30",
        metavar="S",
        kind=Number(0, 86400),
        default=20.0,
    ),
    Flag("no_progress", "show no bar"),
    Flag("dry_run", "print jobs, memory and hours, and stop; needs no weights"),
    Flag(
        "processes",
        "how many there will be, for --dry_run",
        metavar="N",
        kind=Whole(1),
        default=1,
    ),
)


def build_parser() -> Parser:
    """All flags, in groups; those of the generator are listed by ``--help-all``."""
    shaping = {
        title: [flag.but(rare=True) for flag in flags if flag.name not in _OF_ONE_VIDEO]
        for title, flags in GROUPS.items()
    }
    return Parser(
        "wmreward batch",
        "Generate the videos of a job list, on any number of processes.",
        _EPILOG,
        {"run": _OWN, **{title: flags for title, flags in shaping.items() if flags}},
        old=OLD,
        elsewhere=_OF_ONE_VIDEO,
    )


def parse(argv: Sequence[str]) -> Values:
    """All values: those of a run, and those of the generator.

    Raises:
        UsageError: a flag that is wrong, unknown or of one video only.
    """
    values = build_parser().read(argv)
    generator = {flag.name: flag for flags in GROUPS.values() for flag in flags}
    for name in _OF_ONE_VIDEO:  # what batches share with generating looks at these, too
        values[name] = False if generator[name].is_switch else generator[name].default
    return values
