"""An attack on everything that reads files: seeded mutations of small inputs, in bounded time and memory.

    python -m benchmarks.campaign                       # every target, a table at the end
    python -m benchmarks.campaign --targets videos --count 100 --seed 7

mutations.py   what is done to the bytes
text_mutations.py  what is done to text
targets.py     what a target is: intact samples, a reader, and a judge of what no reader can notice
run.py         all mutants of a target; begin here
worker.py      a process that reads mutants, is watched, and may die
verdicts.py    refused, same, warned, legal or wrong; and the table
videos.py      a target: clips of every container and many codecs
lists.py       a target: lists of jobs and videos, tables, records
weights.py     a target: weights files, configurations, arrays

A target of its own is a module with a function ``target()``, named in ``TARGETS`` of ``targets.py``.
"""
