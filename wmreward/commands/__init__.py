"""What all command lines share: how they end, and flags that several have.

ending.py         how a process starts and ends: exit codes, one line per error, Ctrl-C; begin here
streams.py        standard output and error, whatever is left of them
flags.py          a flag, and the parser
kinds.py          what the words after flags may be: numbers in a range, names, seeds
meanings.py       what people call a flag elsewhere
shared.py         the flags that several commands have, each defined once
unused.py         flags without effect, named
dispatch.py       commands of commands
flag_table.py     docs/flags.md
"""
