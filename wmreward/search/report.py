"""What people see of a choice: the table, and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wmreward.errors import named
from wmreward.pictures.contact_sheet import MOST_ROWS, SheetRow, sheet_frames, write_contact_sheet
from wmreward.pictures.reward_plot import MOST_LINES, Line, plot_rewards
from wmreward.rewards.compare import drowned
from wmreward.rewards.shown import in_words, shown_curve, shown_name, shown_score
from wmreward.search.best_of_n import Choice
from wmreward.tables.layout import Format, render


def choice_table(
    choice: Choice, label: str, name: Callable[[int], str], form: Format = "text"
) -> str:
    """A row for each candidate, the best first; total and rewards are higher-is-better, surprise lower.

    Args:
        choice: The candidates.
        label: Heads the column of names.
        name: Of the candidate at a place.
        form: Of the table.
    """
    rewards = list(choice.table)
    cells = [("rank", label, "reward", *map(shown_name, rewards))]
    for rank, place in enumerate(choice.order, 1):
        scores = (f"{shown_score(own, choice.table[own][place]):.6f}" for own in rewards)
        cells.append((str(rank), name(place), f"{choice.totals[place]:.6f}", *scores))
    return render(cells[0], cells[1:], form, words=(1,))


def choice_gain(choice: Choice) -> str:
    """How much the choice is worth, in one sentence."""
    mean = sum(choice.totals) / len(choice.totals)
    best = max(choice.totals)
    return (
        f"the choice among {len(choice.totals)} raised the reward by {best - mean:.4g}: "
        f"{best:.4g} instead of {mean:.4g} on average"
    )


def drowning(choice: Choice) -> str | None:
    """One line if a sum of rewards, see `sums_evenly`, is decided by some of them alone."""
    decide, small = drowned(choice.table)
    if not small:
        return None
    by_rank = named("how", "rank", flag="combine")
    return (
        f"the sum is decided by {' and '.join(decide)}, whose scores differ far more than those of "
        f"{' and '.join(small)}: {by_rank} weighs them alike, NAME=WEIGHT as you like"
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
    rows, chosen = [], len(choice.candidates) > 1  # a lone candidate wins nothing
    for rank, place in enumerate(choice.order[:MOST_ROWS], 1):
        scores = {key: values[place] for key, values in choice.table.items()}
        told = in_words(scores, 4, "   ")
        if len(scores) > 1:
            told = f"reward {choice.totals[place]:.4f}   {told}"
        frames = sheet_frames(video(place))
        rows.append(SheetRow(f"{rank}   {name(place)}", told, frames, wins=chosen and rank == 1))
    write_contact_sheet(path, rows, title=title)


def draw_curves(path: Path, choice: Choice, name: Callable[[int], str], *, title: str = "") -> bool:
    """The best candidates over time, by every reward whose curves are in the records.

    Returns whether there is anything to draw; needs the extra ``plot``.
    """
    panels: dict[str, list[Line]] = {}
    for place in choice.order[:MOST_LINES]:
        curves = choice.candidates[place].record.get("curves") or {}
        for reward, curve in curves.items():
            line = Line(name(place), curve["frames"], curve["values"])
            panels.setdefault(shown_curve(reward), []).append(line)
    if panels:
        left = len(choice.candidates) - MOST_LINES
        plot_rewards(path, panels, title=f"{title} (the best {MOST_LINES})" if left > 0 else title)
    return bool(panels)
