"""From noise to latents, chunk after chunk.

sampler.py      the loop over stages and steps; begin here
schedule.py     which chunks are denoised when, and at which times
velocity.py     the transformer's answers to several conditions, mixed into one velocity
"""
