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


def test_videos_of_one_name_are_paired_and_the_difference_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    base, better = rng.random(40), rng.normal(-0.02, 0.01, 40)
    first = [record(f"plain/{i}.mp4", float(v)) for i, v in enumerate(base)]
    second = [record(f"guided/{i}.mp4", float(v)) for i, v in enumerate(base + better)]
    found = compare(first, second)
    assert found.by == "name" and found.same_settings and len(found.pairs) == 40
    assert found.difference.value == pytest.approx(better.mean())
    assert found.difference.low < better.mean() < found.difference.high < 0
    spread = better.std(ddof=1) / 40**0.5
    assert found.difference.high - found.difference.low == pytest.approx(3.92 * spread, rel=0.15)
    assert found.lower == pytest.approx((better < 0).mean())
    assert found.first.high - found.first.low > 5 * (found.difference.high - found.difference.low)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="no video in common"):
        compare([record("a.mp4", 0.1)], [record("b.mp4", 0.1)])
    twice = [record("x/a.mp4", 0.1, "1"), record("y/a.mp4", 0.2, "2")]
    with pytest.raises(UsageError, match=r"x/a\.mp4: its file has 2 records"):
        compare(twice, [record("z/a.mp4", 0.1, "3")])


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


def test_a_missing_file_is_a_usage_error(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([files[0], "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err == (
        "error: nowhere.jsonl: no such file; check the spelling and the folder\n"
    )
