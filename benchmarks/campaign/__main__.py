"""Command line of the campaign; see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

import torch

from benchmarks.campaign.run import campaign
from benchmarks.campaign.targets import TARGETS
from benchmarks.campaign.verdicts import VERDICTS, table
from benchmarks.shared.machine import describe


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
        counts = campaign(name, args.count, args.seed, show=frozenset(args.show))
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
