"""Weights on disk and on the Hub.

checkpoint.py   a network with its weights, checked by headers first; begin here
located.py      what a path of a configuration means
folders.py      where the parts of a configuration lie
download.py     what is fetched, and how much of it
blame.py        which file is at fault when an output is not finite
zstd_shards.py  shards in the released, compressed form
"""
