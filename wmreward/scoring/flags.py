"""The flags of `wmreward score` (`compute_wmreward.py`). Nothing heavy is imported here."""

from __future__ import annotations

from wmreward.commands import shared
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import OneOf, Whole, place

_EPILOG = """\
Every flag may also be written with dashes (--max-frames). Results go to standard output, all else
to standard error. Exit code: 0 when all videos were scored, 1 when one failed, 2 for wrong flags,
130 after Ctrl-C, 143 after SIGTERM.

examples:
  wmreward score clip.mp4 --model tiny --plot --map
  wmreward score a.mp4 b.mp4 'runs/**/*.mp4' list.txt --output scores.jsonl
  torchrun --nproc_per_node 8 -m wmreward score videos/ --output scores.jsonl
"""

_OLD = {"mode": "aggregate", "out_dir": "pictures", "workers": "read_ahead"}

_VIDEOS = (
    shared.VIDEO_PATH,
    shared.MAX_FRAMES,
    shared.FPS,
    shared.RATES,
    shared.IMAGE_FPS,
    Flag(
        "decoder",
        "pyav or decord",
        metavar="NAME",
        kind=OneOf(("pyav", "decord")),
        default="pyav",
        rare=True,
    ),
    shared.STRICT,
)

_ENCODERS = tuple(
    Flag(
        f"{side}_encoder",
        f"which stored encoder sees the {side}: online or ema",
        metavar="NAME",
        kind=OneOf(("online", "ema")),
        usually="online; ema for V-JEPA 2.1",
        rare=True,
    )
    for side in ("context", "target")
)

_MODEL = (
    shared.MODEL.but(default="vitg", note="vitgac needs --actions"),
    shared.WEIGHTS,
    Flag(
        "weights_info",
        "print which weights are loaded, from where, with their hash, computed anew, and stop",
    ),
    Flag(
        "actions",
        "what the robot did, for vitgac: .npz or .json with 'actions' [T-1, 7] and 'states' [T, 7] at 4 "
        "steps a second",
        metavar="FILE",
        kind=place,
        rare=True,
    ),
    *_ENCODERS,
    Flag(
        "mask_token",
        "which learned mask token predicts",
        metavar="N",
        kind=Whole(0, 1000),
        usually="1; 0 for V-JEPA 2.1",
        rare=True,
    ),
    *shared.READING,
)

_OUTPUT = (
    shared.OUTPUT.but(
        note="one record per video is appended (.jsonl: everything; .csv: one row of numbers); what is "
        "already there with the same settings is not scored again"
    ),
    shared.JSON,
    shared.FORMAT,
    shared.PLOT.but(note="surprise over time"),
    Flag(
        "plot_all",
        "draw the surprise of all videos over time in one chart",
        metavar="FILE.png",
        kind=place,
    ),
    Flag(
        "map",
        "write a video with a heat map of the surprise beside the original; all of a run on one scale",
    ),
    Flag(
        "pictures",
        "folder for the pictures of --plot and --map",
        metavar="DIR",
        kind=place,
        default="outputs",
    ),
)

_RUNNING = (
    shared.DEVICE,
    shared.DTYPE.but(note="auto is bfloat16 on a GPU, else float32"),
    shared.COMPILE.but(note="takes half a minute, so it pays off from some hundred windows on"),
    Flag(
        "batch_size",
        "windows per forward pass",
        metavar="N",
        kind=Whole(1),
        usually="32 on a GPU, 4 on a CPU",
        rare=True,
    ),
    shared.READ_AHEAD,
)


def build_parser() -> Parser:
    """All flags, in groups."""
    released = shared.COMPAT.but(
        note="computes what its command line computes (--similarity token --stride 8)"
    )
    return Parser(
        "wmreward score",
        "Score videos by the surprise of a latent world model (V-JEPA 2 or 2.1). "
        "The lower the surprise, the more plausible the physics.",
        _EPILOG,
        {
            "videos": _VIDEOS,
            "model": _MODEL,
            "surprise": (*shared.surprise(stride=2, score="plain"), released),
            "output": _OUTPUT,
            "running": _RUNNING,
        },
        positional=(shared.VIDEO,),
        old=_OLD,
    )
