"""Job lists for batches: read, written, checked, and made from Physics-IQ's own files.

jobs.py           one job per line of JSON; begin here
conditioning.py   first images and videos of Physics-IQ
cli.py            the command
"""
