"""A folder of parts belongs to one run's settings: results of different settings are never mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmreward.errors import WMRewardError
from wmreward.files import write_text


def claim(folder: Path, settings: Mapping[str, Any], flags: str) -> None:
    """Keep the settings in ``folder / "settings.json"``, or compare them with those that are there.

    Args:
        folder: Of the parts.
        settings: All that decides them.
        flags: By which another folder is given, for the message.

    Raises:
        WMRewardError: the folder belongs to a run with other settings.
    """
    file = folder / "settings.json"
    ours = json.loads(json.dumps(settings, default=str))
    if file.exists():
        theirs = json.loads(file.read_text())
        different = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        if different:
            raise WMRewardError(
                f"{folder} holds parts of a run with another {', '.join(different)}; "
                f"give another folder with {flags}, or delete this one"
            )
    else:
        write_text(file, json.dumps(ours, indent=2) + "\n")
