"""Many videos over many processes: what is to be made is dealt out, what is made is never made again.

    candidates.py   one job with one seed is one candidate; what makes candidates is a `Maker`
    folder.py       the folder of a run: settings, jobs, finished candidates
    records.py      what became of the candidates
    lock.py         one run at a time in a folder
    processes/      how the processes agree: who makes what, when all leave
    runner.py       the loop of one process; begin here
    status.py       what a run folder says of itself
    submission.py   clips as Physics-IQ wants them
    trouble.py      what stops a run, and what fails alone

Nothing here knows a generator; `wmreward.generation.batch.cli` brings one.
"""
