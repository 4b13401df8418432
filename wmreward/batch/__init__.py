"""Many videos over many processes: what is to be made is dealt out, what is made is never made again.

    candidates.py   one job with one seed is one candidate; what makes candidates is a `Maker`
    folder.py       the folder of a run: settings, jobs, finished candidates
    records.py      what became of the candidates
    lock.py         one run at a time in a folder
    team.py         the processes, those that share a candidate, and the store through which they agree
    queue.py        which candidate comes next, who tries again, when all is done
    stopping.py     SIGTERM and Ctrl-C: finish or drop, then leave
    runner.py       the loop of one process; begin here
    watch.py        the first process's second thread: progress and heartbeat
    status.py       what a run folder says of itself

Nothing here knows a generator; `wmreward.generation.batch.cli` brings one.
"""
