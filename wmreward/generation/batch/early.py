"""What is wrong with flags of a batch at first sight, and with its list: told before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmreward.batch.processes.share import Share
from wmreward.commands.flags import Values
from wmreward.errors import UsageError
from wmreward.files import check_folder, check_regular, misused, user_path
from wmreward.generation.early import check_dtype, check_generator


def check_early(values: Values) -> None:
    """All flags, and the files that they name.

    Raises:
        UsageError, MagiUsageError: flags that contradict each other, a list or a configuration that is wrong.
    """
    check_generator(values)
    if "processes" in values.given and not values["dry_run"]:
        raise UsageError(
            "--processes is for --dry_run: torchrun starts processes, or a script of generation/"
        )
    check_regular(user_path(values["jobs"]), refuse=misused)
    check_dtype(values["dtype"])
    if not values["dry_run"]:
        check_folder(user_path(values["run"] or values["runs"]))
    Share.parse(values["share"])
    from wmreward.generation.asked import AskedSteering, usual_model
    from wmreward.prompts.jobs import read_jobs

    read_jobs(user_path(values["jobs"]))
    if values["pipeline"]:
        return  # how many steps it takes, it says itself
    from wmreward.generation.configured import configuration

    config = configuration(values)
    asked = AskedSteering.of(
        {**values, "mode": None},  # each job has its own
        config.runtime_config.num_steps,
        default_model=usual_model(config.model_config.model_name),
        judges=not values["no_scores"],
    )
    variants_of(values, guides=asked.schedule.acts)


def variants_of(values: Mapping[str, Any], *, guides: bool) -> tuple[str, ...]:
    """How each candidate is made; ``guides``: whether guidance acts.

    Raises:
        UsageError: variants that do not fit the other flags.
    """
    variants = tuple(dict.fromkeys(values["variants"] or ["guided" if guides else "plain"]))
    if "guided" in variants and not guides:
        raise UsageError("--variants guided needs a --guidance_scale")
    if variants == ("plain",) and guides:
        raise UsageError("--guidance_scale has no meaning with --variants plain alone")
    return variants
