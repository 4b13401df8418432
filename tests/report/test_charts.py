"""The page's drawings: ticks of one axis are told alike, and nothing leaves the picture."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from wmreward.report.charts import histogram, lines


def told(svg: str, anchor: str) -> list[str]:
    return re.findall(rf'<text class="tick"[^>]*text-anchor="{anchor}">([^<]*)</text>', svg)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e3])
def test_ticks_of_an_axis_have_the_same_decimals(scale: float) -> None:
    axis = told(lines({"plain": [-0.0031 * scale, 0.0007 * scale, 0.0052 * scale]}), "end")
    assert 3 <= len(axis) <= 7
    assert len({len(text.partition(".")[2]) for text in axis}) == 1
    values = [float(text.replace("−", "-")) for text in axis]
    steps = [b - a for a, b in pairwise(values)]
    assert steps == pytest.approx([steps[0]] * len(steps)) and steps[0] > 0


def test_ticks_lie_where_their_numbers_say() -> None:
    svg = histogram({"plain": [0.0, 1.0]})  # drawn from −0.04 to 1.04
    found = re.findall(r'<text class="tick" x="([\d.]+)"[^>]*text-anchor="middle">([^<]*)<', svg)
    at = {float(text): float(x) for x, text in found}
    assert sorted(at) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert at[0.6] - at[0.0] == pytest.approx(0.6 * (at[1.0] - at[0.0]), abs=0.1)


def test_long_names_stay_within_the_margin() -> None:
    svg = histogram({"a name that does not end": [1.0, 2.0]})
    assert "a name th…" in svg and ">a name that does not end<" not in svg
