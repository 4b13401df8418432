"""A dress rehearsal: the real commands at real size with random weights, before 50 GB are downloaded.

benchmark.py  flags, the commands one after the other, the table; begin here
machine.py    what the machine has and what is needed, before anything is written
weights.py    random weights in the layouts that were released
command.py    a command of the project, watched, in a process of its own
phases.py     what is timed of it
"""
