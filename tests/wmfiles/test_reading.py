"""Text, JSON and tables that others wrote: within limits, and what is wrong is said with its line."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmfiles import (
    JSONError,
    csv_rows,
    json_lines,
    parse_json,
    read_json,
    read_text,
    short,
    split_lines,
)
from wmfiles.arrays import read_arrays


class Refused(Exception):
    def __init__(self, where: Path, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


def text_of(path: Path, content: bytes, **options: Any) -> str:
    path.write_bytes(content)
    return read_text(path, refuse=Refused, **options)


# --- text -----------------------------------------------------------------------------------------------


def test_text_of_any_editor(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert text_of(path, b"") == ""
    assert text_of(path, "\ufeffé\u2028x\n".encode()) == "é\u2028x\n"
    assert split_lines("a\r\nb\rc\u2028d\n") == ["a", "b", "c\u2028d", ""]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x".encode("utf-16"), "UTF-16"),
        ("x".encode("utf-32"), "UTF-16 or UTF-32"),
        (b"a\nb\xe9", r"byte 0xe9 in line 2\); save it as UTF-8"),
        (b"a\nb\0", "null byte in line 2"),
        (b"x" * 101, "has 101 bytes, more than the 100"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(Refused, match=says):
        text_of(tmp_path / "a.txt", content, most=100)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_text, read_json):
        with pytest.raises(Refused, match="not a regular file"):
            read(tmp_path / "pipe", refuse=Refused)


def test_values_in_messages_are_short() -> None:
    assert short("a\nb") == r"'a\nb'" and short(3) == "3"
    assert len(short("x" * 10**6)) == 80 and short([1] * 1000) == "a list of 1000"
    assert short("\ud800") == r"'\ud800'"


# --- JSON -----------------------------------------------------------------------------------------------

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_python_writes_it(value: Any) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is nothing"),
        ("{", r"not JSON \(.* at column 2\)"),
        ('{\n"a": }', "line 2, column 6"),
        ('{"a": 1, "b": {"a": 1, "a": 2}}', "'a' is given twice"),
        ("[1, NaN]", "NaN is no finite number at column 5"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("[1e999]", "'1e999' is no finite number at column 2"),
        ("[" + "9" * 5000 + "]", "a number of 5000 digits at column 2"),
        (r'["\ud800"]', "holds half a character"),
        (r'{"\udc00\ud800": 1}', "holds half a character"),
        ("[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
        ("[" * 10**6, "nested deeper than 64 levels|not JSON"),
        ("]" * 100 + "[" * 100, "not JSON"),
    ],
)
def test_json_that_is_refused(text: str, says: str) -> None:
    with pytest.raises(JSONError, match=says) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_brackets_in_text_are_no_nesting() -> None:
    for value in (["[" * 100], ['"' + "[{" * 100], ["\\" * 3 + '"' + "[" * 99], [[]] * 1000):
        assert parse_json(json.dumps(value)) == value
    deepest: Any = 1
    for _ in range(64):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest)) == deepest


def test_names_of_files_that_are_no_utf8_pass() -> None:
    name = os.fsdecode(b"\xff.mp4")
    assert parse_json(json.dumps({"path": name})) == {"path": name}


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "{" + ",".join(f'"{i}":0' for i in range(n)) + "}",
        lambda n: "[" + "[]," * n + "0]",
        lambda n: '["' + "\\\\" * n + '"]',
        lambda n: "[" + '"a",' * n + "0]",
        lambda n: "[" * n,
        lambda n: '{"a":' * n,
        lambda n: "9" * n,
        lambda n: '"' + "\\ud800" * n,
    ],
)
def test_time_grows_with_the_length_only(make: Callable[[int], str]) -> None:
    text = make(100_000)
    begun = time.perf_counter()
    with suppress(JSONError):
        parse_json(text)
    assert time.perf_counter() - begun < 2  # quadratic ones take minutes


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": "\u2028"}\r\n\n  \n{"b": 2}'.encode())
    assert list(json_lines(path, refuse=Refused)) == [(1, {"a": "\u2028"}), (4, {"b": 2})]
    path.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(Refused, match=r"a\.jsonl, line 2: not a JSON object: \[1\]"):
        list(json_lines(path, refuse=Refused))
    path.write_text('\n{"a": 1, "a": 2}\n')
    with pytest.raises(Refused, match=r"a\.jsonl, line 2: 'a' is given twice"):
        list(json_lines(path, refuse=Refused))


# --- tables ---------------------------------------------------------------------------------------------


def rows(path: Path, content: str, needs: tuple[str, ...] = ()) -> list[tuple[int, dict[str, str]]]:
    path.write_bytes(content.encode())
    return list(csv_rows(path, needs=needs, refuse=Refused))


def test_rows_of_a_table(tmp_path: Path) -> None:
    content = '\ufeffa,b\r\n1,"x, ""y""\nz"\r\n\r\n2,\r\n'
    found = [(3, {"a": "1", "b": 'x, "y"\nz'}), (5, {"a": "2", "b": ""})]
    assert rows(tmp_path / "t.csv", content) == found
    assert rows(tmp_path / "t.csv", "a,b\n") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("b,c\n1,2\n", "line 1: the head of the table names no column 'a'"),
        ("", "line 1: the head of the table names no column 'a'"),
        ("a,b,b\n", "line 1: two columns are called 'b'"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 columns where the head names 2"),
        ("a,b\n1\n", "line 2: 1 columns where the head names 2"),
        ('a,b\n"1,2\n3,4\n', "line 2: a quote opens here that is never closed"),
        ('a,b\n"1"x,2\n', "line 2: text follows a closing quote"),
        ("a,b\n" + "x" * 131073 + ",2\n", "line 2: a cell of more than 131072 characters"),
        ("a" + "," * 2000 + "\n", "line 1: 2001 columns"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        rows(tmp_path / "t.csv", content, needs=("a",))


# --- arrays ---------------------------------------------------------------------------------------------


def npy(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", content)
    return path


def test_arrays(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(6.0).reshape(2, 3), other=np.zeros(10**6))
    found = read_arrays(tmp_path / "a.npz", ["x"], most=1000, refuse=Refused)
    assert found.keys() == {"x"} and found["x"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy("(2000000000,)"), "'x' claims 8000000000 bytes"),
        (bytes(10**6), "'x' has 1000000 bytes, more than the 1000"),
        (npy("(2,)"), "is damaged"),
        (npy("(-2,)"), "is damaged"),
        (npy("(1,)", bytes(8), "'|O'"), "is damaged"),
        (npy("__import__('os')"), "is damaged"),
        (b"text", "is damaged"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = archive(tmp_path / "a.npz", content)
    with pytest.raises(Refused, match=says):
        read_arrays(path, ["x"], most=1000, refuse=Refused)
    with pytest.raises(Refused, match="has no 'y'"):
        read_arrays(path, ["y"], most=1000, refuse=Refused)
    whole = io.BytesIO(path.read_bytes()).getvalue()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refused, match="is damaged"):
        read_arrays(path, ["x"], most=1000, refuse=Refused)
