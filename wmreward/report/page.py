"""The page: everything that needs no script as HTML, the rest as data for one."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from wmreward.files import write_text
from wmreward.report import charts
from wmreward.report.numbers import Group, best_of_n, paired
from wmreward.report.page_data import as_script, gallery, page_data
from wmreward.report.run_data import Entry, RunData
from wmreward.tables.mean import Mean
from wmreward.version import __version__

_MOST_FAILURES = 200
_RELATIVE = (
    "Its rewards compare the candidates of a job with each other, so scores of different jobs have no "
    "common scale."
)


def write_page(run: RunData, results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the report; the file appears only when it is complete.

    Args:
        run: The run, with all curves and heat maps that are to be shown.
        results: Of its Physics-IQ evaluations, by what was picked.
        path: Of the page.

    Raises:
        WMRewardError: it cannot be written.
    """
    write_text(path, page(run, results, path))


def page(run: RunData, results: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """The same as text."""
    measured = _measured(results)
    data = as_script(page_data(run, gallery(run), measured, path))
    script, style = _asset("page.js"), _asset("page.css")
    sections = [
        ("summary", "Summary", _summary(run, results)),
        ("scores", "Scores", _scores(run)),
        ("categories", "Categories", _categories(run, measured)),
        ("gallery", "Gallery", _asset("gallery.html")),
        ("candidates", "Candidates", _asset("candidates.html")),
        ("failures", "Failures", _failures(run, results)),
        ("settings", "Settings", _settings(run, results)),
        ("notes", "Notes", _notes(run, results)),
    ]
    links = "".join(f'<li><a href="#{id}">{title}</a></li>' for id, title, _ in sections)
    body = "".join(
        f'<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{title}</h2>{content}</section>'
        for id, title, content in sections
    )
    name = escape(run.path.resolve().name)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">
<title>{name} · WMReward</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top"><div><h1>{name}</h1>{_subtitle(run)}</div></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main id="main" tabindex="-1">{body}</main>
<footer><p>WMReward {escape(__version__)}. The page needs no network; videos are read from the folder of the
run, so move both together.</p></footer>
<dialog id="detail" aria-labelledby="detail-title"></dialog>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (files("wmreward.report") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Only our own script runs, nothing is fetched but videos of the run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _measured(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Verified score (0..100) of every candidate that was evaluated."""
    return {
        sample["candidate"]: 100 * sample["verified"]
        for result in results.values()
        for sample in result["samples"]
        if sample["verified"] is not None
    }


# --- summary --------------------------------------------------------------------------------------------


def _subtitle(run: RunData) -> str:
    made = _count(run.entries, "made")
    parts = [
        f"{len(run.jobs):,} jobs",
        f"{made:,} of {len(run.entries):,} candidates made",
        f"begun {run.begun[:16]}" if run.begun else "",
    ]
    return f"<p>{escape(' · '.join(filter(None, parts)))}</p>"


def _summary(run: RunData, results: Mapping[str, Mapping[str, Any]]) -> str:
    group = Group.of(run.of_job().values(), run.variants)
    failed, waiting = _count(run.entries, "failed"), _count(run.entries, "waiting")
    seconds = sum(entry.seconds or 0.0 for entry in run.entries)
    memory = max((entry.peak_memory_bytes or 0 for entry in run.entries), default=0)
    tiles = [
        ("jobs", f"{len(run.jobs):,}", ""),
        ("candidates made", f"{_count(run.entries, 'made'):,}", f"of {len(run.entries):,}"),
        ("failed", f"{failed:,}", "see failures" if failed else ""),
        ("waiting", f"{waiting:,}", "the run is not complete" if waiting else ""),
        ("time", _duration(seconds), "of all workers together"),
        (
            "peak memory",
            f"{memory / 2**30:.1f} GiB" if memory else "–",
            "of a GPU" if memory else "",
        ),
    ]
    shown = "".join(
        f"<div><dt>{label}</dt><dd>{value}<small>{escape(note)}</small></dd></div>"
        for label, value, note in tiles
    )
    tables = _choices(run, group) + _physics_iq(results)
    return f'<dl class="tiles">{shown}</dl><div class="beside">{tables}</div>{_differences(run, results)}'


def _choices(run: RunData, group: Group) -> str:
    rows = [
        (f"{variant}, first seed, nothing chosen", group.single[variant])
        for variant in run.variants
    ]
    rows.append((f"best of up to {group.most} by its score", group.chosen))
    rows.append((f"gain of the best over {run.variants[0]}, paired", group.gain))
    cells = [
        [label, _value(mean), _interval(mean), str(mean.jobs) if mean else "–"]
        for label, mean in rows
    ]
    caption = "Score by which candidates are chosen (mean over jobs; higher is better)"
    return _table(caption, ["", "mean", "95 % interval", "jobs"], cells)


def _physics_iq(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for pick, result in results.items():
        scores = result["scores"].get("all")
        if scores is None:
            continue
        original, verified = scores["original"], scores["verified"]
        rows.append(
            [
                pick,
                _plain(original["score"]),
                _range(original["interval"], 1),
                _plain(_times(verified["score"], 100)),
                _range(verified["interval"], 100),
                f"{scores['num_samples']} of {result.get('jobs', '?')}",
            ]
        )
    if not rows:
        return ""
    head = ["picked", "Original", "95 % interval", "Verified", "95 % interval", "jobs"]
    return _table("Physics-IQ of one candidate per job (0 to 100)", head, rows)


def _differences(run: RunData, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Every pick against the first variant of which nothing is chosen, sample by sample."""
    of_pick = {
        pick: {
            s["job"]: 100 * s["verified"] for s in result["samples"] if s["verified"] is not None
        }
        for pick, result in results.items()
    }
    base = next((variant for variant in run.variants if variant in of_pick), None)
    if base is None:
        return ""
    found = {
        pick: paired(scores, of_pick[base]) for pick, scores in of_pick.items() if pick != base
    }
    told = [
        f"{escape(pick)} − {escape(base)}: {_minus(f'{mean.value:+.2f} ({mean.low:.2f} to {mean.high:.2f})')}"
        for pick, mean in found.items()
        if mean is not None and mean.jobs > 1
    ]
    return f'<p class="note">Verified, paired over jobs: {"; ".join(told)}.</p>' if told else ""


# --- scores and categories ------------------------------------------------------------------------------


def _scores(run: RunData) -> str:
    of_variant = {
        variant: [e.score for e in run.entries if e.variant == variant and e.score is not None]
        for variant in run.variants
    }
    if not any(of_variant.values()):
        return "<p>No candidate has a score yet.</p>"
    jobs = run.of_job().values()
    curves = {name: best_of_n(jobs, name) for name in run.variants if not run.relative}
    figures = [
        _figure(charts.histogram(of_variant), "Candidates by score; the line is the mean."),
        _figure(
            charts.lines(curves),
            "What choosing brings: expected score of the best of n candidates, mean over jobs.",
        ),
    ]
    keys = "".join(
        f'<li><span class="key c{index}"></span>{escape(variant)}</li>'
        for index, variant in enumerate(run.variants)
    )
    return (
        f'<ul class="keys">{keys}</ul><div class="figures">{"".join(figures)}</div>{_guided(run)}'
    )


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{caption}</figcaption></figure>" if drawing else ""


def _guided(run: RunData) -> str:
    gains = [entry.gain for entry in run.entries if entry.gain is not None]
    known = [entry.beyond_null for entry in run.entries if entry.beyond_null is not None]
    if not gains:
        return ""
    text = (
        f"Guidance acted on {len(gains):,} candidates and changed the reward of the estimate by "
        f"{sum(gains) / len(gains):+.3g} a step, on average. "
    )
    if known:
        text += f"In {sum(known):,} of {len(known):,}, random directions of the same size did less."
    else:
        text += "Whether random directions would do the same was not measured (--guidance_null)."
    return f'<p class="note">{text}</p>'


def _categories(run: RunData, measured: Mapping[str, float]) -> str:
    groups: dict[str, list[list[Entry]]] = {}
    for entries in run.of_job().values():
        if entries:
            groups.setdefault(entries[0].job.category or "none given", []).append(entries)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    head = ["category", "jobs", "made", "failed"]
    head += [f"{variant}, first seed" for variant in run.variants]
    head += ["best", "gain, 95 %"]
    rows = []
    everything = [entries for _, jobs in ordered for entries in jobs]
    for name, jobs in [*ordered, ("all", everything)]:
        group = Group.of(jobs, run.variants)
        entries = [entry for job in jobs for entry in job]
        rows.append(
            [
                name,
                str(len(jobs)),
                str(_count(entries, "made")),
                str(_count(entries, "failed")),
                *(_value(group.single[variant]) for variant in run.variants),
                _value(group.chosen),
                f"{_value(group.gain)} ({_interval(group.gain)})" if group.gain else "–",
            ]
        )
    if len(rows) == 2 and rows[0][0] == "none given":
        return "<p>No job names a category.</p>"
    caption = "Scores by category (mean over jobs; gain: best over the first variant, paired)"
    return _table(caption, head, rows, last_is_sum=True)


# --- failures, settings, notes --------------------------------------------------------------------------


def _failures(run: RunData, results: Mapping[str, Mapping[str, Any]]) -> str:
    failed = [entry for entry in run.entries if entry.status == "failed"]
    parts = []
    if failed:
        rows = [
            [entry.job.id, entry.variant, str(entry.seed), str(entry.attempts), entry.error or ""]
            for entry in failed[:_MOST_FAILURES]
        ]
        head = ["job", "variant", "seed", "attempts", "error"]
        parts.append(_table("Candidates that could not be made", head, rows, kind="texts"))
        if len(failed) > len(rows):
            parts.append(f"<p>… and {len(failed) - len(rows):,} more, among the candidates.</p>")
    rows = [
        [pick, failure["job"], failure["error"]]
        for pick, result in results.items()
        for failure in result["failures"]
    ]
    if rows:
        caption = "Jobs that could not be evaluated"
        parts.append(
            _table(caption, ["picked", "job", "error"], rows[:_MOST_FAILURES], kind="texts")
        )
    return "".join(parts) or "<p>Nothing failed.</p>"


def _settings(run: RunData, results: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        _pairs("Settings of the run", _flat(run.settings), open_=len(run.settings) < 20),
        _pairs("Versions", run.versions, open_=True),
    ]
    parts += [
        _pairs(f"Evaluation of {pick}", _flat(result["settings"]), open_=False)
        for pick, result in results.items()
    ]
    return "".join(parts)


def _pairs(title: str, values: Mapping[str, Any], *, open_: bool) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td><code>{escape(_text(value))}</code></td></tr>'
        for name, value in values.items()
    )
    state = " open" if open_ else ""
    return (
        f"<details{state}><summary>{escape(title)}</summary><div class='scroll'><table class='pairs'>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _notes(run: RunData, results: Mapping[str, Mapping[str, Any]]) -> str:
    judge = run.judge()
    measure = "the reward that the run's settings name"
    if judge is not None:
        weights = ", ".join(f"{name} × {weight:g}" for name, weight in judge["rewards"].items())
        judges = (
            ("the world model", "model"), ("the encoder", "encoder"), ("the asked model", "vlm")
        )  # fmt: skip
        named = [f", by {what} {judge[key]}" for what, key in judges if key in judge]
        measure = f"the weighted rewards {weights}{''.join(named)}"
    notes = [
        f"The score is {measure}. Higher is better: a surprise enters with a minus.",
        *([_RELATIVE] if run.relative else []),
        "The best of several candidates has a higher score than one of them by construction, and guidance "
        "climbs the very score that it is judged by. That either made physics better, only a measure that "
        "had no part in it can say, such as Physics-IQ.",
        "Intervals are 95 %, by percentile bootstrap over jobs (Physics-IQ: over scenarios with all their "
        "views). They say how much the jobs differ, not how much seeds do.",
        "Curves show the surprise of each window over the frames that it predicts: a peak is where the "
        "video went on other than expected. All curves of a job share their axes. They are of the windows "
        "that the score is made of; where a run has not recorded those, and in heat maps, every frame is "
        "predicted once.",
    ]
    if run.variants and any(entry.status != "made" for entry in run.entries):
        notes.append(
            "Candidates are missing: means are over those that are there, which may be the easier ones."
        )
    if results:
        notes.append(
            "Physics-IQ compares with real recordings. Scores of fewer than the 198 jobs, of shorter clips "
            "or with other masks are not comparable with published ones."
        )
    else:
        notes.append("No Physics-IQ evaluation yet: wmreward evaluate RUN --real DIR makes one.")
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"


# --- pieces ---------------------------------------------------------------------------------------------


def _table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    kind: str = "numbers",
    last_is_sum: bool = False,
) -> str:
    """The first cell of every row is its header."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    ]
    if last_is_sum:
        lines[-1] = lines[-1].replace("<tr>", '<tr class="sum">', 1)
    return (
        f'<div class="scroll"><table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _count(entries: Iterable[Entry], status: str) -> int:
    return sum(entry.status == status for entry in entries)


def _value(mean: Mean | None) -> str:
    return "–" if mean is None else _minus(f"{mean.value:.4f}")


def _interval(mean: Mean | None) -> str:
    if mean is None or math.isnan(mean.low):
        return "–"
    return _minus(f"{mean.low:.4f} to {mean.high:.4f}")


def _range(interval: Mapping[str, float | None], scale: float) -> str:
    return f"{_plain(_times(interval['low'], scale))} to {_plain(_times(interval['high'], scale))}"


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _plain(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
