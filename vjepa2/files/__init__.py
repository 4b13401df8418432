"""Weights of V-JEPA: official files, ours, and what tells them apart.

checkpoint.py   a model with its weights; begin here
sources.py      which file a name means, and where it comes from
official.py     the official files, converted once
key_maps.py     their names of parameters, and ours
recognise.py    which model a file holds
quantise.py     how the embedded model is stored
"""
