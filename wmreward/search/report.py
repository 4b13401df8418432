"""What people see of a choice: the table, and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wmreward.pictures.contact_sheet import MOST_ROWS, SheetRow, sheet_frames, write_contact_sheet
from wmreward.search.best_of_n import Choice


def choice_table(choice: Choice, label: str, name: Callable[[int], str]) -> str:
    """Aligned columns, the best first.

    Args:
        choice: The candidates.
        label: Heads the column of names.
        name: Of the candidate at a place.
    """
    rewards = list(choice.table)
    cells = [("rank", label, "total", *rewards)]
    for rank, place in enumerate(choice.order, 1):
        scores = (f"{choice.table[reward][place]:.6f}" for reward in rewards)
        cells.append((str(rank), name(place), f"{choice.totals[place]:.6f}", *scores))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def choice_gain(choice: Choice) -> str:
    """How much the choice is worth, in one sentence."""
    mean = sum(choice.totals) / len(choice.totals)
    best = max(choice.totals)
    return (
        f"the choice among {len(choice.totals)} raised the total by {best - mean:.4g}: "
        f"{best:.4g} instead of {mean:.4g} on average"
    )


def draw_choice(
    path: Path, choice: Choice, video: Callable[[int], Path], name: Callable[[int], str]
) -> None:
    """The contact sheet of a choice, the winner on top."""
    rows = []
    for rank, place in enumerate(choice.order[:MOST_ROWS], 1):
        scores = "  ".join(f"{key} {values[place]:.4f}" for key, values in choice.table.items())
        label = f"{rank}  {name(place)}  total {choice.totals[place]:.4f}  {scores}"
        rows.append(SheetRow(label, sheet_frames(video(place)), wins=rank == 1))
    write_contact_sheet(path, rows)
