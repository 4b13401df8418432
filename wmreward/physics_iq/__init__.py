"""The Physics-IQ evaluation: does a generated clip move where, when and as much as the real ones did?

    wmreward physics-iq --real physics-IQ-benchmark --generated my_clips

Motion masks, the four raw measures, and both published scores (Original and Verified), equal to the
benchmark's own code at the bit where masks are kept in memory. The benchmark stores its masks as lossy
MPEG-4 files, which flips pixels of which half is on; `--real_masks` reads such files for a comparison
with a published run. For clips in memory: `metrics.compare`, then `scores.original_score` and
`scores.verified_score`; for files `dataset.find_jobs`, then `evaluate.evaluate`.
"""
