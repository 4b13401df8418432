"""The sentences and tables of the page, as HTML: all that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wmreward.app import limits
from wmreward.app.generating import Pair
from wmreward.app.scoring import Ranking, Scored

TITLE = "WMReward"

INTRODUCTION = """\
<h1>WMReward</h1>
<p>A model that has learned how the world moves is <b>surprised</b> by a video that breaks physics.
The lower the surprise, the more plausible the motion. Everything runs on this computer; nothing is sent
anywhere.</p>"""

SCORE_HINT = (
    "Drop one clip to see where and when it surprises the model, or several to see which is the most "
    f"plausible: {limits.IN_WORDS}."
)

NO_SCORE_YET = (
    "The result appears here: the surprise of each clip, its course over time, and each clip beside a map of "
    "what surprises in it."
)

NO_VIDEO_YET = "The result appears here: both videos side by side, each with its surprise."

MODEL_HINT = (
    "tiny and referee come along; others appear here when their weights are on this computer."
)

GENERATE_HINT = (
    "The small generator makes videos of simulated balls and boxes, 64×64 pixels, twice from the same noise: "
    "plain, and guided by the surprise while it is made. On a CPU that takes one to several minutes."
)

START_HINT = (
    f"An image that opens the video, or a clip that is continued: up to {limits.LARGEST_MB} MB, "
    f"{limits.LONGEST_S} seconds. Without one the video is made from the text alone."
)


def trouble(text: str) -> str:
    """A line about what went wrong."""
    return f'<p class="wm-trouble" role="alert">{escape(text)}</p>'


def notes(lines: Sequence[str]) -> str:
    return "".join(f'<p class="wm-note">{escape(line)}</p>' for line in lines)


def verdict(ranking: Ranking) -> str:
    """The number of one clip, or the ranking of several; then troubles and notes."""
    scored = ranking.scored
    shown = _number(scored[0]) if len(scored) == 1 else _table(scored) if scored else ""
    return shown + "".join(map(trouble, ranking.troubles)) + notes(ranking.notes)


def _number(one: Scored) -> str:
    return (
        f'<div class="wm-number"><strong>{float(one.result):.4f}</strong>'
        f"<span>surprise of {escape(one.label)}<br>lower is more plausible</span></div>"
        + notes(
            [
                "One number says little: compare clips of the same kind, scored with the same model. "
                "Drop several at once for that."
            ]
        )
    )


def _table(scored: Sequence[Scored]) -> str:
    most = max(float(one.result) for one in scored) or 1.0
    rows = "".join(
        f"<tr><td>{place}</td><th scope='row'>{escape(one.label)}</th><td>{float(one.result):.4f}</td>"
        f"<td class='wm-bar'><i style='width:{100 * max(0.0, float(one.result)) / most:.1f}%'></i></td></tr>"
        for place, one in enumerate(scored, 1)
    )
    return (
        "<table class='wm-ranking'><caption>The most plausible first</caption><thead><tr><td></td>"
        "<th scope='col'>clip</th><th scope='col' colspan='2'>surprise, lower is more plausible</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )


def compared(pair: Pair) -> str:
    """Plain and guided in numbers, and what they do not say."""
    plain, guided = pair.plain, pair.guided
    change = (guided - plain) / plain if plain else 0.0
    how = f"{abs(change):.0%} {'lower' if change < 0 else 'higher'} than plain"
    return (
        '<div class="wm-number">'
        f"<strong>{plain:.4f}</strong><span>surprise, plain</span>"
        f"<strong>{guided:.4f}</strong><span>surprise, guided<br>{how}</span></div>"
        + notes(
            [
                "Guidance aims at a lower surprise. It does not always get there, and a lower surprise is "
                "no proof of better motion: look for yourself. It helps more where a clip is continued "
                "than from text alone.",
                "Measured as it guides, by the most surprising places: these two numbers can be compared "
                "with each other, not with those of the other tab.",
                *pair.notes,
            ]
        )
    )
