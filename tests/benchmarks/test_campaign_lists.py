"""A short campaign against lists, tables, records, weights files and configurations."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.campaign.lists import READERS as LISTS
from benchmarks.campaign.targets import load
from benchmarks.campaign.text_mutations import TOKENS
from benchmarks.campaign.weights import READERS as WEIGHTS
from benchmarks.campaign.worker import LONGEST_LINE, judge
from wmreward.errors import WMRewardError

MUTANTS = 25


@pytest.mark.parametrize(
    ("target", "name"), [("lists", n) for n in LISTS] + [("weights", n) for n in WEIGHTS]
)
def test_every_mutant_is_refused_or_sound(target: str, name: str) -> None:
    """In bounded time and memory, in one line."""
    attacked = load(target)
    sample = next((sample for sample in attacked.samples() if sample.name == name), None)
    if sample is None:
        pytest.skip("needs an extra")
    verdicts: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for seed in range(MUTANTS):
            begun = time.perf_counter()
            verdict, detail = judge(attacked, sample, 7919 * len(name) + seed)
            assert verdict != "wrong", f"seed {seed}: {detail}"
            assert time.perf_counter() - begun < 5, f"seed {seed}: {detail}"
            verdicts[verdict] += 1
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert verdicts["refused"] >= MUTANTS // 4  # they do bite


@pytest.mark.parametrize("name", [name for name in LISTS if not name.startswith("records")])
def test_what_readers_have_tripped_over_alone_in_a_file(name: str, tmp_path: Path) -> None:
    target, path = load("lists"), tmp_path / name
    whole = next(sample.data for sample in target.samples() if sample.name == name)
    for content in (*TOKENS, whole + b"[" * 10**6, whole * 2000):
        path.write_bytes(content)
        begun = time.perf_counter()
        try:
            target.read(path)
        except WMRewardError as error:
            text = str(error).replace(str(path), name)
            assert "\n" not in text and len(text) <= LONGEST_LINE, text
        assert time.perf_counter() - begun < 5
