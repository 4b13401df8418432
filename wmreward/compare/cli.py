"""`wmreward compare A B`: two files of scores, video by video. Nothing heavy is imported at first."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmreward.commands import shared
from wmreward.commands.ending import run_command
from wmreward.commands.flags import Flag, Parser, Positional
from wmreward.commands.kinds import place
from wmreward.commands.unused import NO_TABLE, Use, tell, without_effect

if TYPE_CHECKING:
    from wmreward.compare.pairs import Comparison
    from wmreward.tables.mean import Mean

_ENDS = """\
A and B are files of scores (.jsonl or .csv), as `wmreward score --output` writes them. The same videos
scored with two models are paired by their content; videos of the same name in two folders by their names.
Intervals are 95 %, bootstrap over pairs. Exit code: 0, or 2 for files that do not fit together.

examples:
  wmreward compare plain.jsonl guided.jsonl
  wmreward compare plain.jsonl guided.jsonl --format latex
"""


_PAIRS = Flag("pairs", "also a line for every pair")


def build_parser() -> Parser:
    """All flags."""
    return Parser(
        "wmreward compare",
        "Compare two files of scores, video by video.",
        _ENDS,
        {"output": (shared.FORMAT, _PAIRS, shared.JSON)},
        positional=(
            Positional("first", "a file of scores", "A", kind=place),
            Positional("second", "another one", "B", kind=place),
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are printed as one line."""
    return run_command(_run, argv, interrupted=lambda _: "interrupted")


def _run(argv: Sequence[str]) -> int:
    values = build_parser().read(argv)
    use = Use(frozenset({"format"}), not values["json"], NO_TABLE)
    tell(without_effect(values.given, [use]))
    from wmreward.compare.pairs import compare
    from wmreward.files import check_regular, misused
    from wmreward.records.record_file import FORMATS, RecordFile

    names = (values["first"], values["second"])
    for name in names:
        if Path(name).suffix.lower() not in FORMATS:
            raise misused(Path(name), f"is no file of scores, which ends in {' or '.join(FORMATS)}")
        check_regular(name, empty=True, refuse=misused)  # a file that is not there has no records
    first, second = (RecordFile(Path(name)).read() for name in names)
    found = compare(first, second, names)
    for note in (*_judged_in_vain([*first, *second]), *_notes(found)):
        print(note, file=sys.stderr)
    print(_as_json(found, names) if values["json"] else _as_text(found, names, values))
    return 0


def _as_json(found: Comparison, names: Sequence[str]) -> str:
    from dataclasses import asdict

    from wmreward.records.scored import to_json

    return to_json({"files": list(names), **asdict(found)})


def _as_text(found: Comparison, names: Sequence[str], values: Mapping[str, Any]) -> str:
    from wmreward.tables.layout import render

    rows = [
        (label, *(_told(number) for number in (mean.value, mean.low, mean.high)))
        for label, mean in (
            (f"A: {names[0]}", found.first),
            (f"B: {names[1]}", found.second),
            ("B - A", found.difference),
        )
        if mean is not None
    ]
    header = ("mean surprise", "value", "95 % low", "high")
    parts = [render(header, rows, values["format"])]
    if values["pairs"]:
        columns = 4 if found.same_settings else 3  # a difference of two scales says nothing
        lines = [
            (pair.name, f"{pair.first:.6f}", f"{pair.second:.6f}", f"{pair.difference:+.6f}")
            for pair in found.pairs
        ]
        head = ("video", "A", "B", "B - A")[:columns]
        parts.append(render(head, [line[:columns] for line in lines], values["format"]))
    if values["format"] == "text":
        parts.append("\n".join(_in_words(found)))
    return "\n\n".join(parts)


def _judged_in_vain(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A note for each embedded model that judged videos whose like it may never have seen."""
    from wmreward.surprise.models.simulated import embedded, meaningless

    videos: dict[str, dict[Path, str]] = {}
    for record in records:
        if name := embedded(record):
            videos.setdefault(name, {})[Path(record["path"])] = str(record.get("video_sha256"))
    for name, hashes in videos.items():
        if note := meaningless(name, None, hashes):
            yield f"note: {note}"


def _notes(found: Comparison) -> Iterator[str]:
    """What is to be known before the numbers are read."""
    from wmreward.compare.pairs import LEAST_PAIRS, LEAST_RANKED

    if not found.same_settings:
        yield (
            "note: the scores come from different models or settings: their values cannot be compared, their "
            "orders can."
        )
    elif unlike := [pair for pair in found.pairs if pair.rates]:
        yield (
            f"note: {len(unlike)} of {len(found.pairs)} pairs were not seen at the same rate "
            f"({unlike[0].name}: {unlike[0].rates}), so that their scores do not compare well; "
            "wmreward score --rates F shows all at the same"
        )
    count = len(found.pairs)
    if not found.same_settings and found.rank_correlation is not None and count < LEAST_RANKED:
        yield (
            f"note: {count} pairs are too few to tell two orders that agree from chance: it takes "
            f"{LEAST_RANKED} at least"
        )
    if found.same_settings and not found.can_tell:
        yield (
            f"note: {count} {'pair is' if count == 1 else 'pairs are'} too few to tell a difference from "
            f"chance, whatever the intervals say: it takes {LEAST_PAIRS} at least"
        )


def _told(number: float) -> str:
    """Of one pair no interval is known."""
    return "–" if math.isnan(number) else f"{number:.6f}"


def _in_words(found: Comparison) -> list[str]:
    """What the numbers say, a sentence a line."""
    count, difference = len(found.pairs), found.difference
    if found.lower is None:
        less = "."
    elif found.all_equal:
        less = ". None differs." if count > 1 else ". It does not differ."
    else:
        less = f". B is less surprising in {100 * found.lower:.0f} %."
    lines = [
        f"{count} {'pair' if count == 1 else 'pairs'} by {found.by}"
        + (f"; without a partner: {found.alone[0]} of A, {found.alone[1]} of B" * any(found.alone))
        + less
    ]
    if difference is not None and found.can_tell and not found.all_equal:
        lines.append(_verdict(difference))
    if found.rank_correlation is not None:
        lines.append(f"Rank correlation of the two orders: {found.rank_correlation:.2f}.")
    return lines


def _verdict(difference: Mean) -> str:
    """Of enough pairs by one model and its settings."""
    if difference.high < 0:
        return "B is more plausible than A, beyond chance."
    if difference.low > 0:
        return "A is more plausible than B, beyond chance."
    return "No difference beyond chance."
