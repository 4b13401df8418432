"""The command that compares two files of scores, video by video.

cli.py     the command; begin here
pairs.py   which records belong together, and what their differences say
"""
