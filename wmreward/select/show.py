"""What people get of a choice: tables or JSON lines, contact sheets, copies of the winners."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wmreward.commands.flags import Values
from wmreward.files import user_path
from wmreward.records.rates import rates_note
from wmreward.records.scored import to_json
from wmreward.rewards.compare import sums_evenly
from wmreward.rewards.names import SURPRISE, parse_weights
from wmreward.scoring.report import equals, short_names
from wmreward.search.best_of_n import Choice
from wmreward.search.report import (
    choice_gain,
    choice_table,
    draw_choice,
    draw_curves,
    drowning,
)
from wmreward.select.copies import copy_winners, slug
from wmreward.tables.layout import Format


@dataclass(frozen=True, kw_only=True)
class Showing:
    """How choices are shown, group after group.

    Attributes:
        copy_to: Where winners go, or None.
        sheets: Where contact sheets go, or None.
        plots: Where curves of the rewards go, or None.
        as_json: Print JSON lines instead of tables.
        form: Of the tables.
        summed: Whether rewards are added with weights of nobody's asking.
        video: Where the video of a candidate's name lies.
    """

    copy_to: Path | None
    sheets: Path | None
    plots: Path | None
    as_json: bool
    form: Format
    summed: bool
    video: Callable[[str], Path] = Path
    _winners: dict[str, Path] = field(default_factory=dict)
    _notes: dict[str, list[str]] = field(default_factory=lambda: {"rates": [], "sum": []})

    @classmethod
    def from_flags(cls, values: Values, video: Callable[[str], Path] = Path) -> Showing:
        """From a command line; see `wmreward.select.early`, which finds what is wrong with it."""
        copy_to, sheets, plots = (
            None if values[name] is None else user_path(values[name])
            for name in ("copy_to", "contact_sheets", "plots")
        )
        return cls(
            copy_to=copy_to,
            sheets=sheets,
            plots=plots,
            as_json=values["json"],
            form=values["format"],
            summed=sums_evenly(parse_weights(values["reward"] or [SURPRISE]), values["combine"]),
            video=video,
        )

    def group(self, number: int, group: str, choice: Choice) -> None:
        """Print a choice and draw its sheet."""
        self._winners[group] = self.video(choice.winner.name)
        self._print(group, choice)
        who = f"the videos of group {group!r} were" if group else "the videos were"
        if note := rates_note((candidate.record for candidate in choice.candidates), who):
            self._notes["rates"].append(note)
        if self.summed and (note := drowning(choice)):
            self._notes["sum"].append(f"note: {note}")
        if self.sheets is not None:
            self._draw(self.sheets / f"{number:03d}-{slug(group)}.png", choice)
        if self.plots is not None:
            self._plot(self.plots / f"{number:03d}-{slug(group)}.png", group, choice)

    def end(self) -> None:
        """Say what is to be known of the groups, once; copy their winners."""
        for notes in filter(None, self._notes.values()):
            more = len(notes) - 1
            say(
                notes[0]
                + (f" (the same of {more} more {'group' if more == 1 else 'groups'})" * (more > 0))
            )
        if self.copy_to is not None:
            for copy in copy_winners(self._winners, self.copy_to):
                say(f"wrote {copy}")

    def _print(self, group: str, choice: Choice) -> None:
        if self.as_json:
            line = {"group": group, "winner": choice.winner.name, "candidates": choice.rows()}
            print(to_json(line), flush=True)
            return
        short = short_names([Path(candidate.name) for candidate in choice.candidates])
        if group:
            print(f"{group}:")
        print(choice_table(choice, "video", short.__getitem__, self.form))
        if self.form == "text" and len(choice.candidates) > 1:
            print(
                f"winner: {choice.winner.name}{equals(choice.totals.count(max(choice.totals)) - 1)}"
            )
            print(choice_gain(choice))
        elif self.form == "text":
            print(f"only candidate: {choice.winner.name} (there was nothing to choose from)")
        print(flush=True)

    def _draw(self, path: Path, choice: Choice) -> None:
        short = short_names([Path(candidate.name) for candidate in choice.candidates])
        draw_choice(
            path,
            choice,
            lambda place: self.video(choice.candidates[place].name),
            short.__getitem__,
        )
        say(f"wrote {path}")

    def _plot(self, path: Path, group: str, choice: Choice) -> None:
        short = short_names([Path(candidate.name) for candidate in choice.candidates])
        if draw_curves(path, choice, short.__getitem__, title=group):
            say(f"wrote {path}")
        else:
            say(
                f"no {path}: the records hold no curves, as those of earlier versions and of rewards that "
                "have none; another --output judges anew"
            )


def say(text: str) -> None:
    """To standard error."""
    print(text, file=sys.stderr)
