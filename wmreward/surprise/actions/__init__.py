"""The branch of the action-conditioned model: each frame is predicted from the past and from what was done.

    motion.py     what a robot did, read from a file and checked
    surprise.py   model, video, motion -> surprise of every step
    scorer.py     the same interface as `SurpriseScorer`

It leaves the path of a video after preprocessing and comes back with a surprise for each step in the place
of a window's.
"""
