"""Two files of scores, video by video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmreward.compare.cli import main
from wmreward.compare.pairs import compare
from wmreward.errors import UsageError
from wmreward.records.record_file import RecordFile


def record(path: str, surprise: float | None, sha: str = "", settings: str = "s") -> dict[str, Any]:
    return {
        "path": path,
        "surprise": surprise,
        "video_sha256": sha or path,
        "settings_id": settings,
    }


def test_the_same_videos_are_found_by_content() -> None:
    first = [record(f"x/{i}.mp4", 0.1 * i, f"{i}", "a") for i in range(5)]
    second = [record(f"y/copy{i}.mp4", 0.3 - 0.1 * i, f"{i}", "b") for i in (4, 3, 2, 1)]
    found = compare(first, [*second, record("alone.mp4", 1.0), record("failed.mp4", None)])
    assert [pair.name for pair in found.pairs] == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert found.by == "content" and found.alone == (1, 1) and not found.same_settings
    assert found.rank_correlation == pytest.approx(-1)
    assert found.difference is None and found.lower is None  # of two scales they would say nothing


def test_videos_of_one_name_are_paired_and_the_difference_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    base, better = rng.random(40), rng.normal(-0.02, 0.01, 40)
    first = [record(f"plain/{i}.mp4", float(v)) for i, v in enumerate(base)]
    second = [record(f"guided/{i}.mp4", float(v)) for i, v in enumerate(base + better)]
    found = compare(first, second)
    assert found.by == "name" and found.same_settings and len(found.pairs) == 40
    assert found.difference is not None
    assert found.difference.value == pytest.approx(better.mean())
    assert found.difference.low < better.mean() < found.difference.high < 0
    spread = better.std(ddof=1) / 40**0.5
    assert found.difference.high - found.difference.low == pytest.approx(3.92 * spread, rel=0.15)
    assert found.lower == pytest.approx((better < 0).mean())
    assert found.first.high - found.first.low > 5 * (found.difference.high - found.difference.low)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="no video in common"):
        compare([record("a.mp4", 0.1)], [record("b.mp4", 0.1)])
    judged = [{"path": "a.mp4", "video_sha256": "1", "scores": {"surprise": -0.1}}]
    with pytest.raises(UsageError, match=r"^B: holds what wmreward select judged.*wmreward score"):
        compare([record("a.mp4", 0.1, "1")], judged)
    for none in ([], [record("a.mp4", None, "1")]):
        with pytest.raises(UsageError, match=r"^A: holds no s.*; wmreward score --output"):
            compare(none, [record("a.mp4", 0.1, "1")])
    twice = [record("x/a.mp4", 0.1, "1"), record("y/a.mp4", 0.2, "2")]
    with pytest.raises(
        UsageError, match=r"^old\.jsonl has 2 records .*x/a\.mp4 and y/a\.mp4: keep"
    ):
        compare([record("z/a.mp4", 0.1, "3")], twice, ("new.jsonl", "old.jsonl"))


def test_records_of_several_settings_are_told_with_file_and_settings() -> None:
    def by(settings: str, **own: Any) -> dict[str, Any]:
        said = {"model": "tiny", "score": "plain", "device": settings, "sampling": {"fps": None}}
        return record("x/a.mp4", 0.1, "1", settings) | {"settings": {**said, **own}}

    several = [by("s"), by("t", score="excess", sampling={"fps": 8.0})]
    with pytest.raises(UsageError) as refused:
        compare(several, [by("s")], ("a.jsonl", "b.jsonl"))
    told = str(refused.value)
    assert told.startswith("a.jsonl has 2 records of x/a.mp4 by different settings")
    assert "(score plain and excess; fps None and 8.0)" in told


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    names = []
    for name, shift in (("plain", 0.0), ("guided", -0.01)):
        lines = [
            json.dumps(record(f"{name}/{i}.mp4", 0.05 * (i + 1) + shift, f"{name}{i}"))
            for i in range(6)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        names.append(str(path))
    return names[0], names[1]


def test_the_command(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    out = capsys.readouterr().out
    assert "B is more plausible than A, beyond chance." in out and "6 pairs by name" in out
    assert main([*files, "--format", "markdown", "--pairs"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| mean surprise") and "| 3.mp4 |" in out and "plausible" not in out
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["difference"]["value"] == pytest.approx(-0.01) and len(found["pairs"]) == 6


def test_pairs_that_are_equal_do_not_differ(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([files[0], files[0], "--json", "--format", "csv"]) == 0
    assert "--format is without effect" in capsys.readouterr().err
    assert main([files[0], files[0]]) == 0
    out = capsys.readouterr().out
    assert "6 pairs by content. None differs." in out and "%" not in out.splitlines()[-2]
    assert "less surprising" not in out and "chance" not in out


def test_what_an_embedded_model_cannot_judge_is_told(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the records alone; of a table, too, and not of other weights."""
    lines = [json.loads(line) for line in Path(files[1]).read_text().splitlines()]

    def told(**settings: str) -> str:
        new = [json.dumps({**line, "settings": settings}) + "\n" for line in lines]
        Path(files[1]).write_text("".join(new))
        assert main(files) == 0
        return capsys.readouterr().err

    assert "note: tiny knows simulated balls" in told(model="tiny") and "6 of 6" in told(
        model="tiny"
    )
    assert told(model="tiny", weights_source="own.pt") == told(model="vitg") == ""
    table = RecordFile(Path(files[1]).with_suffix(".csv"))
    for line in lines:
        table.append({**line, "settings": {"model": "referee"}})
    assert main([files[0], str(table.path)]) == 0
    assert "note: referee knows simulated balls" in capsys.readouterr().err


def test_few_pairs_tell_nothing_from_chance(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the bootstrap says: of five that all agree, chance makes 1 in 16."""
    for name in files:
        Path(name).write_text("".join(Path(name).read_text().splitlines(keepends=True)[:5]))
    for form in ("text", "csv"):
        assert main([*files, "--format", form]) == 0
        out, err = capsys.readouterr()
        assert "beyond chance" not in out and "-0.010000" in out
        assert err.startswith("note: 5 pairs are too few") and "6 at least" in err
    assert main([files[0], "clip.mp4"]) == 2
    err = capsys.readouterr().err
    assert err == "error: clip.mp4: is no file of scores, which ends in .jsonl or .csv\n"


def test_other_settings_are_said_before_and_no_difference_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        lines = [json.dumps(record(f"{i}.mp4", 0.1 * i, f"{i}", name)) for i in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    both = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert main([*both, "--pairs"]) == 0
    out, err = capfd.readouterr()
    assert "values cannot be compared" in err
    assert "4 pairs are too few to tell two orders that agree from chance: it takes 5" in err
    assert "B - A" not in out and "less surprising" not in out and "Rank correlation" in out
    assert main([*both, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["difference"] is None


def test_pairs_at_different_rates_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, rates in (("a", (24, 24)), ("b", (24.5, 8))):
        lines = [
            json.dumps(record(f"{name}/{i}.mp4", 0.1 * i) | {"effective_fps": rate})
            for i, rate in enumerate(rates)
        ]
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("\n".join(lines) + "\n")
    assert main([str(file) for file in files]) == 0
    told = capsys.readouterr().err
    assert "1 of 2 pairs were not seen at the same rate (1.mp4: 8 to 24 frames" in told
    assert main([str(files[0]), str(files[0])]) == 0
    assert "rate" not in capsys.readouterr().err


def test_a_missing_file_is_a_usage_error(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([files[0], "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err == (
        "error: nowhere.jsonl: no such file; check the spelling and the folder\n"
    )
