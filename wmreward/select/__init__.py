"""The command that chooses among existing videos.

cli.py      the command; begin here
groups.py   which videos are candidates of one
run.py      judge, compare, report
"""
