"""What people see of a choice: the table, and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wmreward.pictures.contact_sheet import MOST_ROWS, SheetRow, sheet_frames, write_contact_sheet
from wmreward.search.best_of_n import Choice
from wmreward.tables.layout import render


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
    return render(cells[0], cells[1:], words=(1,))


def choice_gain(choice: Choice) -> str:
    """How much the choice is worth, in one sentence."""
    mean = sum(choice.totals) / len(choice.totals)
    best = max(choice.totals)
    return (
        f"the choice among {len(choice.totals)} raised the total by {best - mean:.4g}: "
        f"{best:.4g} instead of {mean:.4g} on average"
    )


def draw_choice(
    path: Path,
    choice: Choice,
    video: Callable[[int], Path],
    name: Callable[[int], str],
    *,
    title: str = "",
) -> None:
    """The contact sheet of a choice, the winner on top; needs the extra ``plot``."""
    rows = []
    for rank, place in enumerate(choice.order[:MOST_ROWS], 1):
        scores = {key: values[place] for key, values in choice.table.items()}
        if len(scores) > 1:
            scores = {"total": choice.totals[place], **scores}
        told = "   ".join(f"{key} {value:.4f}" for key, value in scores.items())
        frames = sheet_frames(video(place))
        rows.append(SheetRow(f"{rank}   {name(place)}", told, frames, wins=rank == 1))
    write_contact_sheet(path, rows, title=title)
