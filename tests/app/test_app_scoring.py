"""Clips scored for the page: in order, each trouble in a line, maps on one scale; and the words for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_fixtures import write_clip

from wmreward import compute_vjepa_surprise
from wmreward.app import words
from wmreward.app.scoring import Ranking, labels, score, write_curve, write_maps
from wmreward.errors import UsageError
from wmreward.pictures import map_video
from wmreward.surprise.result import SurpriseResult
from wmreward.video_io import probe

ROOT = Path(__file__).parents[2]
POSSIBLE, IMPOSSIBLE = (
    ROOT / "example" / f"balls_{name}.mp4" for name in ("possible", "impossible")
)
FOLDER = "uploads-of-today"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The twins, and between them what is no video."""
    broken = tmp_path_factory.mktemp(FOLDER) / "<b>broken.mp4"
    broken.write_text("no video")
    return [IMPOSSIBLE, broken, POSSIBLE]


@pytest.fixture(scope="module")
def ranking(clips: list[Path], nano_tiny: None) -> Ranking:
    return score(clips, "tiny", "cpu")


def test_the_lowest_comes_first(ranking: Ranking, clips: list[Path]) -> None:
    values = {one.label: float(one.result) for one in ranking.scored}
    assert values.keys() == {POSSIBLE.name, IMPOSSIBLE.name} and len({*values.values()}) == 2
    assert list(values) == sorted(values, key=values.__getitem__)
    again = score(clips[::-1], "tiny", "cpu")
    assert [one.label for one in again.scored] == list(values), "whatever the order of the files"


def test_one_bad_clip_costs_only_itself(ranking: Ranking) -> None:
    (line,) = ranking.troubles
    assert line.startswith("<b>broken.mp4: ") and "\n" not in line
    assert FOLDER not in line and "Error" not in line


@pytest.mark.filterwarnings("ignore:.*knows simulated balls")
def test_the_number_is_that_of_the_api(nano_tiny: None, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    (one,) = score([clip], "tiny", "cpu").scored
    own = compute_vjepa_surprise(clip, "tiny", device="cpu")
    assert isinstance(own, SurpriseResult) and float(one.result) == float(own)


def test_simulated_clips_get_no_warning_and_others_do(
    ranking: Ranking, nano_tiny: None, tmp_path: Path
) -> None:
    assert ranking.notes == []
    long, short = (write_clip(tmp_path / f"{n}.mp4", frames=n, seed=n) for n in (96, 20))
    meaning, speed = score([long, short], "tiny", "cpu").notes
    assert "Unless a clip shows such" in meaning
    assert speed.startswith("96.mp4: seen at 2 times its true speed")
    (meaning,) = score([short], "tiny", "cpu").notes
    assert "Unless 20.mp4 shows such" in meaning


def test_progress_and_device(clips: list[Path]) -> None:
    told: list[int] = []
    score([clips[1], clips[1]], "tiny", "cpu", on_clip=told.append)
    assert told == [0, 1]
    with pytest.raises(UsageError, match="drop one"):
        score([], "tiny")


def test_pictures(ranking: Ranking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[map_video.MapScale] = []
    write_page = map_video._Page.__init__

    def noted(
        page: map_video._Page, height: int, width: int, scale: map_video.MapScale, *more: object
    ) -> None:
        scales.append(scale)
        write_page(page, height, width, scale, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(map_video._Page, "__init__", noted)
    maps = write_maps(ranking.scored, tmp_path)
    assert [probe(path).codec for path in maps] == ["h264", "h264"]  # which browsers play
    assert len(scales) == 2 and scales[0] == scales[1], "maps that are compared need one scale"
    assert write_curve(ranking.scored, tmp_path).read_bytes().startswith(b"\x89PNG")


def test_the_ranking_in_words(ranking: Ranking) -> None:
    shown = words.verdict(ranking)
    assert "lower is more plausible" in shown
    assert re.findall(r"balls_\w+.mp4", shown) == [one.label for one in ranking.scored]
    for one in ranking.scored:
        assert f"{float(one.result):.4f}" in shown
    assert "&lt;b&gt;broken" in shown and "<b>broken" not in shown
    assert shown.count("wm-trouble") == 1


def test_one_clip_in_words(ranking: Ranking) -> None:
    (one, _) = ranking.scored
    shown = words.verdict(Ranking([one]))
    assert f"<strong>{float(one.result):.4f}</strong>" in shown and "table" not in shown
    assert "lower is more plausible" in shown


def test_clips_of_one_name_are_told_apart() -> None:
    names = [Path("a/x.mp4"), Path("b/x.mp4"), Path("y.mp4")]
    assert labels(names) == ["x.mp4", "x.mp4 (2)", "y.mp4"]
