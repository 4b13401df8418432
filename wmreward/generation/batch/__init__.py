"""Whole job lists.

cli.py     the command; begin here
flags.py   its flags
early.py   what is wrong at first sight, told at once
wanted.py  what a run with any generator is to do
making.py  what makers of candidates share
judge.py   judges candidates
setup.py   a run with MAGI-1, from flags and a list
maker.py   makes candidates with MAGI-1
"""
