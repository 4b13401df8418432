"""The Physics-IQ evaluation: does a generated clip move where, when and as much as the real ones did?

    wmreward physics-iq --real physics-IQ-benchmark --generated my_clips

    cli.py            the command
    evaluate.py       jobs to samples, on several processes; begin here
    dataset.py        which files belong to which job
    categories.py     the five categories of scenarios
    clips.py          clips on disk
    cache.py          what is kept of real clips
    measures/         the four raw measures, on frames in memory
    scores.py         from measures to both published scores (Original and Verified)
    official_csv.py   measures in the benchmark's own layout
    report.py         the table, and the JSON

Measures and scores equal the benchmark's own code at the bit where masks are kept in memory. The benchmark
stores its masks as lossy MPEG-4 files, which flips pixels of which half is on; `--real_masks` reads such
files for a comparison with a published run. For clips in memory: `measures.metrics.compare`, then
`scores.original_score` and `scores.verified_score`.
"""
