"""Job lists: the format, our own lists, and those of Physics-IQ."""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmreward.commands.kinds import MOST_SEEDS, seed_range
from wmreward.errors import UsageError
from wmreward.physics_iq.dataset import read_descriptions
from wmreward.prompts.cli import main
from wmreward.prompts.conditioning import (
    RATES,
    ROOTS,
    SPELLINGS,
    conditioning_name,
    physics_iq_jobs,
    switch_frame_name,
)
from wmreward.prompts.jobs import BatchJob, read_jobs, write_jobs
from wmreward.video_io import write_png, write_video

ROOT = Path(__file__).parents[2]
DESCRIPTIONS = Path(__file__).parents[3] / "shared" / "physics_iq" / "descriptions.csv"
needs_descriptions = pytest.mark.skipif(
    not DESCRIPTIONS.exists(), reason="the benchmark's descriptions are not here"
)

GOOD: list[dict[str, Any]] = [
    {"id": "a", "mode": "t2v", "prompt": "a ball"},
    {"id": "b-1.x_Y", "mode": "t2v", "prompt": "a ball", "negative_prompt": "a wall"},
    {"id": "c", "mode": "i2v", "prompt": "", "init_image": "c.png", "category": "Optics"},
    {"id": "d", "mode": "v2v", "prompt": "x", "init_video": "../d.mp4", "output_name": "out.mp4"},
    {"id": "e", "mode": "t2v", "prompt": "é", "seeds": [3, 1, 2**63 - 1]},
]

BAD: list[tuple[Any, str]] = [
    ([], "not a JSON object"),
    ({"mode": "t2v", "prompt": "x"}, "'id' is missing"),
    ({"id": "a", "prompt": "x"}, "'mode' is missing"),
    ({"id": "a", "mode": "t2v"}, "'prompt' is missing"),
    ({"id": "a", "mode": "t2v", "prompt": "  "}, "needs a 'prompt' that is not empty"),
    ({"id": "a", "mode": "t2i", "prompt": "x"}, "mode 't2i' must be one of t2v, i2v, v2v"),
    ({"id": "a", "mode": "t2v", "prompt": 3}, "'prompt' must be text, got 3"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "steps": 3}, "unknown field 'steps'"),
    ({"id": "a", "mode": "i2v", "prompt": "x"}, "mode i2v needs 'init_image'"),
    ({"id": "a", "mode": "i2v", "prompt": "x", "init_image": ""}, "mode i2v needs 'init_image'"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "init_video": "x"}, "'init_video' has no meaning"),
    (
        {"id": "a", "mode": "v2v", "prompt": "x", "init_video": "x", "init_image": "x"},
        "'init_image' has no meaning with mode v2v",
    ),
    ({"id": "../a", "mode": "t2v", "prompt": "x"}, "id '../a' is to name a file"),
    ({"id": "", "mode": "t2v", "prompt": "x"}, "id '' is to name a file"),
    ({"id": ".a", "mode": "t2v", "prompt": "x"}, "id '.a'"),
    ({"id": "a\n", "mode": "t2v", "prompt": "x"}, "is to name a file"),
    ({"id": "a" * 151, "mode": "t2v", "prompt": "x"}, "is to name a file"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "output_name": "/etc/a.mp4"}, "output_name '/etc"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "output_name": "a\\b.mp4"}, "is to name a file"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "output_name": "a.avi"}, "must end in .mp4"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": []}, "'seeds' must be a list of whole"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": [-1]}, "'seeds' must be a list of whole"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": [2**63]}, "'seeds' must be"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": [True]}, "'seeds' must be"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": 3}, "'seeds' must be"),
    ({"id": "a", "mode": "t2v", "prompt": "x", "seeds": [1, 1]}, "has a number twice"),
]


def write_lines(path: Path, *entries: Any) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


# --- the format ---------------------------------------------------------------------------------------


def test_reads_what_it_writes(tmp_path: Path) -> None:
    jobs = read_jobs(write_lines(tmp_path / "list.jsonl", *GOOD))
    assert [job.output_name for job in jobs] == [
        "a.mp4",
        "b-1.x_Y.mp4",
        "c.mp4",
        "out.mp4",
        "e.mp4",
    ]
    assert jobs[3].given == tmp_path / "../d.mp4" and jobs[0].given is None
    assert jobs[4].seeds == (3, 1, 2**63 - 1) and jobs[0].seeds == (0,)
    write_jobs(tmp_path / "again.jsonl", jobs)
    assert read_jobs(tmp_path / "again.jsonl") == jobs


@pytest.mark.parametrize(("entry", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes_name_file_and_line(entry: Any, message: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "list.jsonl", GOOD[0] | {"id": "first"}, entry)
    with pytest.raises(UsageError) as caught:
        read_jobs(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, line 2: ") and message in text and "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"id": "a", "id": "b"}', "'id' is given twice"),
        ("\n\n", "no jobs in it"),
        ("\udcff", "is not UTF-8 text"),
    ],
)
def test_files_that_are_no_lists(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=message):
        read_jobs(path)
    with pytest.raises(UsageError, match="no such file"):
        read_jobs(tmp_path / "none.jsonl")


ONE = '{"id": "a", "mode": "i2v", "prompt": "x", "init_image": %s}'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "a", "mode": "t2v", "prompt": ' + "[" * 4000 + "]" * 4000 + "}", "nested deeper"),
        ('{"id": "a", "mode": "t2v", "prompt": ' + "[" * 100_000, "nested deeper"),
        ('{"id": "a", "mode": "t2v", "prompt": "a \\ud800 ball"}', "half a character"),
        ('{"id": "a", "mode": "t2v", "prompt": "a \\udc80 ball"}', "half a character"),
        ('{"id": "a", "mode": "t2v", "prompt": "' + "x" * 200_000 + '"}', "200000 characters"),
        ('{"id": "a", "mode": "t2v", "prompt": "x", "seeds": [1e999]}', "no finite number"),
        ('{"id": "a", "mode": "t2v", "prompt": "x", "seeds": [' + "9" * 5000 + "]}", "5000 digits"),
        ('{"id": "a", "mode": "t2v", "prompt": "x", "' + "y" * 5000 + '": 1}', "unknown field"),
        ('{"id": "' + "y" * 5000 + '", "mode": "t2v", "prompt": "x"}', "to name a file"),
        (ONE % '"~nosuchuser/x.png"', "no home folder ~nosuchuser"),
        (ONE % json.dumps("x" * 300), "longer than a path can be"),
        (ONE % json.dumps("x/" * 3000), "longer than a path can be"),
        (ONE % r'"a\u0000b"', "null byte"),
        (ONE % '" "', "a path is empty"),
    ],
)  # fmt: skip
def test_absurd_jobs_are_refused_in_one_line(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"id": "z", "mode": "t2v", "prompt": "x"}}\n{line}\n')
    with pytest.raises(UsageError) as caught:
        read_jobs(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, line 2: ") and says in text
    assert "\n" not in text and len(text) < 400 + len(str(path)) and caught.value.exit_code == 2


def test_too_many_seeds(tmp_path: Path) -> None:
    job = {"id": "a", "mode": "t2v", "prompt": "x", "seeds": list(range(MOST_SEEDS + 1))}
    with pytest.raises(UsageError, match=f"{MOST_SEEDS + 1} seeds"):
        read_jobs(write_lines(tmp_path / "list.jsonl", job))
    ranges = ",".join(f"{100_000 * i}-{100_000 * i + 99_999}" for i in range(9_000))
    for text in ("0-99999999999", "0-60000,100000-160000", "9" * 5000, "1-" + "9" * 5000, ranges):
        with pytest.raises(ArgumentTypeError) as caught:
            seed_range(text)
        assert len(str(caught.value)) < 200


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "list.jsonl", *GOOD)
    jobs = read_jobs(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_jobs(path) == jobs


def test_images_whose_names_are_not_utf8(tmp_path: Path) -> None:
    job = {"id": "a", "mode": "i2v", "prompt": "é", "init_image": os.fsdecode(b"\xff.png")}
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(job))
    jobs = read_jobs(path)
    assert jobs[0].given == tmp_path / os.fsdecode(b"\xff.png")
    write_jobs(tmp_path / "again.jsonl", jobs)
    assert read_jobs(tmp_path / "again.jsonl") == jobs


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.jsonl")
    with pytest.raises(UsageError, match="not a regular file"):
        read_jobs(tmp_path / "list.jsonl")


def test_reading_is_linear_in_the_length(tmp_path: Path) -> None:
    lines = [f'{{"id": "{i}", "mode": "t2v", "prompt": "x"}}' for i in range(20_000)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    begun = time.perf_counter()
    assert len(read_jobs(tmp_path / "list.jsonl")) == 20_000
    assert time.perf_counter() - begun < 5


def test_ids_and_names_differ_on_any_file_system(tmp_path: Path) -> None:
    one = {"id": "a", "mode": "t2v", "prompt": "x"}
    for other in (
        {"id": "A"},
        {"id": "b", "output_name": "a.mp4"},
        {"id": "b", "output_name": "A.mp4"},
    ):
        with pytest.raises(UsageError, match=r"line 2: .* is taken by line 1 already"):
            read_jobs(write_lines(tmp_path / "list.jsonl", one, one | other))


@given(st.text())
def test_no_name_leaves_the_folder(name: str) -> None:
    from wmreward.prompts.jobs import _check_name

    try:
        _check_name("id", name)
    except ValueError:
        return
    assert Path(name).name == name and name not in (".", "..") and not name.startswith(".")


def test_schema_and_reader_agree(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "prompt" / "job.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert set(schema["properties"]) == set(BatchJob.__dataclass_fields__)
    for entry in GOOD:
        validator.validate(entry)
    for entry, message in BAD:
        if isinstance(entry, dict) and entry.get("seeds") == [True]:
            continue  # a boolean is an integer there
        if entry == {"id": "a\n", "mode": "t2v", "prompt": "x"}:
            continue  # $ matches before a line end in Python's patterns
        assert not validator.is_valid(entry), message


@pytest.mark.parametrize("name", ["embedded_i2v", "embedded_v2v"])
def test_our_own_lists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "prompt" / f"{name}.jsonl"
    assert main(["check", str(path)]) == 0
    assert "6 jobs, 24 candidates, 6 files in order" in capsys.readouterr().out
    assert {job.mode for job in read_jobs(path)} == {name[-3:]}


def test_check_lists_all_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "good.png", np.zeros((8, 8, 3), np.uint8))
    write_video(tmp_path / "good.mp4", np.zeros((9, 16, 16, 3), np.uint8), 24)
    whole = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.png").write_text("no image")
    names = ("good.png", "good.mp4", "cut.mp4", "bad.png", "none.png")
    entries = [
        {"id": str(i), "prompt": "", "mode": "i2v", "init_image": name}
        if name.endswith("png")
        else {"id": str(i), "prompt": "", "mode": "v2v", "init_video": name}
        for i, name in enumerate(names)
    ]
    path = write_lines(tmp_path / "list.jsonl", *entries)
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [Path(line.partition(": ")[0]).name for line in lines[:3]] == [
        "cut.mp4",
        "bad.png",
        "none.png",
    ]
    assert lines[3].startswith("error: 3 of 5 files") and len(lines) == 4
    assert main(["check", str(path), "--check", "exists"]) == 1
    assert capsys.readouterr().err.count("no such file") == 1


# --- Physics-IQ ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image and a video."""
    folder = tmp_path_factory.mktemp("pictures")
    write_png(folder / "image.png", np.zeros((8, 8, 3), np.uint8))
    write_video(folder / "video.mp4", np.zeros((9, 16, 16, 3), np.uint8), 24)
    return folder / "image.png", folder / "video.mp4"


def lay_out(
    data: Path, pictures: tuple[Path, Path], root: str = ROOTS[0], spelling: str = SPELLINGS[0]
) -> Path:
    """The benchmark's conditioning files, all links to one image and one video."""
    image, video = pictures
    frames = data / root / "switch-frames"
    frames.mkdir(parents=True)
    rows = [row for row in read_descriptions(DESCRIPTIONS) if row.take == 1]
    for row in rows:
        (frames / switch_frame_name(row)).symlink_to(image)
    for fps in RATES:
        clips = data / root / "split-videos" / spelling / f"{fps}FPS"
        clips.mkdir(parents=True)
        for row in rows:
            (clips / conditioning_name(row, fps)).symlink_to(video)
    return data


@needs_descriptions
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_benchmarks_lists(
    root: str, spelling: str, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    data = lay_out(tmp_path, pictures, root, spelling)
    for place in (data, data / root):
        for mode, fps in (("i2v", 24), *(("v2v", fps) for fps in RATES)):
            jobs = physics_iq_jobs(DESCRIPTIONS, place, mode, fps=fps, seeds=(0, 5))  # type: ignore[arg-type]
            assert [job.id for job in jobs] == [f"{n:04d}" for n in range(1, 199)]
            assert all(job.given and job.given.exists() and job.seeds == (0, 5) for job in jobs)
    first = jobs[0]
    assert first.output_name == "0001_perspective-left_trimmed-ball-and-block-fall.mp4"
    assert first.prompt.startswith("Two pillows on a table") and first.category == "Solid Mechanics"
    assert first.given is not None and first.given.name == (
        "0001_conditioning-videos_8FPS_perspective-left_take-1_trimmed-ball-and-block-fall.mp4"
    )
    assert Counter(job.category for job in jobs) == {
        "Solid Mechanics": 114,
        "Fluid Dynamics": 45,
        "Optics": 24,
        "Thermodynamics": 9,
        "Magnetism": 6,
    }


@needs_descriptions
def test_the_command_writes_and_checks(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lay_out(tmp_path / "data", pictures)
    output = tmp_path / "list.jsonl"
    flags = ["physics-iq", "--descriptions", str(DESCRIPTIONS), "--data", str(data)]
    assert main([*flags, "--output", str(output), "--seeds", "0-3", "--check", "full"]) == 0
    assert "198 jobs of 4 candidates" in capsys.readouterr().out
    jobs = read_jobs(output)
    assert len(jobs) == 198 and jobs[7].seeds == (0, 1, 2, 3)
    assert jobs[0].init_image is not None and jobs[0].init_image.name == (
        "0001_switch-frames_anyFPS_perspective-left_trimmed-ball-and-block-fall.jpg"
    )
    before = output.read_text()
    for number in (3, 11):
        (jobs[number].init_image or Path()).unlink()
    assert main([*flags, "--output", str(output)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [Path(line).name[:4] for line in lines[:2]] == ["0004", "0012"]
    assert lines[2].startswith("error: 2 of 198 files") and output.read_text() == before


@needs_descriptions
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"--data": "nowhere"}, "there is no switch-frames in it"),
        ({"--data": "nowhere", "--mode": "v2v"}, "split-videos/conditioning/24FPS"),
        ({"--descriptions": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"--clip_fps": "25"}, "--clip_fps must be one of"),
        ({"--seeds": "3-1"}, "--seeds"),
        ({"--output": "list.txt"}, "must end in .jsonl"),
    ],
)
def test_wrong_flags(
    flags: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "switch-frames").mkdir()
    values = {"--descriptions": str(DESCRIPTIONS), "--data": str(tmp_path)} | flags
    assert main(["physics-iq", *(word for pair in values.items() for word in pair)]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not list(tmp_path.glob("*.jsonl"))


@needs_descriptions
def test_both_editions_in_one_folder_are_ambiguous(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    for root in ROOTS:
        lay_out(tmp_path, pictures, root)
    with pytest.raises(UsageError, match="name one of the folders"):
        physics_iq_jobs(DESCRIPTIONS, tmp_path, "i2v")
    short = tmp_path / "short.csv"
    short.write_text("".join(DESCRIPTIONS.read_text().splitlines(keepends=True)[:20]))
    with pytest.raises(UsageError, match="19 rows of take 1 instead of 198"):
        physics_iq_jobs(short, tmp_path / ROOTS[0], "i2v")


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and main([]) == 2 and main(["what"]) == 2
    assert "'what' is not a command" in capsys.readouterr().err
