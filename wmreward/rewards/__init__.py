"""Rewards: numbers for a video, higher is better, differentiable where they can guide.

    world.py    of a world model: surprise, surprise at the seam, consensus
    mix.py      several rewards as one; begin here
    checks.py   what a reward says, checked
    choice.py   from flags to rewards
    shown.py    what people are shown of them

May import `surprise`; knows nothing of generators.
"""
