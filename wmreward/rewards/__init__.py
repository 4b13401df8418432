"""Rewards: numbers for a video, higher is better, differentiable where they can guide.

    mix.py      several rewards as one; begin here
    world.py    of a world model: surprise, surprise at the seam, consensus
    geometry.py how smoothly a video moves through an encoder's features
    features.py a video as a trajectory of features, in bounded memory
    encoders.py whose features: V-JEPA's, or those of an image encoder
    vlm.py      what a vision-language model answers
    hub.py      networks of transformers: where they are, loaded frozen
    compare.py  judged candidates of a set, compared by what was recorded
    names.py    what can be asked for, and what goes together
    known.py    rewards by name
    checks.py   what a reward says, checked
    choice.py   from flags to rewards
    weights.py  where a world model's weights are
    shown.py    what people are shown of them

May import `surprise`; knows nothing of generators.
"""
