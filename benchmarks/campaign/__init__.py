"""An attack on everything that reads files: seeded mutations of small inputs, in bounded time and memory.

    python -m benchmarks.campaign                       # every target, a table at the end
    python -m benchmarks.campaign --targets videos --count 100 --seed 7

mutations.py   what is done to the bytes
targets.py     what a target is: intact samples, a reader, and a judge of what no reader can notice
run.py         all mutants of a target; begin here
worker.py      a process that reads mutants, is watched, and may die
verdicts.py    refused, same, warned, legal or wrong; and the table
videos.py      the target: clips of every container and many codecs

A target of its own is a module with a function ``target()``, named in ``TARGETS`` of ``targets.py``.
"""
