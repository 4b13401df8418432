"""The flags of `compute_wmreward.py`: names, defaults and help. Nothing heavy is imported here."""

from __future__ import annotations

from wmreward.commands.flags import Parser

_EPILOG = """\
Every flag may also be written with dashes (--video-path). Results go to standard output, all else
to standard error. Exit code: 0 when all videos were scored, 1 when one failed, 2 for wrong flags,
130 after Ctrl-C.

examples:
  compute_wmreward.py --video_path clip.mp4 --model tiny --plot --map
  compute_wmreward.py --video_path a.mp4 b.mp4 'runs/**/*.mp4' list.txt --output scores.jsonl
  torchrun --nproc_per_node 8 compute_wmreward.py --video_path videos/ --output scores.jsonl
"""


def build_parser() -> Parser:
    """All flags, in groups."""
    parser = Parser(
        "Score videos by the surprise of a latent world model (V-JEPA 2). "
        "The lower the surprise, the more plausible the physics.",
        _EPILOG,
    )
    _add_videos(parser)
    _add_model(parser)
    _add_surprise(parser)
    _add_output(parser)
    _add_running(parser)
    return parser


def _add_videos(parser: Parser) -> None:
    group = parser.add_argument_group("videos")
    parser.add(
        group,
        "--video_path",
        "files, folders (all videos below, or a folder of images as one video), patterns such as "
        "'runs/**/*.mp4', and .txt lists of these",
        nargs="+",
        action="extend",
        metavar="PATH",
    )
    parser.add(
        group,
        "--max_frames",
        "frames taken of each video, evenly over its whole length: the published rule, which shows a "
        "long video faster than it was",
        type=int,
        default=49,
        metavar="N",
    )
    parser.add(
        group,
        "--fps",
        "take F frames per second over the whole video instead, in bounded memory",
        type=float,
        metavar="F",
    )
    parser.add(group, "--decoder", "pyav or decord", default="pyav", metavar="NAME")


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    parser.add(
        group,
        "--model",
        "vitg (the paper's), vitl, vith, vitg384, vitgac (needs --actions) or tiny (built in, for trying)",
        default="vitg",
        metavar="NAME",
    )
    parser.add(
        group,
        "--weights",
        "a .pt or .safetensors file, or a folder, instead of the model's own weights",
        metavar="PATH",
    )
    parser.add(
        group,
        "--weights_info",
        "print which weights are loaded, from where, with their hash, and stop",
        action="store_true",
    )
    parser.add(
        group,
        "--actions",
        "what the robot did, for vitgac: .npz or .json with 'actions' [T-1, 7] and 'states' [T, 7] at 4 "
        "steps a second",
        metavar="FILE",
    )
    for side in ("context", "target"):
        parser.add(
            group,
            f"--{side}_encoder",
            f"which stored encoder sees the {side}: online or ema",
            default="online",
            metavar="NAME",
        )
    parser.add(
        group,
        "--mask_token",
        "which learned mask token predicts",
        type=int,
        default=1,
        metavar="N",
    )


def _add_surprise(parser: Parser) -> None:
    group = parser.add_argument_group("surprise")
    numbers = (
        ("--window_size", "frames per window", 16),
        ("--context_frames", "frames of a window that the model may see before it predicts", 8),
        ("--stride", "frames from one window to the next", 2),
    )
    for flag, text, default in numbers:
        parser.add(group, flag, text, type=int, default=default, metavar="N")
    parser.add(
        group,
        "--mode",
        "how windows make a score: mean, max, median, topkK (mean of the K largest) or toppP (of the "
        "largest P percent)",
        default="mean",
        metavar="RULE",
    )
    parser.add(
        group,
        "--similarity",
        "axis of the cosine: feature (the paper's equation) or token (the published code)",
        default="feature",
        metavar="AXIS",
    )
    parser.add(
        group,
        "--score",
        "plain (the paper's), top (its most surprising tokens), or measured against copying the last frame: "
        "excess or relative",
        default="plain",
        metavar="RULE",
    )
    parser.add(
        group,
        "--compat",
        "'released': compute what the published command line computes (--similarity token --stride 8)",
        choices=("released",),
        metavar="NAME",
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    parser.add(
        group,
        "--output",
        "append one record per video to FILE (.jsonl: everything; .csv: one row of numbers); what is "
        "already there with the same settings is not scored again",
        metavar="FILE",
    )
    parser.add(
        group,
        "--json",
        "print one JSON line per video instead of the table",
        action="store_true",
    )
    parser.add(group, "--plot", "draw surprise over time (PNG)", action="store_true")
    parser.add(
        group,
        "--map",
        "write a video with a heat map of the surprise beside the original",
        action="store_true",
    )
    parser.add(group, "--out_dir", "folder for these pictures", default="outputs", metavar="FOLDER")


def _add_running(parser: Parser) -> None:
    group = parser.add_argument_group("running")
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
        "auto (bfloat16 on a GPU, else float32), float32, bfloat16 or float64",
        default="auto",
        metavar="NAME",
    )
    parser.add(
        group,
        "--compile",
        "compile the transformer blocks: pays off from some hundred windows on",
        action="store_true",
    )
    parser.add(
        group,
        "--batch_size",
        "windows per forward pass (default: 32 on a GPU, 4 on a CPU)",
        type=int,
        metavar="N",
    )
    parser.add(
        group,
        "--workers",
        "videos decoded ahead of the one being scored, each in a thread",
        type=int,
        default=2,
        metavar="N",
    )
    parser.add(group, "--debug", "show the traceback of errors", action="store_true")
    parser.add(group, "--version", "print the version and stop", action="store_true")
