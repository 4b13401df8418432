"""The raw measures of Physics-IQ, on frames in memory; no files but the benchmark's own mask format.

metrics.py        two real takes and a generated clip, frame by frame; begin here
masks.py          where something moves
stored_masks.py   what the benchmark's mask files do to a mask
resize.py         the scaling that the numbers rest on
"""
