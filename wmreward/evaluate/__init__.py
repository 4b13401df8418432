"""The chosen videos of a batch run, measured by Physics-IQ.

cli.py   the command
run.py   the evaluation; begin here
"""
