"""Stores the pictures of a notebook that was run with 256 colours each, in a third of the room.

    python example/shrink_notebook.py example/score_a_video.ipynb

Needs Pillow and nbformat. Pictures that have a palette already stay as they are.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import nbformat
from PIL import Image


def shrunk(png: bytes) -> bytes:
    """The picture with a palette, on white where it was transparent."""
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "P":
        return png
    drawn = Image.new("RGBA", picture.size, "white")
    drawn.alpha_composite(picture.convert("RGBA"))
    file = io.BytesIO()
    rare_too = Image.Quantize.MAXCOVERAGE  # a median cut spends all on the backdrop
    few = drawn.convert("RGB").quantize(256, rare_too, kmeans=8, dither=Image.Dither.NONE)
    few.save(file, "png", optimize=True)
    return file.getvalue()


def main(path: Path) -> None:
    """Rewrite the notebook at ``path``."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if (stored := output.get("data", {}).get("image/png")) is not None:
                small = base64.b64encode(shrunk(base64.b64decode(stored)))
                output["data"]["image/png"] = small.decode()
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
