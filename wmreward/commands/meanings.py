"""What people call a flag elsewhere: words by meaning, for flags that are not there. Nothing heavy.

Only words that near misses of spelling would not find, or would find something else for.
"""

from __future__ import annotations

from collections.abc import Collection

MEANINGS: dict[str, tuple[str, ...]] = {
    "width": ("video_size_w",),
    "height": ("video_size_h",),
    "size": ("video_size_h --video_size_w",),
    "resolution": ("video_size_h --video_size_w",),
    "frames": ("num_frames", "max_frames"),
    "length": ("num_frames", "seconds", "max_frames"),
    "duration": ("num_frames", "seconds", "max_frames"),
    "num_inference_steps": ("num_steps",),
    "steps": ("num_steps",),
    "frame_rate": ("video_fps", "fps", "clip_fps"),
    "framerate": ("video_fps", "fps", "clip_fps"),
    "fps": ("video_fps", "clip_fps"),
    "cfg": ("text_scales",),
    "cfg_scale": ("text_scales",),
    "guidance": ("guidance_scale",),
    "image": ("init_image",),
    "first_frame": ("init_image",),
    "video": ("video_path", "init_video"),
    "input": ("video_path", "init_video", "jobs"),
    "text": ("prompt",),
    "caption": ("prompt",),
    "n": ("best_of", "max_seeds"),
    "num_samples": ("best_of", "max_seeds"),
    "num_videos": ("best_of", "max_seeds"),
    "samples": ("best_of", "max_seeds"),
    "candidates": ("best_of", "max_seeds"),
    "generator": ("config_file",),
    "config": ("config_file",),
    "checkpoint": ("weights", "config_file"),
    "ckpt": ("weights", "config_file"),
    "backbone": ("model",),
    "encoder": ("model",),
    "metric": ("reward", "score"),
    "judge": ("reward",),
    "precision": ("dtype",),
    "fp16": ("dtype",),
    "bf16": ("dtype",),
    "half": ("dtype",),
    "gpu": ("device",),
    "cuda": ("device",),
    "cpu": ("device",),
    "threads": ("workers", "read_ahead"),
    "batch": ("batch_size", "candidate_batch"),
    "out": ("output", "run"),
    "save": ("output", "copy_to"),
    "dest": ("output", "copy_to"),
    "output_dir": ("runs", "copy_to", "pictures"),
    "outdir": ("runs", "copy_to", "pictures"),
    "csv": ("format",),
    "markdown": ("format",),
    "latex": ("format",),
    "table": ("format",),
    "graph": ("plot", "plots"),
    "chart": ("plot", "plots"),
    "curve": ("plot", "plots"),
    "figure": ("plot", "plots"),
    "heatmap": ("map",),
    "heat_map": ("map",),
    "group": ("group_by",),
    "by": ("group_by",),
    "winners": ("copy_to",),
    "sheet": ("contact_sheets",),
    "force": ("overwrite",),
    "estimate": ("plan", "dry_run"),
}
"""Flags of a word, written without the first dashes; of a command, the first one that it has is meant."""


def meant(word: str, flags: Collection[str]) -> str | None:
    """The flag of a command that a word stands for, with its dashes; None if there is none.

    Args:
        word: In lower case, without dashes before it, with underscores within.
        flags: Names of those that the command has.
    """
    for names in MEANINGS.get(word, ()):
        if names.partition(" ")[0] in flags:
            return " and --".join(f"--{names}".split(" --"))
    return None
