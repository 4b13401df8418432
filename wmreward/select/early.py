"""What is wrong with flags at first sight: told before PyTorch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wmreward.commands.flags import Values
from wmreward.commands.unused import NO_TABLE, Use, tell, without_effect
from wmreward.errors import UsageError
from wmreward.files import check_folder, user_path
from wmreward.pictures.extra import check_pictures
from wmreward.rewards.names import (
    ALONE,
    CURVED,
    OWN,
    SEAM,
    SURPRISE,
    AskedRewards,
    parse_weights,
    weightless,
)
from wmreward.scoring.settings import with_rates
from wmreward.select.groups import in_groups
from wmreward.surprise.sampling import Sampling

_RESCORING = frozenset(
    {
        *("rescore", "reward", "combine", "group_by", "copy_to", "contact_sheets", "plots"),
        *("json", "format", "debug"),
    }
)
"""What can be said where nothing is judged."""

_NO_SEAM = (
    "--reward seam judges where a video leaves the frames that were given to its generator; here none are "
    "known as given, so it is the same as surprise"
)


def check_early(flags: Values, found: Mapping[Path, str | None]) -> dict[str, list[Path]]:
    """All flags; returns the videos in groups.

    Args:
        flags: Of the command line.
        found: The videos that they name, with their prompts.

    Raises:
        UsageError: flags that make no sense.
        WMRewardError: a folder that cannot be written to.
    """
    values = with_rates(flags, flags.given)
    sampling = Sampling(**{name: values[name] for name in ("max_frames", "fps", "image_fps")})
    needed = AskedRewards.of(values, default_model="vitg").min_frames
    if sampling.fps is None and sampling.max_frames < needed:
        raise UsageError(
            f"--max_frames {sampling.max_frames} is too few: the reward needs {needed}"
        )
    output = None if values["output"] is None else user_path(values["output"])
    if output is not None and output.suffix.lower() != ".jsonl":
        raise UsageError(f"--output {output} must end in .jsonl")
    if output is not None:
        check_folder(output.parent)
    groups = in_groups(found, values["group_by"])
    _check_shown(flags)
    if SEAM in parse_weights(flags["reward"] or [SURPRISE]):
        tell([_NO_SEAM])
    return groups


def check_rescoring(flags: Values) -> Path:
    """The same where finished candidates are compared anew; returns the file of their records."""
    if other := sorted(flags.given - _RESCORING):
        raise UsageError(f"--rescore judges nothing: leave out --{other[0]}")
    file = user_path(flags["rescore"])
    if not file.is_file():
        raise UsageError(f"--rescore {file}: no such file of records (.jsonl)")
    parse_weights(flags["reward"] or [SURPRISE])
    _check_shown(flags)
    return file


def _check_shown(flags: Values) -> None:
    """Pictures can be drawn, and copies written; what has no effect is told."""
    rewards = parse_weights(flags["reward"] or [SURPRISE])
    uses = (
        Use(frozenset({"combine"}), len(rewards) > 1, ALONE),
        Use(frozenset({"format"}), not flags["json"], NO_TABLE),
    )
    tell(without_effect(flags.given, uses) + weightless(rewards))
    if flags["plots"] is not None:
        check_pictures("--plots")
        if not any(name in CURVED or name not in OWN for name in rewards):
            raise UsageError(
                f"--plots draws rewards over time, which {' and '.join(rewards)} do not know: add one of "
                f"{', '.join(CURVED)}"
            )
    for name in ("copy_to", "contact_sheets", "plots"):
        if flags[name] is not None:
            check_folder(user_path(flags[name]))
