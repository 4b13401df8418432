"""Output files keep every finished record, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wmreward.errors import UsageError, WMRewardError
from wmreward.records.record_file import COLUMNS, RecordFile
from wmreward.records.scored import (
    Finished,
    Record,
    faults_of,
    in_input_order,
    settings_id,
    to_json,
)
from wmreward.video.content import video_sha256
from wmreward.video_io import Faults

SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "weights_sha256": "w",
    "weights_source": "local file",
    "stride": 2,
    "score": "plain",
    "sampling": {"max_frames": 49, "fps": None, "decoder": "pyav"},
    "dtype": "float32",
    "device": "cpu",
    "versions": {"torch": "2.13.0"},
}


def record(path: str = "a.mp4", settings: str = "s", **fields: Any) -> Record:
    return {
        "path": path,
        "surprise": 0.125,
        "num_windows": 3,
        "effective_fps": 24.0,
        "video_sha256": f"hash of {path}",
        "settings_id": settings,
        "settings": SETTINGS,
        **fields,
    }


def paths(records: list[Record]) -> list[str]:
    return [one["path"] for one in records]


@pytest.fixture(params=["jsonl", "csv"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> RecordFile:
    return RecordFile(tmp_path / f"scores.{request.param}")


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Files may not grow beyond ``size`` bytes: writes fail half-way, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_json_record_comes_back_whole_and_strict(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "s.jsonl")
    odd = record("b.mp4", source_fps=float("nan"), windows=[{"end_s": float("inf")}])
    file.append(record())
    file.append(odd)
    text = file.path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert file.read() == [record(), {**odd, "source_fps": None, "windows": [{"end_s": None}]}]


def test_csv_has_one_row_of_plain_columns(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "s.csv")
    file.append(
        record(source_fps=float("nan")) | {"settings": SETTINGS | {"frame_strides": [1, 2]}}
    )
    header, row = file.path.read_text().splitlines()
    assert header == ",".join(COLUMNS) and "nan" not in row.lower()
    (back,) = file.read()
    assert back["surprise"] == 0.125 and back["num_windows"] == 3 and back["stride"] == 2
    assert back["frame_strides"] == "1 2"
    assert back["max_frames"] == 49 and back["fps"] is None and back["torch"] == "2.13.0"
    file.rewrite([back])
    assert file.path.read_text().splitlines() == [header, row]


@pytest.mark.parametrize(
    "name", ["a,b.mp4", 'say "x".mp4', "two\nlines.mp4", "été.mp4", "\udcff.mp4"]
)
def test_any_file_name_survives(file: RecordFile, name: str) -> None:
    file.append(record(name))
    file.append(record("next.mp4"))
    assert paths(file.repair()) == [name, "next.mp4"]


def test_cut_anywhere_loses_only_the_last_record(file: RecordFile) -> None:
    names = ["a.mp4", "two\nlines.mp4", "c.mp4"]
    for name in names:
        file.append(record(name))
    whole = file.path.read_bytes()
    ends = []
    for count in range(1, 4):
        file.path.unlink()
        for name in names[:count]:
            file.append(record(name))
        ends.append(file.path.stat().st_size)
    near_ends = {end + by for end in (0, *ends) for by in range(-12, 13)}
    for cut in sorted({*range(0, len(whole), 11), *near_ends} & {*range(len(whole) + 1)}):
        file.path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        repaired = paths(file.repair())
        # A JSON record that lacks only its line end is whole.
        assert repaired in (names[:kept], names[: kept + 1] if cut + 1 in ends else names[:kept])
        file.append(record("new.mp4"))
        assert paths(file.read()) == [*repaired, "new.mp4"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.jsonl", "one line of prose"),
        ("notes.jsonl", "prose\nof two lines\n"),
        ("notes.jsonl", '{"title": "no record"}\n'),
        ("notes.jsonl", to_json(record()) + "\n{broken}\n" + to_json(record("b.mp4")) + "\n"),
        ("table.csv", "name,price\ntea,3\n"),
        ("table.csv", ",".join(COLUMNS) + "\na.mp4,0.5\n"),
        ("table.csv", ",".join(COLUMNS) + "\na.mp4,high" + "," * (len(COLUMNS) - 2) + "\n"),
    ],
)
def test_files_of_others_are_refused_and_left_alone(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=name):
        RecordFile(path).repair()
    assert path.read_text() == content


def test_full_disk_leaves_whole_records(file: RecordFile) -> None:
    file.append(record())
    before = file.path.read_bytes()
    with (
        disk_full_after(len(before) + 20),
        pytest.raises(WMRewardError, match="recorded before is kept"),
    ):
        file.append(record("b.mp4"))
    assert file.path.read_bytes() == before
    file.append(record("b.mp4"))
    assert paths(file.read()) == ["a.mp4", "b.mp4"]


def test_parts_are_merged_in_input_order(file: RecordFile) -> None:
    file.append(record("d.mp4"))
    file.append(record("other.mp4", settings="older"))
    for rank, name in ((10, "a.mp4"), (2, "c.mp4"), (0, "b.mp4")):
        file.part(rank).append(record(name))
    torn = file.part(3).path
    torn.write_bytes(file.part(2).path.read_bytes()[:-7])
    videos = [Path(f"{letter}.mp4") for letter in "abcd"]
    file.merge_parts(lambda records: in_input_order(records, videos, "s"))
    assert paths(file.read()) == ["other.mp4", "a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert file.parts() == [] and list(file.path.parent.iterdir()) == [file.path]


def test_interrupted_merge_is_done_again_without_repeats(file: RecordFile) -> None:
    file.part(0).append(record("a.mp4"))
    file.append(record("a.mp4"))  # the merge got as far as the file, but not to removing the part
    file.merge_parts()
    assert paths(file.read()) == ["a.mp4"] and file.parts() == []


def test_full_disk_while_merging_loses_nothing(file: RecordFile) -> None:
    for rank in range(3):
        file.part(rank).append(record(f"{rank}.mp4"))
    size = file.part(0).path.stat().st_size
    with disk_full_after(size + 20), pytest.raises(WMRewardError, match="cannot write"):
        file.merge_parts()
    file.merge_parts()
    assert paths(file.read()) == ["0.mp4", "1.mp4", "2.mp4"]


def test_finished_is_found_by_settings_and_content() -> None:
    records = [record("a.mp4", "s"), record("b.mp4", "older"), record("c.mp4", surprise=None)]
    finished = Finished(records, "s")
    found = finished.find(Path("a.mp4"), "hash of a.mp4")
    assert found == records[0] and found in finished
    assert finished.find(Path("a.mp4"), "other content") is None
    assert finished.find(Path("b.mp4"), "hash of b.mp4") is None
    assert finished.find(Path("c.mp4"), "hash of c.mp4") is None
    copy = finished.find(Path("moved/a.mp4"), "hash of a.mp4")
    assert copy == {**records[0], "path": "moved/a.mp4"} and copy not in finished


def test_settings_id_holds_what_decides_a_score_and_nothing_else() -> None:
    reference = settings_id(SETTINGS)
    elsewhere = {"device": "cuda", "versions": {"torch": "3"}, "weights_source": "the Hub"}
    assert settings_id(SETTINGS | elsewhere) == reference
    for change in (
        {"dtype": "bfloat16"},
        {"stride": 4},
        {"weights_sha256": "v"},
        {"model": "vitl"},
    ):
        assert settings_id(SETTINGS | change) != reference
    for field, value in (("max_frames", 20), ("fps", 8.0), ("decoder", "decord")):
        assert (
            settings_id(SETTINGS | {"sampling": {**SETTINGS["sampling"], field: value}})
            != reference
        )
    # Records from before there were frame strides are found by runs that use every frame.
    assert settings_id(SETTINGS | {"frame_strides": [1]}) == reference
    assert settings_id(SETTINGS | {"frame_strides": [1, 2]}) != reference
    at_rate = [
        settings_id(SETTINGS | {"sampling": {"max_frames": n, "fps": 8.0, "decoder": "pyav"}})
        for n in (20, 49)
    ]
    assert at_rate[0] == at_rate[1]


def test_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"red")
        (tmp_path / name / "2.png").write_bytes(b"green")
    one, two = tmp_path / "one", tmp_path / "two"
    reference = video_sha256(one)
    (two / "notes.txt").write_text("no picture")
    assert video_sha256(two) == reference
    (two / "2.png").write_bytes(b"blue")
    assert video_sha256(two) != reference
    (two / "2.png").write_bytes(b"green")
    (two / "2.png").rename(two / "3.png")
    assert video_sha256(two) != reference
    assert video_sha256(one / "1.png") == (
        "b1f51a511f1da0cd348b8f8598db32e61cb963e5fc69e2b41485bf99590ed75a"
    )


def test_json_lines_are_ascii() -> None:
    line = to_json({"path": "é\u2028.mp4"})
    assert line.isascii() and json.loads(line)["path"] == "é\u2028.mp4"


# --- several processes, and files that others touched ---------------------------------------------------

_APPEND = """
import sys
from pathlib import Path
from wmreward.records.record_file import RecordFile
files = [RecordFile(Path(name)) for name in sys.argv[2:]]
print("ready", flush=True)
for number in range(300):
    for file in files:
        file.append({"path": f"{sys.argv[1]}{number}.mp4"})
"""


def test_what_others_append_meanwhile_is_not_cut_off(tmp_path: Path) -> None:
    """Two writers and one who repairs, over and over; a torn line of an earlier run is cut off once."""
    files = [RecordFile(tmp_path / name) for name in ("s.jsonl", "s.csv")]
    for file in files:
        file.append(record("old.mp4"))
        file.append(record("torn.mp4"))
        file.path.write_bytes(file.path.read_bytes()[:-9])
        assert paths(file.repair()) == ["old.mp4"]
    words = [str(file.path) for file in files]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _APPEND, name, *words],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    while any(writer.poll() is None for writer in writers):
        for file in files:
            file.repair()
    for writer in writers:
        writer.communicate()
    wanted = {"old.mp4", *(f"{name}{number}.mp4" for name in "ab" for number in range(300))}
    for file in files:
        assert set(paths(file.read())) == wanted and len(file.read()) == len(wanted)


def csv_of(tmp_path: Path, edit: Callable[[list[str]], None]) -> RecordFile:
    file = RecordFile(tmp_path / "scores.csv")
    for name in "abcde":
        file.append(record(f"{name}.mp4"))
    lines = file.path.read_text().splitlines(keepends=True)
    edit(lines)
    file.path.write_text("".join(lines))
    return file


@pytest.mark.parametrize("row", [1, 3, 5])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{}.mp4", '"{}.mp4', "a quote opens here|text follows"),
        (".mp4,0.125", '.mp4,"0.125', "a quote opens here"),
        ("{}.mp4,", '"{}.mp4"x,', "text follows a closing quote"),
        ("{}.mp4,", "{}" + "x" * 140_000 + ",", "a cell of more than 131072 characters"),
        ("{}.mp4,", "{}.mp4,,", "columns, not"),
        ("0.125", "NaN", "'NaN' in column surprise is not a number"),
    ],
)
def test_a_damaged_table_is_refused_with_the_line_and_left_alone(
    tmp_path: Path, row: int, old: str, new: str, says: str
) -> None:
    name = "abcde"[row - 1]

    def damage(lines: list[str]) -> None:
        assert old.format(name) in lines[row]
        lines[row] = lines[row].replace(old.format(name), new.format(name))

    file = csv_of(tmp_path, damage)
    before = file.path.read_bytes()
    with pytest.raises(UsageError, match=rf"scores\.csv, line {row + 1}: .*({says})") as caught:
        file.repair()
    assert file.path.read_bytes() == before and caught.value.exit_code == 2
    # A torn last line makes no difference.
    if row < 5:
        file.path.write_bytes(before[:-20])
        with pytest.raises(UsageError, match=says):
            file.repair()
        assert file.path.read_bytes() == before[:-20]


def test_a_stray_quote_of_the_reports(tmp_path: Path) -> None:
    given = (
        Path(__file__).parents[3] / "shared" / "faults" / "02_csv_quote_cuts_rows" / "scores.csv"
    )
    if not given.exists():
        pytest.skip("needs the shared faults")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(given.read_bytes())
    with pytest.raises(UsageError, match="line 3"):
        RecordFile(copy).repair()
    assert copy.read_bytes() == given.read_bytes()


def test_a_table_of_an_earlier_version_goes_on_as_it_is(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "s.csv")
    earlier = [name for name in COLUMNS if name not in ("crop", "levels", "teacher_sha256")]
    row = ["a.mp4", "0.5", *[""] * (len(earlier) - 2)]
    file.path.write_text(f"{','.join(earlier)}\n{','.join(row)}\n")
    file.append(record("b.mp4"))
    assert paths(file.repair()) == ["a.mp4", "b.mp4"] and file.read()[1]["stride"] == 2
    assert file.path.read_text().splitlines()[0] == ",".join(earlier)
    file.part(0).append(record("c.mp4"))
    file.merge_parts()
    assert paths(file.read()) == ["a.mp4", "b.mp4", "c.mp4"]
    assert file.path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_faults_are_read_as_they_were_written(file: RecordFile) -> None:
    faults = Faults(decoder_errors=2, gaps=1, longest_gap_s=1.5, notes=['cut off, "late"'])
    file.append(record("a.mp4", faults=faults.to_json()))
    file.append(record("b.mp4", faults=Faults().to_json()))
    file.append(record("c.mp4"))  # of an earlier version, which did not tell
    assert [faults_of(one) for one in file.read()] == [faults, Faults(), None]


def test_records_that_an_editor_saved_anew(file: RecordFile) -> None:
    for name in ("a.mp4", "é.mp4"):
        file.append(record(name))
    data = file.path.read_bytes()
    file.path.write_bytes(b"\xef\xbb\xbf" + data.rstrip(b"\n").replace(b"\n", b"\r\n"))
    if file.path.suffix == ".csv":  # a row without its end is not known to be whole
        file.path.write_bytes(file.path.read_bytes() + b"\r\n")
    file.repair()
    file.append(record("c.mp4"))
    assert paths(file.read()) == ["a.mp4", "é.mp4", "c.mp4"]


def test_room_that_a_power_cut_left_unfilled_is_torn(file: RecordFile) -> None:
    file.append(record("a.mp4"))
    whole = file.path.read_bytes()
    for end in (bytes(100), b'{"path": "b' + bytes(100)):
        if file.path.suffix == ".jsonl" or not end.strip(b"\0"):
            file.path.write_bytes(whole + end)
            assert paths(file.repair()) == ["a.mp4"] and file.path.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"path": ' + "[" * 5000, "nested deeper"),
        ('{"path": "a", "path": "b"}', "given twice"),
        ('{"path": 3}', "there is no path"),
        ('{"path": "a", "surprise": NaN}', "NaN"),
        ('{"path": "\xff"}', "not UTF-8"),
    ],
)
def test_lines_that_are_no_records(tmp_path: Path, line: str, says: str) -> None:
    file = RecordFile(tmp_path / "s.jsonl")
    file.append(record("a.mp4"))
    with file.path.open("ab") as end:
        end.write(line.encode("latin-1") + b"\n")
    before = file.path.read_bytes()
    with pytest.raises(UsageError, match=rf"s\.jsonl, line 2: not a record .*{says}"):
        file.repair()
    assert file.path.read_bytes() == before


def test_a_pipe_is_no_file_of_records(file: RecordFile) -> None:
    os.mkfifo(file.path)
    for use in (file.read, file.repair, file.check_writable):
        with pytest.raises(UsageError, match="not a regular file"):
            use()


def test_parts_of_files_with_long_names(tmp_path: Path) -> None:
    for stem in ("x" * 249, "é" * 124):
        file = RecordFile(tmp_path / f"{stem}.jsonl")
        for rank in (0, 3, 12):
            file.part(rank).append(record(f"{rank}.mp4"))
        file.merge_parts()
        assert paths(file.read()) == ["0.mp4", "3.mp4", "12.mp4"] and file.parts() == []


def test_a_link_in_circles_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    """`Path.exists` calls it absent, so it was found when the first record was to be written."""
    path = tmp_path / "loop.jsonl"
    path.symlink_to(path.name)
    for check in (RecordFile(path).check_writable, RecordFile(path).read, RecordFile(path).repair):
        with pytest.raises(UsageError, match=r"loop\.jsonl.*leads in circles"):
            check()
    target = tmp_path / "new.jsonl"
    target.symlink_to("not_yet.jsonl")
    RecordFile(target).check_writable()
