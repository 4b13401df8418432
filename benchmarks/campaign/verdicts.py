"""How many mutants came out how, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

VERDICTS = ("refused", "same", "warned", "legal", "wrong")
"""refused: one clear line. same: as the intact file. warned: read, and said to be doubtful. legal: another
sound file, which no reader can tell from an original. wrong: another result without a word, a crash, a
hang, or too much memory."""


def table(counts: dict[str, Counter[str]]) -> str:
    """Rows by name, in order, and their sum."""
    rows: Iterable[tuple[str, Counter[str]]] = [
        *counts.items(),
        ("all", sum(counts.values(), Counter())),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'tried':>7}" + "".join(f"{verdict:>9}" for verdict in VERDICTS)]
    for name, count in rows:
        cells = "".join(f"{count[verdict]:9}" for verdict in VERDICTS)
        lines.append(f"{name:{width}}  {sum(count.values()):7}{cells}")
    return "\n".join(lines)
