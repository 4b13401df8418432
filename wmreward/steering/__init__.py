"""Steering a generator while it denoises; knows generators by `wmreward.protocols` alone.

estimate.py     what a video is about to become, as a reward sees it
guidance.py     the gradient of a reward corrects the velocity; begin here
schedule.py     at which steps, how strongly
keep_edges.py   a constraint: the gradient may not blur
checks.py       what rewards and guides hand over
particles.py    candidates made together, the promising ones copied
"""
