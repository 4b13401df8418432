"""Choosing among candidates: make, judge, keep, compare.

best_of_n.py    the search; begin here
calls.py        choosing in one call of Python
candidates.py   judged candidates and their file
report.py       what people see of a choice
"""
