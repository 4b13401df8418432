"""The generator's configuration as flags change it. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from magi1.config import MagiConfig
from magi1.files.located import TINY_CONFIG as EMBEDDED_CONFIG
from magi1.files.located import located
from magi1.refusal import FieldError, shown
from wmreward.errors import UsageError
from wmreward.generation.flags import OVERRIDES, SCALES, TINY_CONFIG


def configuration(values: Mapping[str, Any]) -> MagiConfig:
    """The configuration file with the numbers that flags replace.

    Raises:
        MagiUsageError: a file or a number that is not right.
    """
    path = Path(values["config_file"])
    if values["config_file"] == TINY_CONFIG and not path.exists():
        path = located(EMBEDDED_CONFIG)  # the small model works from any folder
    config = MagiConfig.load(path)
    changes: dict[str, Any] = {
        number: values[flag]
        for flag, number in {**OVERRIDES, "seed": "seed"}.items()
        if values[flag] is not None
    }
    intervals = len(config.runtime_config.cfg_t_range)
    for name in SCALES:
        if (given := values[name]) is not None:
            changes[name] = tuple(given) * (intervals if len(given) == 1 else 1)
    engine = config.engine_config
    if (processes := values["cp_size"]) is not None:
        strategy = "cp_ulysses" if processes > 1 else engine.cp_strategy
        engine = replace(engine, cp_size=processes, cp_strategy=strategy)
    try:
        return replace(
            config, runtime_config=replace(config.runtime_config, **changes), engine_config=engine
        )
    except FieldError as error:
        raise UsageError(error.told(partial(_as_flag, values))) from error


_FLAGS = {number: flag for flag, number in OVERRIDES.items()} | {
    name: name for name in (*SCALES, "cp_size")
}
"""Fields of the configuration, and the flags that replace them."""


def _as_flag(values: Mapping[str, Any], field: str, value: Any) -> str:
    """How a field of the configuration is called to who typed flags."""
    flag = _FLAGS.get(field)
    if flag is None:
        return f"{field}={shown(value)}"
    words = " ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else [value]))
    return f"--{flag} {words}" if values[flag] is not None else f"--{flag} (here {words})"
