"""Whole job lists with MAGI-1.

cli.py     the command; begin here
flags.py   its flags
setup.py   from flags and a list to a run
maker.py   makes candidates
judge.py   judges them
"""
