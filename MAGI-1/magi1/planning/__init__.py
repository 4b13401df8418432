"""What a run will take, found out without weights.

plan.py     the whole of it, as `--plan` prints it; begin here
costs.py    arithmetic
memory.py   bytes, part by part
"""
