"""Which of the five categories each scenario of the Physics-IQ data set belongs to.

From the data set's descriptions (Google DeepMind, CC-BY 4.0).
"""

from __future__ import annotations

_NAMES = {
    "Solid Mechanics": """
        ball-and-block-fall ball-behind-rotating-paper ball-hits-duck ball-hits-nothing
        ball-in-basket ball-in-sand ball-ramp ball-rolls-off ball-rolls-on-glass ball-train
        balls-collide block-domino cut-orange cut-paper dominos-with-space double-cradle
        duck-and-dominos duck-falls-in-box duck-static magnet-transparent-peakaboo marble-run-x
        marble-run-y mug-breaks roll-behind-box roll-front-box roll-in-box silk-cover
        single-cradle smiley-ball-rotates solid-ball-peakaboo stable-blocks teapot-rotates
        two-balls-pass unstable-block-stack weight-on-ceramic weight-on-paper weight-on-pillow
        weight-protects-duck
    """,
    "Fluid Dynamics": """
        blow-balloon domino-in-juice fill-glass-red-drink glass-stays-same juice-in-water
        liquid-on-duck liquid-overfill match napkin-soak paint-on-glass paper-fall-water
        paper-in-water potato-in-water siphon water-in-juice
    """,
    "Optics": """
        light-on-block light-on-mug light-on-mug-block light-on-statue mirror-ball-fall
        mirror-ball-rotate mirror-teapot-rotate rolling-reflection
    """,
    "Thermodynamics": """
        lit-candle match-blows-balloon paper-smoke
    """,
    "Magnetism": """
        magnet-domino magnet-wrench
    """,
}

CATEGORIES: dict[str, str] = {
    f"trimmed-{name}.mp4": category for category, names in _NAMES.items() for name in names.split()
}
"""Category by scenario name, for the 66 scenarios."""
