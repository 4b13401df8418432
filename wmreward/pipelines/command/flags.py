"""Which flags mean something to a pipeline. Nothing heavy is imported here."""

from __future__ import annotations

from wmreward.commands.flags import Values
from wmreward.errors import UsageError
from wmreward.pipelines.command.economy import economy_of

_OTHER_GENERATORS = (
    *("config_file", "init_video", "chunks_at_once", "text_scales", "prev_chunk_scales"),
    *("special_tokens", "compat", "preview", "save_latents", "cp_size", "compile", "kernels"),
    *("particle_beta", "particle_every", "particle_range", "particle_threshold", "particle_churn"),
)
"""Flags of `wmreward generate` that mean something to MAGI-1 only."""


ARGUMENTS = {
    "num_steps": "num_inference_steps",
    "num_frames": "num_frames",
    "video_size_h": "height",
    "video_size_w": "width",
}
"""Flags, and the argument of the pipeline's call that each one is."""

_OURS = frozenset(
    {
        *ARGUMENTS.values(),
        "prompt",
        "negative_prompt",
        "image",
        "generator",
        "output_type",
        "latents",
    }
    | {"return_dict", "num_videos_per_prompt", "callback_on_step_end"}
)
"""Arguments that ``--pipeline_call`` cannot set."""

_PIPELINES_ONLY = ("pipeline_call", "pipeline_economy", "pipeline_revision")


def check_flags(values: Values) -> None:
    """Raise ``UsageError`` for flags that mean nothing to any pipeline, or to MAGI-1 where none is named."""
    if not values["pipeline"]:
        for name in _PIPELINES_ONLY:
            if name in values.given:
                raise UsageError(f"--{name} has no meaning without --pipeline: leave it out")
        return
    economy_of(values["pipeline_economy"] or ())
    for name in _OTHER_GENERATORS:
        if name in values.given:
            raise UsageError(f"--{name} has no meaning with --pipeline: leave it out")
    if values["search"] == "particles":
        raise UsageError("--search particles has no meaning with --pipeline: use --best_of")
    if values["guidance_through"] != "x0":
        raise UsageError("--guidance_through dit cannot be had with --pipeline: use x0")
    if values["candidate_batch"] != 1:
        raise UsageError(
            "--candidate_batch has no meaning with --pipeline: candidates come one by one"
        )
    for entry in values["pipeline_call"] or ():
        name, equals, _ = entry.partition("=")
        if not equals or not name or name in _OURS:
            raise UsageError(f"--pipeline_call {entry} must be NAME=VALUE with a name of its own")
