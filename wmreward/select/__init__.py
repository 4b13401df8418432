"""The command that chooses among existing videos.

cli.py      the command; begin here
early.py    what is wrong at first sight, told at once
groups.py   which videos are candidates of one
made.py     candidates that our own commands left
run.py      judge, compare, record
rescore.py  compare finished candidates anew, from their records
show.py     tables, sheets, copies
copies.py   copies of the winners, each under a name of its own
"""
