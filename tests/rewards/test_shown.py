"""Surprise is lower-is-better wherever people see it, or is called a reward."""

from __future__ import annotations

from wmreward.rewards.names import OWN
from wmreward.rewards.shown import in_words, shown_name, shown_score


def test_surprise_has_the_sign_of_the_scorer() -> None:
    scores = {"surprise": -0.03, "consensus": 0.5, "my.module:Steady": -2.0}
    assert in_words(scores, 2) == (
        "surprise 0.03, consensus reward 0.50, my.module:Steady reward -2.00"
    )
    for name in OWN:
        is_surprise = "surprise" in shown_name(name)
        assert shown_score(name, -1.0) == (1.0 if is_surprise else -1.0)
        assert is_surprise or shown_name(name).endswith(" reward")
