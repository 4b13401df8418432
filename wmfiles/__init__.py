"""Files that users name: opened with care, read within limits, and written whole or not at all.

Everything below stands on this: weights, configurations, lists, records. It knows none of them.

opening.py   one way to open what somebody named: a regular file, never a pipe, no pointer of Git LFS
text.py      its text: UTF-8, with or without a byte order mark, within a size
json_text.py JSON and JSON lines within limits: nesting, numbers, names given twice
csv_text.py  tables within limits
arrays.py    arrays of a .npz file within limits (imported by itself, as it needs NumPy)
names.py     names of files: what users write, what is derived from them, what is shown of them
places.py    where files are kept that can be made again
writing.py   files that appear complete or not at all; what killed processes left is removed
locking.py   work that one process does while others wait
amounts.py   bytes, operations and seconds in words, as plans tell them
memory.py    how much memory there is
process.py   which process on which machine, and whether it has ended
"""

from wmfiles.csv_text import csv_rows, parse_csv
from wmfiles.json_text import JSONError, json_lines, parse_json, read_json
from wmfiles.locking import alone
from wmfiles.memory import available_memory
from wmfiles.names import LONGEST_NAME, NameProblem, fitted, printable, user_path
from wmfiles.opening import Refusal, check_regular, open_regular
from wmfiles.places import user_cache
from wmfiles.process import Process
from wmfiles.text import read_text, short, split_lines
from wmfiles.writing import flush_to_disk, temporary_beside, tidy, write_whole

__all__ = [
    "LONGEST_NAME",
    "JSONError",
    "NameProblem",
    "Process",
    "Refusal",
    "alone",
    "available_memory",
    "check_regular",
    "csv_rows",
    "fitted",
    "flush_to_disk",
    "json_lines",
    "open_regular",
    "parse_csv",
    "parse_json",
    "printable",
    "read_json",
    "read_text",
    "short",
    "split_lines",
    "temporary_beside",
    "tidy",
    "user_cache",
    "user_path",
    "write_whole",
]
