"""The flags of `wmreward generate` (`generate_magi1.py`). Nothing heavy is imported here."""

from __future__ import annotations

from mimetypes import guess_type

from wmreward.commands import shared
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import Number, OneOf, Whole, named_once, place
from wmreward.generation.steering_flags import STEERING

TINY_CONFIG = "./MAGI-1/example/tiny/tiny_config.json"

_EPILOG = """\
Every flag may also be written with dashes (--config-file). Results go to standard output, all else
to standard error. Exit code: 0 when the video is there, 1 when something failed, 2 for wrong flags,
130 after Ctrl-C, 143 after SIGTERM; the same command then goes on from the last finished chunk.

examples (MAGI-1/ is a folder of the repository's clone):
  wmreward generate --prompt "a red ball falls and bounces on the floor" --output ball.mp4
  wmreward generate --config_file ./MAGI-1/example/4.5B/4.5B_base_config.json \\
      --init_image first.png --prompt "waves roll onto a beach" --output beach.mp4
  wmreward generate --config_file ./MAGI-1/example/24B/24B_base_config.json --plan
  wmreward generate --prompt "a ball rolls" --guidance_scale 0.05 --best_of 4 --compare
  wmreward generate --pipeline Wan-AI/Wan2.1-T2V-1.3B-Diffusers --download --prompt "a ball rolls" --best_of 4
"""

OVERRIDES = {
    "num_frames": "num_frames",
    "num_steps": "num_steps",
    "chunks_at_once": "window_size",
    "video_size_h": "video_size_h",
    "video_size_w": "video_size_w",
    "video_fps": "fps",
}
"""Flags that replace a number of the configuration's runtime section, and that number's name."""

SCALES = {
    "text_scales": "strength of text guidance",
    "prev_chunk_scales": "strength of previous-chunk guidance",
}

OLD = {
    "output_path": "output",
    "image_path": "init_image",
    "prefix_video_path": "init_video",
    "fps": "video_fps",
    "reward_mode": "aggregate",
    **{
        f"reward_{name}": name
        for name in ("model", "weights", "window_size", "context_frames", "stride")
    },
}
"""Earlier spellings, and MAGI-1's own. ``--window_size`` is none of them: it is frames of the surprise, not
chunks.
"""

_WHAT = (
    Flag("prompt", "what the video shows, in English", metavar="TEXT", default=""),
    Flag("negative_prompt", "what to guide away from", metavar="TEXT", default="", rare=True),
    Flag("init_image", "the image that opens the video (i2v)", metavar="FILE", kind=place),
    Flag(
        "init_video",
        "the video that is continued (v2v): its last 32 frames at the configuration's rate",
        metavar="FILE",
        kind=place,
    ),
    shared.MODE.but(usually="as --init_image and --init_video say"),
    Flag(
        "config_file",
        "the generator and its settings, a JSON file; the default is the small one that comes along",
        metavar="FILE",
        kind=place,
        default=TINY_CONFIG,
    ),
)

_PIPELINE = (
    Flag(
        "pipeline",
        "a folder, or a name on the Hugging Face Hub, such as Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        metavar="NAME",
        kind=place,
    ),
    Flag(
        "pipeline_call",
        "more arguments of the pipeline's call, as guidance_scale=6",
        metavar="NAME=VALUE",
        many=True,
        gather=named_once,
        rare=True,
    ),
    Flag(
        "pipeline_economy",
        "what guidance gives up: apart or on_host (for memory; exact), pieces=N, scored=N or shrink=N "
        "(approximate; the last two save time, too)",
        metavar="WHAT",
        many=True,
        gather=named_once,
        rare=True,
    ),
    Flag("pipeline_revision", "branch, tag or commit on the Hub", metavar="REVISION", rare=True),
)

_SAMPLING = (
    shared.SEED.but(usually="the configuration's"),
    Flag(
        "num_frames",
        "frames to generate; MAGI-1 makes whole chunks (usually of 24 frames), in which given frames count: "
        "24 after an image become 48, and what is made is told first",
        metavar="N",
        kind=Whole(1),
    ),
    Flag(
        "num_steps",
        "denoising steps; a multiple of --chunks_at_once",
        metavar="N",
        kind=Whole(1, 100_000),
    ),
    Flag(
        "chunks_at_once",
        "chunks in flight at the same time (the configuration's window_size): 1 takes the least memory",
        metavar="N",
        kind=Whole(1, 1000),
        rare=True,
    ),
    Flag("video_size_h", "height in pixels", metavar="N", kind=Whole(1, 16384), rare=True),
    Flag("video_size_w", "width in pixels", metavar="N", kind=Whole(1, 16384), rare=True),
    Flag(
        "video_fps", "frames per second of the video", metavar="N", kind=Whole(1, 1000), rare=True
    ),
    *(
        Flag(
            name,
            f"{text}: one number, or one for each interval of cfg_t_range",
            metavar="S",
            kind=Number(-1000, 1000),
            many=True,
            rare=True,
        )
        for name, text in SCALES.items()
    ),
    Flag(
        "special_tokens",
        "MAGI-1's special_tokens.npz, for the tokens that PAD_HQ, PAD_DURATION, … and NEG_PROMPT in the "
        "environment ask for",
        metavar="FILE",
        kind=place,
        rare=True,
    ),
    shared.COMPAT.but(
        note="continues a video's first 32 frames instead of its last, with three frames missing after them, "
        "and lets the steps alter the opening image"
    ),
)

_OUTPUT = (
    shared.OUTPUT.but(
        default="output.mp4",
        note="the video (.mp4, .mkv or .mov); a .json with all settings comes beside it",
    ),
    Flag("overwrite", "replace a video that was made with other settings"),
    Flag(
        "preview",
        "write what is finished so far beside the output after each chunk",
        rare=True,
    ),
    Flag("save_latents", "write the latents beside the output (.safetensors)", rare=True),
    shared.PLOT.but(note="what guidance did at every step, beside the output"),
    shared.JSON,
)

_RUNNING = (
    Flag(
        "plan",
        "print parameters, memory, arithmetic and an estimated time, and stop; needs no weights",
    ),
    Flag("download", "fetch the weights that are missing from the Hugging Face Hub first"),
    shared.DEVICE,
    shared.DTYPE.but(
        note="of the transformer's layers and the VAE, without float64; auto is the configuration's"
    ),
    Flag(
        "offload",
        "stream the transformer's layers from host memory (--plan --offload shows what stays on the GPU)",
    ),
    Flag(
        "cp_size",
        "processes that share one video, instead of engine_config.cp_size: as many as torchrun starts",
        metavar="N",
        kind=Whole(1, 100_000),
        rare=True,
    ),
    shared.COMPILE.but(
        note="MAGI-1's takes half a minute once, eight seconds in later runs, and saves a fifth of sampling; "
        "rounds differently"
    ),
    Flag(
        "kernels",
        "torch, or flash (flash-attn and flashinfer, where installed)",
        metavar="NAME",
        kind=OneOf(("torch", "flash")),
        default="torch",
        rare=True,
    ),
)

GROUPS = {
    "what": _WHAT,
    "a video pipeline of diffusers instead of MAGI-1 (docs/pipelines.md)": _PIPELINE,
    "sampling (instead of what the configuration says)": _SAMPLING,
    **STEERING,
    "output": _OUTPUT,
    "running": _RUNNING,
}
"""All flags; a batch has those that shape videos."""


def build_parser() -> Parser:
    """All flags, in groups."""
    return Parser(
        "wmreward generate",
        "Generate a video with MAGI-1 from a text, an image or the beginning of a video.",
        _EPILOG,
        GROUPS,
        old=OLD,
        stray=_meant_for,
    )


def _meant_for(word: str) -> str:
    """The flag of a word without one."""
    kind, _ = guess_type(word)
    if " " in word.strip() or kind is None:
        return "prompt"
    return {"image": "init_image", "video": "init_video"}.get(kind.partition("/")[0], "prompt")
