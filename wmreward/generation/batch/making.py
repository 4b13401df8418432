"""What makers of candidates share: which files there are, what the manifest says, how failures are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from wmreward.batch.candidates import Unfit
from wmreward.errors import WMRewardError

VIDEO = "video.mp4"
_FROM_RECORD = ("frames", "fps", "size", "resumed", "device", "processes", "peak_memory_bytes")


def facts_of(record: Mapping[str, Any], given_sha256: str | None) -> dict[str, Any]:
    """What the manifest says of a candidate, from its video's record and the hash of its given frames."""
    facts: dict[str, Any] = {
        "video": VIDEO,
        "given_sha256": given_sha256,
        **{name: record[name] for name in _FROM_RECORD},
    }
    if "prompt_cut" in record:
        facts["prompt_cut"] = record["prompt_cut"]
    if "guidance" in record:
        facts["guidance"] = {name: record["guidance"][name] for name in ("summary", "effect")}
    return facts


@contextmanager
def failing(*known: type[Exception]) -> Iterator[None]:
    """Within the context, errors are those of a single candidate, but for those that end the process.

    Args:
        known: Errors of the generator that say in words what is wrong.

    Raises:
        WMRewardError: this candidate failed.
        Unfit: the process can make no more.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        torch.cuda.empty_cache()
        raise WMRewardError(f"not enough memory ({error})") from error
    except known as error:
        raise WMRewardError(str(error)) from error
    except RuntimeError as error:
        if "CUDA error" in str(error):  # nothing works in this process any more
            raise Unfit(str(error)) from error
        raise
