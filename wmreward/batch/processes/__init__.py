"""How the processes of a run agree: who makes what, who goes on, when all leave. Knows no candidates.

team.py       the processes, those that share a candidate, and their store; begin here
queue.py      which candidate comes next, who tries again, when all is done
share.py      the part of a run that a launch works on
stopping.py   SIGTERM and Ctrl-C: finish or drop, then leave
watch.py      the first process's second thread: progress and heartbeat
"""
