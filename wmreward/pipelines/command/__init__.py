"""`wmreward generate --pipeline` and `wmreward batch --pipeline`: from flags to videos and their records.

    job.py        a run; begin here
    flags.py      which flags mean something to a pipeline
    arguments.py  words as arguments of a pipeline's call
    economy.py    what guidance gives up, from a flag
    request.py    from flags to what a pipeline is asked for
    workshop.py   the pipeline at work, its videos and their records
    batch.py      job lists
    plan.py       what a pipeline takes, from its configuration alone
    counting.py   memory, counted on tensors without content

Files, candidates and rewards are those of `generation`.
"""
