"""What all command lines share: how they end, and flags that several have.

ending.py         exit codes, one line per error
flags.py          the parser
reward_flags.py   flags of rewards
"""
