"""How surprised a world model is by a video: the method of arXiv 2601.10553.

A video takes one way through it. Read it in this order:

    sampling.py      read: which frames of a file are looked at
    reduce.py        what is kept of each frame meanwhile
    inputs.py        or a video in memory -> a checked tensor
    windows.py       sliding windows: context frames, then future frames
    tokens.py        predicted against observed latents -> surprise of every token
    aggregate.py     windows -> one score
    scorer.py        windows -> latents -> surprise -> score: batched and differentiable
    result.py        a number that knows where it came from
    video_scorer.py  the whole path, from clips or a tensor to a result; begin here

and around it:

    rules.py         the arithmetic of settings
    config.py        the settings that define a score
    released.py      those of the published command line
    compute.py       `compute_vjepa_surprise`, all of it in one call
    shared.py        windows dealt to the processes that share a video
    show.py          plots and map videos of a result
    models/          world models by name, whose `preprocess` and `future_latents` `scorer.py` calls
    actions/         the branch of the robot's model

Knows nothing of generators, rewards or command lines.
"""
