"""How surprised a world model is by a video: the method of arXiv 2601.10553.

Read it in the order of the data:

    rates.py       frames per second -> sampled rate and frame strides
    inputs.py      a video of any kind -> a checked tensor
    windows.py     sliding windows: context frames, then future frames
    tokens.py      predicted against observed latents -> surprise of every token
    aggregate.py   windows -> one score
    scorer.py      all of that, batched and differentiable
    config.py      the settings that define a score
    models.py      world models by name
    result.py      what scoring returns
    compute.py     `compute_vjepa_surprise`, the whole path
    actions.py     the branch of the action-conditioned model

Knows nothing of generators, rewards or command lines.
"""
