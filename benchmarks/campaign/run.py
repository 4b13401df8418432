"""All mutants of a target, one after the other."""

from __future__ import annotations

import sys
from collections import Counter

from benchmarks.campaign.targets import load
from benchmarks.campaign.worker import Keeper

SEEDS_OF_A_SAMPLE = 1_000_003


def campaign(
    name: str,
    count: int,
    seed: int,
    *,
    seconds: float = 20.0,
    gibibytes: float = 4.0,
    show: frozenset[str] = frozenset({"wrong"}),
) -> dict[str, Counter[str]]:
    """Read mutants of every sample of a target.

    Args:
        name: of the target, in `targets.TARGETS`.
        count: of mutants of each sample.
        seed: of the first mutant of the first sample.
        seconds: that one mutant may take.
        gibibytes: of address space that the reader may have.
        show: the verdicts that are printed to standard error, each with the seed that repeats it.

    Returns:
        How often each verdict was given, by sample.
    """
    samples = list(load(name).samples())
    counts: dict[str, Counter[str]] = {sample.name: Counter() for sample in samples}
    keeper = Keeper(name, samples, seconds=seconds, gibibytes=gibibytes)
    try:
        for index, sample in enumerate(samples):
            first = seed + index * SEEDS_OF_A_SAMPLE
            for mutant in range(first, first + count):
                verdict, detail = keeper.judge(index, mutant)
                counts[sample.name][verdict] += 1
                if verdict in show:
                    print(f"{verdict}: {sample.name}, seed {mutant}: {detail}", file=sys.stderr)
    finally:
        keeper.close()
    return counts
