"""The flags of `generate_magi1.py`: names, defaults and help. Nothing heavy is imported here."""

from __future__ import annotations

import argparse

from wmreward.commands.flags import Parser
from wmreward.generation.steering_flags import add_steering_flags

TINY_CONFIG = "./MAGI-1/example/tiny/tiny_config.json"

_EPILOG = """\
Every flag may also be written with dashes (--config-file). Results go to standard output, all else
to standard error. Exit code: 0 when the video is there, 1 when something failed, 2 for wrong flags,
130 after Ctrl-C; the same command then goes on from the last finished chunk.

examples:
  generate_magi1.py --mode t2v --prompt "a red ball falls and bounces on the floor" --output_path ball.mp4
  generate_magi1.py --config_file ./MAGI-1/example/4.5B/4.5B_base_config.json --mode i2v \\
      --init_image first.png --prompt "waves roll onto a beach" --output_path beach.mp4
  generate_magi1.py --config_file ./MAGI-1/example/24B/24B_base_config.json --mode t2v --plan
  generate_magi1.py --mode t2v --prompt "a ball rolls" --guidance_scale 0.05 --best_of 4 --compare
"""

OVERRIDES = {
    "num_frames": "pixel frames to generate, rounded up to whole chunks",
    "num_steps": "denoising steps; a multiple of window_size",
    "window_size": "chunks in flight at the same time: 1 takes the least memory",
    "video_size_h": "height in pixels",
    "video_size_w": "width in pixels",
    "fps": "frames per second",
}
"""Numbers of the configuration's runtime section that a flag of the same name replaces."""

SCALES = {
    "text_scales": "strength of text guidance",
    "prev_chunk_scales": "strength of previous-chunk guidance",
}


def build_parser() -> Parser:
    """All flags, in groups."""
    parser = Parser(
        "Generate a video with MAGI-1 from a text, an image or the beginning of a video.", _EPILOG
    )
    _add_what(parser)
    _add_sampling(parser)
    add_steering_flags(parser)
    _add_output(parser)
    _add_running(parser)
    return parser


def _add_what(parser: Parser) -> None:
    group = parser.add_argument_group("what")
    parser.add(
        group,
        "--config_file",
        "the model and its settings, a JSON file; the default is the small model that comes along",
        default=TINY_CONFIG,
        metavar="FILE",
    )
    parser.add(group, "--prompt", "what the video shows, in English", default="", metavar="TEXT")
    parser.add(group, "--negative_prompt", "what to guide away from", default="", metavar="TEXT")
    parser.add(
        group,
        "--mode",
        "t2v (from text), i2v (an image opens the video) or v2v (a video is continued)",
        default="i2v",
        choices=("t2v", "i2v", "v2v"),
        metavar="MODE",
    )
    parser.add(group, "--init_image", "the image, for i2v", metavar="FILE")
    parser.add(
        group,
        "--init_video",
        "the video, for v2v: its last 32 frames at the configuration's rate are continued",
        metavar="FILE",
    )


def _add_sampling(parser: Parser) -> None:
    group = parser.add_argument_group("sampling (instead of what the configuration says)")
    parser.add(group, "--seed", "seed of the noise", type=int, metavar="N")
    for name, text in OVERRIDES.items():
        parser.add(group, f"--{name}", text, type=int, metavar="N")
    for name, text in SCALES.items():
        parser.add(
            group,
            f"--{name}",
            f"{text}: one number, or one for each interval of cfg_t_range",
            type=float,
            nargs="+",
            metavar="S",
        )
    parser.add(
        group,
        "--special_tokens",
        "MAGI-1's special_tokens.npz, for the tokens that PAD_HQ, PAD_DURATION, … and NEG_PROMPT "
        "in the environment ask for",
        metavar="FILE",
    )
    parser.add(
        group,
        "--compat",
        "'released': do as the released code does: continue a video's first 32 frames instead of its last, "
        "with three frames missing after them, and let the steps alter the opening image",
        choices=("released",),
        metavar="NAME",
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    parser.add(
        group,
        "--output_path",
        "the video (.mp4, .mkv or .mov); a .json with all settings is written beside it",
        default="output.mp4",
        metavar="FILE",
    )
    parser.add(
        group,
        "--overwrite",
        "replace a video that was made with other settings",
        action="store_true",
    )
    parser.add(
        group,
        "--preview",
        "write what is finished so far beside the output after each chunk",
        action="store_true",
    )
    parser.add(
        group,
        "--save_latents",
        "write the latents beside the output (.safetensors)",
        action="store_true",
    )
    parser.add(group, "--json", "print the record as one JSON line", action="store_true")


def _add_running(parser: Parser) -> None:
    group = parser.add_argument_group("running")
    parser.add(
        group,
        "--plan",
        "print parameters, memory, arithmetic and an estimated time, and stop; needs no weights",
        action="store_true",
    )
    parser.add(
        group,
        "--download",
        "fetch the weights that are missing from the Hugging Face Hub first",
        action="store_true",
    )
    parser.add(
        group,
        "--device",
        "auto (a GPU where there is one), cpu, cuda or cuda:N",
        default="auto",
        metavar="NAME",
    )
    parser.add(
        group,
        "--dtype",
        "precision of the transformer's layers and the VAE: auto (the configuration's), float32 or "
        "bfloat16",
        default="auto",
        choices=("auto", "float32", "bfloat16"),
        metavar="NAME",
    )
    parser.add(
        group,
        "--offload",
        "stream the transformer's layers from host memory (--plan --offload shows what stays on the GPU)",
        action="store_true",
    )
    parser.add(
        group,
        "--cp_size",
        "processes that share one video, instead of engine_config.cp_size: as many as torchrun starts",
        type=int,
        metavar="N",
    )
    parser.add(
        group,
        "--kernels",
        "torch, or flash (flash-attn and flashinfer, where installed)",
        default="torch",
        choices=("torch", "flash"),
        metavar="NAME",
    )
    _add_general(parser, group)


def _add_general(parser: Parser, group: argparse._ArgumentGroup) -> None:
    parser.add(group, "--debug", "show the traceback of errors", action="store_true")
    parser.add(group, "--version", "print the version and stop", action="store_true")
