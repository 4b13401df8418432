"""Command line of the campaign; see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

import torch

from benchmarks.campaign.targets import TARGETS, load
from benchmarks.campaign.verdicts import VERDICTS, table
from benchmarks.campaign.worker import Keeper
from benchmarks.shared.machine import describe


def campaign(
    name: str,
    count: int,
    seed: int,
    *,
    seconds: float = 20.0,
    gibibytes: float = 4.0,
    verbose: frozenset[str] = frozenset({"wrong"}),
) -> dict[str, Counter[str]]:
    """Read ``count`` mutants of each sample of a target; verdicts by sample."""
    samples = list(load(name).samples())
    counts: dict[str, Counter[str]] = {sample.name: Counter() for sample in samples}
    keeper = Keeper(name, samples, seconds=seconds, gibibytes=gibibytes)
    try:
        for index, sample in enumerate(samples):
            for offset in range(count):
                mutant = seed + index * 1_000_003 + offset
                verdict, detail = keeper.judge(index, mutant)
                counts[sample.name][verdict] += 1
                if verdict in verbose:
                    print(f"{verdict}: {sample.name}, seed {mutant}: {detail}", file=sys.stderr)
    finally:
        keeper.close()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.campaign",
        description="Read mutated files and count what becomes of them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--count", type=int, default=50, help="mutants of each sample")
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant")
    parser.add_argument(
        "--show",
        nargs="*",
        choices=VERDICTS,
        default=["wrong"],
        help="verdicts to print one by one",
    )
    args = parser.parse_args()
    everything: dict[str, Counter[str]] = {}
    for name in args.targets:
        counts = campaign(name, args.count, args.seed, verbose=frozenset(args.show))
        print(f"\n{name}\n{table(counts)}")
        everything[name] = sum(counts.values(), Counter())
    print(
        json.dumps(
            {"machine": describe(torch.device("cpu")), "seed": args.seed, "counts": everything}
        )
    )
    return int(any(count["wrong"] for count in everything.values()))


if __name__ == "__main__":
    sys.exit(main())
