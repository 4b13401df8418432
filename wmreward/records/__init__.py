"""Files of records that survive a kill, and who may write them.

record_file.py   JSON lines and CSV, appended safely; begin here
scored.py        what is recorded of a scored video
rates.py         whether videos were seen at one frame rate
lock.py          one writer at a time
"""
