"""What all command lines share: how they end, and flags that several have.

ending.py         how a process starts and ends: exit codes, one line per error, Ctrl-C; begin here
streams.py        standard output and error, whatever is left of them
flags.py          the parser
reward_flags.py   flags of rewards
"""
