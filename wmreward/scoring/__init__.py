"""The command that scores videos.

cli.py        the command; begin here
flags.py      its flags
settings.py   from flags to what a run needs
run.py        decode ahead, score, record
pictures.py   plots and map videos of what was scored
report.py     the table, and what is said beside it
"""
