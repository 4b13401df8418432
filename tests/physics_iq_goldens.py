"""Where the golden vectors of the Physics-IQ evaluation are, and how close ours have to be.

A part is in the repository; the complete set is used too where it lies beside the checkout.
``tests/golden/physics_iq/README.md`` says what they are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wmreward.physics_iq.official_csv import read_csv
from wmreward.physics_iq.scores import Sample, original_score, verified_score
from wmreward.video.decoder import Decoder

COMMITTED = Path(__file__).parent / "golden" / "physics_iq"
COMPLETE = Path(__file__).parents[2] / "shared" / "physics_iq" / "golden"

MSE = 1e-6  # absolute
IOU = 1e-9
ORIGINAL = 0.0101  # a rounding boundary: one hundredth
VERIFIED = 1e-6
VERIFIED_LOSSY = (
    1e-5  # of clips that a codec changed: rounding each frame to four decimals can flip
)


@dataclass(frozen=True)
class Case:
    """One folder of golden vectors."""

    folder: Path

    @cached_property
    def expected(self) -> dict[str, Any]:
        return json.loads((self.folder / "expected.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Masks before encoding, by `real/…` or `gen/…`."""
        with np.load(self.folder / "masks_raw.npz") as stored:
            return {name: stored[name] > 0 for name in stored}

    @property
    def changed_by_a_codec(self) -> bool:
        """Whether the clips are ordinary lossy video."""
        return self.folder.name[:3] in ("b24", "r24")

    def clip(self, mask: str) -> Path:
        """The clip that a mask of `masks` was made of."""
        side, name = mask.split("/")
        number, _, rate, view, take, scenario = name.split("_")
        if side == "gen":
            return self.folder / "gen" / f"{number}_{view}_{scenario}.mp4"
        return self.folder / "real" / f"{number}_testing-videos_{rate}_{view}_{take}_{scenario}.mp4"

    def rows(self, name: str, tmp_path: Path) -> list[Sample]:
        """Raw measures of a CSV, zipped or not."""
        zipped = self.folder / f"{name}.gz"
        if not zipped.exists():
            return read_csv(self.folder / name)
        plain = tmp_path / name
        plain.write_bytes(gzip.decompress(zipped.read_bytes()))
        return read_csv(plain)


def agree(rows: Sequence[Sample], case: Case, masks: str = "lossless") -> None:
    """All raw measures of all clips, and both scores where the case is complete.

    ``masks``: how they were kept, ``lossless`` or ``stored`` through a codec.
    """
    assert len(rows) == len(list((case.folder / "gen").iterdir()))
    lossless = masks == "lossless"
    expected = read_csv(case.folder / ("metrics_lossless_masks.csv" if lossless else "metrics.csv"))
    by_place = {(row.scenario, row.view): row.metrics for row in expected}
    for row in rows:
        for name, theirs in vars(by_place[row.scenario, row.view]).items():
            np.testing.assert_allclose(
                getattr(row.metrics, name),
                theirs,
                rtol=0,
                atol=MSE if "mse" in name else IOU,
                err_msg=f"{row.scenario} {row.view} {name}",
            )
    if len(rows) < len(expected):  # the committed part of a case
        return
    scores = case.expected["scores_lossless_masks" if lossless else "scores"]
    assert abs(original_score(rows).score - scores["original_score"]) < ORIGINAL
    difference = abs(verified_score(rows).score - scores["iqtable"]["final_score_view"])
    assert difference < (VERIFIED_LOSSY if case.changed_by_a_codec else VERIFIED)


def cases(*committed: str, further: Sequence[str] = ()) -> list[Any]:
    """Parameters for a test: cases of the committed part, and of the complete set."""
    missing = pytest.mark.skipif(
        not COMPLETE.is_dir(), reason="the complete golden set is not beside the checkout"
    )
    return [
        *(pytest.param(Case(COMMITTED / name), id=name) for name in committed),
        *(
            pytest.param(Case(COMPLETE / name), id=f"complete-{name}", marks=missing)
            for name in further
        ),
    ]


def frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    return (frame.rgb() for frame in Decoder(path))


def sha256_bgr(path: Path) -> str:
    digest = hashlib.sha256()
    for frame in frames(path):
        digest.update(np.ascontiguousarray(frame[..., ::-1]))
    return digest.hexdigest()
