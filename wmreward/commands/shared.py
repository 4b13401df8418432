"""The flags that several commands have, each defined once: one vocabulary. Nothing heavy is imported here.

A flag means the same wherever it is, with the same syntax. What follows from the command, such as which file
``--output`` is, a command adds as a note (`Flag.but`). `docs/flags.md` lists all, made by `flag_table`.
"""

from __future__ import annotations

from wmreward.commands.flags import Flag, Positional
from wmreward.commands.kinds import (
    LARGEST_SEED,
    Number,
    OneOf,
    Whole,
    all_different,
    device,
    different,
    model,
    place,
    rule,
    seed_range,
)

TASKS = ("t2v", "i2v", "v2v")

# --- videos ---------------------------------------------------------------------------------------------

VIDEO = Positional("video_path", "a video, see --video_path", "VIDEO", kind=place, many=True)
VIDEO_PATH = Flag(
    "video_path",
    "the same as VIDEO: files, folders (all videos below, or a folder of images as one video), patterns such "
    "as 'runs/**/*.mp4', and .txt lists of these",
    metavar="PATH",
    kind=place,
    many=True,
)
MAX_FRAMES = Flag(
    "max_frames",
    "frames taken of each video, evenly over its whole length: the published rule, which shows a long video "
    "faster than it was",
    metavar="N",
    kind=Whole(2),
    default=49,
)
FPS = Flag(
    "fps",
    "take F frames per second over the whole video instead, in bounded memory",
    metavar="F",
    kind=Number(0, 240, above=True),
)
IMAGE_FPS = Flag(
    "image_fps",
    "frames per second that a folder of images stands for: it says none itself",
    metavar="F",
    kind=Number(0, 999, above=True),
    default=24.0,
    rare=True,
)
STRICT = Flag(
    "strict",
    "refuse videos about which something is doubtful (errors while decoding, missing or repeated frames, "
    "gaps, a container that contradicts itself), which are scored with a warning otherwise",
)
RATES = Flag(
    "rates",
    "frames per second at which windows see a video, several at once, whatever its own rate; in place "
    "of --fps and --frame_strides",
    metavar="F",
    kind=Number(0, 240, above=True),
    many=True,
    gather=different,
)
READ_AHEAD = Flag(
    "read_ahead",
    "videos decoded ahead of the one at work, each in a thread",
    metavar="N",
    kind=Whole(1, 1000),
    default=2,
    rare=True,
)

# --- the world model and its surprise -------------------------------------------------------------------

MODEL = Flag(
    "model",
    "world model: vitg (the paper's), vitl, vith, vitg384, or for simulated videos tiny or referee (built "
    "in); V-JEPA 2.1: vitb21 (87 M parameters, from vjepa2_1_vitb_dist_vitG_384.pt), vitl21 (305 M, "
    "vjepa2_1_vitl_dist_vitG_384.pt), vitg21 (1 B, vjepa2_1_vitg_384.pt) or vitG21 (1.8 B, "
    "vjepa2_1_vitG_384.pt); or one of your own, package.module:factory",
    metavar="NAME",
    kind=model,
    usually="vitg; for what the small generator makes, tiny",
)
WEIGHTS = Flag(
    "weights",
    "a .pt or .safetensors file, or a folder, instead of the world model's own weights",
    metavar="PATH",
    kind=place,
    rare=True,
)
WINDOW_SIZE = Flag(
    "window_size",
    "frames per window of the surprise",
    metavar="N",
    kind=Whole(2),
    default=16,
    rare=True,
)
CONTEXT_FRAMES = Flag(
    "context_frames",
    "frames of a window that the model may see before it predicts",
    metavar="N",
    kind=Whole(1),
    default=8,
    rare=True,
)
STRIDE = Flag(
    "stride",
    "frames of a window from one window to the next",
    metavar="N",
    kind=Whole(1),
    usually="2; while generating 8",
)
FRAME_STRIDES = Flag(
    "frame_strides",
    "frames of the video from one frame of a window to the next; several: windows of each, which count "
    "alike. At 3 a window of 16 frames looks over 46, at a third of the frame rate",
    metavar="K",
    kind=Whole(1, 1000),
    default=(1,),
    many=True,
    gather=different,
)
AGGREGATE = Flag(
    "aggregate",
    "how windows make one number: mean, max, median, topkK (mean of the K largest) or toppP (of the largest "
    "P percent)",
    metavar="RULE",
    kind=rule,
    default="mean",
)
SCORE = Flag(
    "score",
    "how a window is measured: plain (the paper's), top (its most surprising tokens), or against copying the "
    "last frame: excess or relative",
    metavar="RULE",
    kind=OneOf(("plain", "top", "excess", "relative")),
    usually="plain; while generating top",
)
SIMILARITY = Flag(
    "similarity",
    "axis of the cosine: feature (the paper's equation) or token (the published code)",
    metavar="AXIS",
    kind=OneOf(("feature", "token")),
    default="feature",
    rare=True,
)

READING = (
    Flag(
        "crop",
        "V-JEPA 2.1: side in pixels of the square it sees, a multiple of 16; its published training size, "
        "256, costs a third of its own 384",
        metavar="N",
        kind=Whole(32, 4096),
        usually="that of the model",
        rare=True,
    ),
    Flag(
        "positions",
        "V-JEPA 2.1: how rows and columns count where upstream contradicts itself: rescaled (as in its "
        "training code), hub (not in the predictor) or raw (its evaluation); all the same at a crop of 256",
        metavar="RULE",
        kind=OneOf(("rescaled", "hub", "raw")),
        usually="rescaled",
        rare=True,
    ),
    Flag(
        "levels",
        "V-JEPA 2.1: compare the last level or all four that were trained (distilled models: last only)",
        metavar="WHICH",
        kind=OneOf(("last", "all")),
        usually="last",
        rare=True,
    ),
    Flag(
        "observed",
        "distilled V-JEPA 2.1: compare with what the teacher (vitG21) sees, or with the student's own view, "
        "which needs no teacher and is another quantity, ours and unverified",
        metavar="WHOSE",
        kind=OneOf(("own", "teacher", "student")),
        usually="teacher",
        rare=True,
    ),
    Flag(
        "teacher_weights",
        "a .pt or .safetensors file, or a folder, of the teacher of a distilled V-JEPA 2.1",
        metavar="PATH",
        kind=place,
        rare=True,
    ),
)
"""How a V-JEPA 2.1 model is read; without them, in its own way."""

WORLD_MODEL = (MODEL, WEIGHTS, *READING)


def surprise(stride: int, score: str) -> tuple[Flag, ...]:
    """How surprise is measured, with the defaults of a command."""
    windows = (WINDOW_SIZE, CONTEXT_FRAMES, STRIDE.but(default=stride), FRAME_STRIDES)
    return (*windows, AGGREGATE, SCORE.but(default=score), SIMILARITY)


# --- rewards and candidates -----------------------------------------------------------------------------

REWARD = Flag(
    "reward",
    "surprise, seam (where given frames end: for continued videos), geometry (how smoothly features move), "
    "consensus (nearness to the other candidates), vlm and adherence (what a vision-language model answers) "
    "or one of your own, package.module:factory; several are combined, each with a weight if NAME=WEIGHT is "
    "given",
    metavar="NAME",
    many=True,
    usually="surprise",
)
COMBINE = Flag(
    "combine",
    "how several rewards make one: sum (of weighted scores) or rank (of weighted ranks among the candidates: "
    "any scales mix)",
    metavar="HOW",
    kind=OneOf(("sum", "rank")),
    default="sum",
    rare=True,
)
ENCODER = Flag(
    "encoder",
    "whose features geometry and consensus go by: a name as of --model, or a folder or a name on the Hugging "
    "Face Hub of a vision transformer such as facebook/dinov2-base",
    metavar="NAME",
    usually="the world model",
    rare=True,
)
VLM = Flag(
    "vlm",
    "who is asked by the rewards vlm and adherence: a folder or a name on the Hugging Face Hub, such as "
    "Qwen/Qwen2.5-VL-7B-Instruct",
    metavar="NAME",
)
QUESTION = Flag(
    "question",
    "what the reward vlm asks, to be answered with yes where a video is good; {prompt} in it stands for the "
    "prompt of the video",
    metavar="TEXT",
    usually="whether everything moves as the laws of physics allow",
    rare=True,
)
VLM_FPS = Flag(
    "vlm_fps",
    "frames per second that the asked model is shown",
    metavar="F",
    kind=Number(0, 240, above=True),
    usually="4",
    rare=True,
)
REWARDS = (REWARD, COMBINE, ENCODER, VLM, QUESTION, VLM_FPS)
"""Who judges, and how several make one."""

SEEDS = Flag(
    "seeds",
    "one candidate for each of these seeds, such as 0,1,5 or 0-15",
    metavar="LIST",
    kind=seed_range,
    many=True,
    gather=all_different,
    usually="as many as --best_of says from --seed on",
)
SEED = Flag("seed", "of the noise", metavar="N", kind=Whole(0, LARGEST_SEED))
MODE = Flag(
    "mode",
    "t2v (from text), i2v (an image opens the video) or v2v (a video is continued)",
    metavar="MODE",
    kind=OneOf(TASKS),
)

# --- results --------------------------------------------------------------------------------------------

RUN = Positional("run", "the folder of a batch run", "RUN", kind=place)
OUTPUT = Flag("output", "the file that is written", metavar="FILE", kind=place)
JSON = Flag("json", "print JSON instead of text, one object per line")
FORMAT = Flag(
    "format",
    "how the table is written: text, markdown, csv or latex",
    metavar="FORM",
    kind=OneOf(("text", "markdown", "csv", "latex")),
    default="text",
)
PLOT = Flag("plot", "also draw a chart (PNG)")
COMPAT = Flag(
    "compat",
    "'released': do as the released code does",
    metavar="NAME",
    kind=OneOf(("released",)),
    rare=True,
)

# --- running --------------------------------------------------------------------------------------------

DEVICE = Flag(
    "device",
    "auto (a GPU where there is one), cpu, cuda or cuda:N",
    metavar="NAME",
    kind=device,
    default="auto",
)
DTYPE = Flag(
    "dtype",
    "precision: auto, float32, bfloat16 or float64",
    metavar="NAME",
    kind=OneOf(("auto", "float32", "bfloat16", "float64")),
    default="auto",
    rare=True,
)
COMPILE = Flag(
    "compile",
    "compile the blocks of the transformer: later to begin and then faster",
    rare=True,
)

# --- Physics-IQ -----------------------------------------------------------------------------------------

REAL = Flag(
    "real",
    "folder with the data set of real clips, at any depth, or a part of it",
    metavar="DIR",
    kind=place,
)
DESCRIPTIONS = Flag("descriptions", "the benchmark's descriptions.csv", metavar="FILE", kind=place)
SECONDS = Flag(
    "seconds",
    "length that is compared; published scores are over 5",
    metavar="S",
    kind=Number(0, 1e6, above=True),
    default=5.0,
)
CLIP_FPS = Flag(
    "clip_fps",
    "frames per second of the benchmark's clips",
    metavar="F",
    kind=Whole(1, 1000),
)
MASKS = Flag(
    "masks",
    "lossless, or mpeg4: through the codec of the published evaluation's mask files",
    metavar="HOW",
    kind=OneOf(("lossless", "mpeg4")),
    default="lossless",
)
REAL_MASKS = Flag(
    "real_masks",
    "computed; released: read from video-masks/real below --real; or a folder of such files",
    metavar="WHICH",
    kind=place,
    default="computed",
)
WORKERS = Flag(
    "workers",
    "processes; each takes at most 0.5 GiB at 4K",
    metavar="N",
    kind=Whole(1, 1000),
    usually="about one per core, 16 at most",
)
CACHE = Flag(
    "cache",
    "folder that keeps what is known of real clips, about 17 MB for 5 s of 4K; none: keep nothing",
    metavar="DIR",
    kind=place,
    usually="~/.cache/wmreward/physics_iq",
)
