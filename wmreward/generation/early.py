"""What is wrong with flags at first sight: told before anything heavy is imported, which takes seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmreward.errors import UsageError, VideoError
from wmreward.files import check_regular, misused, user_path
from wmreward.generation.flags import TINY_CONFIG

_ON_THE_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""Owner and name. A name alone may be that of a very old model, none of which makes videos."""
_NEEDS = {"t2v": None, "i2v": "init_image", "v2v": "init_video"}


def check_early(values: Mapping[str, Any]) -> None:
    """Flags of one video, and the files that they name; a plan needs neither prompt nor files.

    Raises:
        UsageError, VideoError: flags that contradict each other, or a file that is not there.
    """
    check_generator(values)
    planned = values["plan"]
    if not values["pipeline"]:
        check_mode(values, planned=planned)
    elif not planned and not values["prompt"].strip():
        raise UsageError("--pipeline needs a --prompt")
    check_dtype(values["dtype"])
    if values["init_image"]:
        check_regular(Path(values["init_image"]), refuse=VideoError)
    if (video := values["init_video"]) and not Path(video).is_dir():  # it may be one of pictures
        check_regular(Path(video), refuse=VideoError)
    if not planned:
        output_place(values["output"])


def check_dtype(name: str) -> None:
    """Raise ``UsageError`` for a precision that videos are not made in."""
    if name == "float64":
        raise UsageError("--dtype float64 is for scoring: generate in float32 or bfloat16")


def output_place(name: str) -> Path:
    """Where a video goes; raises ``UsageError`` for a name that is no video's."""
    from wmreward.video.write import WRITABLE_SUFFIXES

    path = user_path(name)
    if path.suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"--output {name} must end in {', '.join(WRITABLE_SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"--output {name} is a folder; give the name of a file")
    return path


def check_generator(values: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if a pipeline cannot be one, or the configuration is not there; the small one
    works from any folder.
    """
    if values["compile"] and values["offload"]:
        raise UsageError("--compile cannot be had with --offload: leave one of them out")
    if pipeline := values["pipeline"]:
        if user_path(pipeline).is_file():
            raise UsageError(
                f"--pipeline {pipeline} is a file; name a pipeline's folder, or one on the Hub"
            )
        if not user_path(pipeline).is_dir() and not _ON_THE_HUB.fullmatch(pipeline):
            raise UsageError(
                f"--pipeline {pipeline} is neither a folder nor a name on the Hub, such as "
                "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
            )
    elif values["config_file"] != TINY_CONFIG:
        check_regular(Path(values["config_file"]), refuse=misused)


def check_mode(values: Mapping[str, Any], *, planned: bool = False) -> None:
    """Raise ``UsageError`` unless what is given fits ``--mode``; a plan does not need it."""
    mode, needed = values["mode"], _NEEDS[values["mode"]]
    for flag in filter(None, _NEEDS.values()):
        if flag == needed and not values[flag] and not planned:
            raise UsageError(
                f"--mode {mode} needs --{flag}; for a video from text alone use --mode t2v"
            )
        if flag != needed and values[flag]:
            raise UsageError(f"--{flag} has no meaning with --mode {mode}: leave it out")
    for flag in ("prompt", "negative_prompt"):
        if not values[flag].isascii() and any("\ud800" <= c <= "\udfff" for c in values[flag]):
            raise UsageError(f"--{flag} holds bytes that are no UTF-8 text")
    if mode == "t2v" and not planned and not values["prompt"].strip():
        raise UsageError(
            "a video from a text needs a --prompt (else give --init_image or --init_video)"
        )
