"""The toolkit in three minutes on a CPU, without a download: `make demo`, or

    python example/demo.py --output outputs/demo

Makes a video, judges two twins of which one breaks physics, steers a video, and says in five sentences what
came out. Needs matplotlib (pip install -e '.[plot]' in the clone).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # much faster on shared cores

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "example")]

# ruff: noqa: E402
import readme_picture

from wmreward.cli import main as wmreward
from wmreward.pictures.contact_sheet import SheetRow, contact_sheet
from wmreward.surprise.result import SurpriseResult
from wmreward.video_io import read_uniform, write_png

PROMPT, SEED = "an orange ball on the left side swings on a rod", 1
"""A pair whose video looks right; found by looking at eight seeds."""

GIVEN = ROOT / "prompt" / "embedded" / "blue_box.mp4"
STEERED_PROMPT, STEERED_SEED = (
    "a large checkered blue box in the middle falls onto a yellow ball",
    1,
)
"""A pair where guidance makes a difference that can be seen; elsewhere it is often small."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    output = parser.add_argument(
        "--output", "--out", type=Path, default=Path("outputs/demo"), help="folder (%(default)s)"
    )
    output.option_strings = ["--output"]  # what it was called before works, and is not listed
    parser.add_argument("--num_steps", help="denoising steps, for a quicker and worse demo")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    steps = ["--num_steps", options.num_steps] if options.num_steps else []
    sentences = [
        sentence
        for part in (_generated(options.output, steps), _twins(options.output))
        for sentence in part
    ]
    sentences += _steered(options.output, steps)
    print()
    for number, sentence in enumerate(sentences, 1):
        print(f"{number}. {sentence}")
    return 0


def _generated(out: Path, steps: list[str]) -> list[str]:
    _say("1 of 3: the small generator makes a video from a text")
    video, begun = out / "pendulum.mp4", time.monotonic()
    _run(["generate", "--prompt", PROMPT, "--seed", str(SEED), "--output", str(video), *steps])
    taken = time.monotonic() - begun
    return [f'{video} was made in {taken:.0f} s from the words "{PROMPT}".']


def _twins(out: Path) -> list[str]:
    _say("2 of 3: the small world model judges two clips that are equal until a ball jumps")
    picture = out / "twins.png"
    scores: dict[str, SurpriseResult] = readme_picture.main(picture)
    possible, impossible = scores["possible"], scores["impossible"]
    worst = impossible.windows[int(impossible.per_window.argmax())]
    return [
        f"The clip in which a ball jumps surprises the world model {impossible / possible:.1f} times as much "
        f"as its twin ({impossible:.4f} and {possible:.4f}; lower is more plausible).",
        f"It surprises most from {worst.target_s:.1f} to {worst.end_s:.1f} s, and the ball jumps at 2.6 s: "
        f"{picture} shows when and where.",
    ]


def _steered(out: Path, steps: list[str]) -> list[str]:
    _say("3 of 3: a video is continued twice from the same noise, without guidance and with it")
    video = out / "steered.mp4"
    scene = ["--init_video", str(GIVEN), "--num_frames", "32", "--prompt", STEERED_PROMPT]
    seed = ["--seed", str(STEERED_SEED), "--compare", "--output", str(video)]
    _run(["generate", *scene, *seed, *steps])
    folder = video.with_suffix(".candidates")
    lines = (folder / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
    records = {"guided" if "guidance" in r else "plain": r for r in map(json.loads, lines)}
    surprise = {name: -record["scores"]["seam"] for name, record in records.items()}
    videos = {"plain": folder / records["plain"]["path"], "guided": video}
    rows = [
        SheetRow(name, f"surprise {surprise[name]:.4f}", read_uniform(path, 32).frames[14::2][:8])
        for name, path in videos.items()
    ]
    picture = out / "steered.png"
    write_png(picture, contact_sheet(rows, height=128))
    record = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    corrected = len(record["guidance"]["steps"])
    compared = "lower" if surprise["guided"] < surprise["plain"] else "no lower"
    return [
        f"{picture} shows one continued video without guidance and with it: {corrected} steps were "
        f"corrected, and the surprise where the given frames end is {compared} ({surprise['guided']:.4f}; "
        f"plain {surprise['plain']:.4f}).",
        "One pair proves nothing: docs/evidence.md has the same for 128 scenes, with controls.",
    ]


def _say(what: str) -> None:
    print(f"\n{what}", file=sys.stderr)


def _run(words: list[str]) -> None:
    """`wmreward` with these words; its progress is shown, its result is not."""
    standard = sys.stdout
    sys.stdout = sys.stderr
    try:
        code = wmreward(words)
    finally:
        sys.stdout = standard
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
