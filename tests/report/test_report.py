"""The report of a batch run: what is read, what is counted, and the page in a real browser."""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cli_fixtures
import numpy as np
import pytest
import torch
from chromium import Page, browser, find_chromium
from cli_fixtures import Cli, write_clip
from magi1_fakes import write_nano
from run_fakes import write_run
from torch import Tensor

from benchmarks import bench_report
from wmreward import compute_vjepa_surprise
from wmreward.batch.folder import read_records
from wmreward.errors import UsageError
from wmreward.generation.batch.cli import main as generate
from wmreward.prompts.jobs import BatchJob
from wmreward.report import totals
from wmreward.report.cli import main
from wmreward.report.numbers import Group, best_of_n, paired, ranks
from wmreward.report.page import page
from wmreward.report.page_data import as_script, gallery, page_data
from wmreward.report.posters import posters
from wmreward.report.run_data import Curve, RunData, best, first, read_run
from wmreward.report.surprise import draw_surprise, lacking, usual_model, with_surprise
from wmreward.report.totals import with_totals
from wmreward.rewards.world import Consensus
from wmreward.surprise.result import SurpriseResult
from wmreward.surprise.scorer import SurpriseScorer
from wmreward.tables.mean import Mean
from wmweights import write_state

cli = cli_fixtures.cli
NASTY = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>&\"'\u2028"
CATEGORIES = ("Optics", "Magnetism", NASTY)


def jobs(count: int = 5, seeds: tuple[int, ...] = (1, 2, 3)) -> list[BatchJob]:
    return [
        BatchJob(
            id=f"{number:04d}",
            mode="t2v",
            prompt=f"Scene {number} {NASTY}",
            category=CATEGORIES[number % 3],
            seeds=seeds,
        )
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "my run #1 <b>&"
    failing = {"0002.plain.2": f"out of memory {NASTY}"}
    return write_run(path, jobs(), failing=failing, waiting=("0003.guided.3",)).path


@pytest.fixture
def run(folder: Path) -> RunData:
    return read_run(folder)


RESULTS: dict[str, Any] = {
    pick: {
        "scores": {
            "all": {
                "num_samples": 2,
                "original": {"score": 41.5 + bonus, "interval": {"low": 30.0, "high": None}},
                "verified": {"score": 0.375, "interval": {"low": 0.3, "high": 0.45}},
            }
        },
        "samples": [
            {"job": "0001", "candidate": f"0001.{name}", "verified": 0.25 + bonus / 100},
            {"job": "0004", "candidate": f"0004.{name}", "verified": 0.5 + bonus / 50},
        ],
        "failures": [{"job": "0002", "error": f"too short {NASTY}"}],
        "settings": {"pick": pick, "seconds": 5.0},
        "jobs": 5,
    }
    for pick, name, bonus in (("best", "guided.3", 10), ("plain", "plain.1", 0))
}


# --- what is read ---------------------------------------------------------------------------------------


def test_every_candidate_is_read(run: RunData) -> None:
    assert len(run.entries) == 30 and run.variants == ("plain", "guided")
    status = {entry.name: entry.status for entry in run.entries}
    assert [name for name, is_ in status.items() if is_ == "failed"] == ["0002.plain.2"]
    assert [name for name, is_ in status.items() if is_ == "waiting"] == ["0003.guided.3"]
    entry = next(entry for entry in run.entries if entry.name == "0004.guided.2")
    assert entry.score == 0.025 and entry.gain == 0.002 and entry.beyond_null is True
    assert entry.video == Path("candidates/0004.guided.2/video.mp4")
    assert (run.path / entry.video).exists() and entry.host == "node1"
    assert entry.curve is not None and entry.curve.surprise[1] == pytest.approx(0.175)
    failed = next(entry for entry in run.entries if entry.status == "failed")
    assert failed.error == f"out of memory {NASTY}" and failed.attempts == 2


def test_a_run_is_read_while_it_is_at_work(folder: Path, tmp_path: Path) -> None:
    working = write_run(tmp_path / "run", jobs(1)).path
    manifest = working / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0])
    (working / "manifest.jsonl.rank1").write_bytes(lines[1] + lines[2][:40])  # torn
    status = [entry.status for entry in read_run(working).entries]
    assert status == ["made", "made", "waiting", "waiting", "waiting", "waiting"]


def test_odd_records_are_no_obstacle(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", jobs(1), ("plain",), videos=False)
    records = run.manifest.read()
    for record, score in zip(records, (None, "high", True), strict=True):
        record |= {
            "score": score,
            "per_window": [1.0],
            "windows": [],
            "guidance": None,
            "files": {},
        }
    run.manifest.rewrite(records)
    read = read_run(run.path)
    assert {(e.score, e.curve, e.video, e.gain) for e in read.entries} == {(None, None, None, None)}
    assert best(read.entries) is None and "No candidate has a score yet" in page(
        read, {}, Path("p")
    )


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"run\.json is missing"):
        read_run(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([str(tmp_path), "--output", "x.txt"]) == 2


# --- what is counted ------------------------------------------------------------------------------------


def test_first_and_best(run: RunData) -> None:
    entries = run.of_job()["0004"]
    found = first(entries, "plain")
    assert found is not None and found.name == "0004.plain.1"
    top = best(entries)
    assert top is not None and top.name == "0004.guided.3"
    assert ranks(entries) == {
        "0004.guided.3": 1,
        "0004.plain.3": 2,
        "0004.guided.2": 3,
        "0004.plain.2": 4,
        "0004.guided.1": 5,
        "0004.plain.1": 6,
    }


def test_means_and_gain(run: RunData) -> None:
    group = Group.of(run.of_job().values(), run.variants)
    plain, guided = group.single["plain"], group.single["guided"]
    assert plain is not None and guided is not None and group.chosen is not None
    assert plain.value == pytest.approx(0.01) and guided.value == pytest.approx(0.015)
    # In job 0003 the best candidate is not there yet: plain.3 wins.
    assert group.chosen.value == pytest.approx((4 * 0.035 + 0.03) / 5)
    assert group.gain is not None and group.gain.value == pytest.approx((4 * 0.025 + 0.02) / 5)
    assert group.most == 6 and group.gain.low <= group.gain.value <= group.gain.high
    assert Mean.of([]) is None and np.isnan(Mean.of([1.0]).low)  # type: ignore[union-attr]


def test_intervals_cover_as_they_say() -> None:
    random = np.random.default_rng(1)
    means = [Mean.of(random.normal(size=40).tolist()) for _ in range(200)]
    covered = np.mean([mean.low <= 0 <= mean.high for mean in means if mean])
    assert 0.9 <= covered <= 0.98
    values = random.normal(size=30).tolist()
    assert Mean.of(values) == Mean.of(sorted(values))


def test_best_of_n_is_the_mean_over_all_subsets(run: RunData) -> None:
    base = next(entry for entry in run.entries if entry.score is not None)
    scores = [0.3, -1.0, 0.7, 0.7, 0.1]
    entries = [replace(base, score=score) for score in scores]
    expected = [
        np.mean([max(subset) for subset in itertools.combinations(scores, n)]) for n in range(1, 6)
    ]
    assert best_of_n([entries], "plain") == pytest.approx(expected)
    assert len(best_of_n([entries, entries[:2]], "plain")) == 2
    assert best_of_n([entries], "guided") == []


def test_paired_differences() -> None:
    mean = paired({"a": 3.0, "b": 5.0, "c": 9.0}, {"a": 1.0, "b": 1.0, "x": 0.0})
    assert mean is not None and (mean.value, mean.jobs) == (3.0, 2)


def test_gallery_shows_each_variant_and_the_best(run: RunData) -> None:
    shown = [(label, entry.name) for label, entry in gallery(run)["0001"]]
    assert shown == [
        ("plain", "0001.plain.1"),
        ("guided", "0001.guided.1"),
        ("best of 6", "0001.guided.3"),
    ]


def test_posters_keep_to_their_budget(run: RunData) -> None:
    videos = [run.path / entry.video for entry in run.entries if entry.video]
    whole = posters(videos, 10**6)
    assert len(whole) == len(videos) and all(p[:2] == b"\xff\xd8" for p in whole.values())
    budget = sum(map(len, whole.values())) // 2
    some = posters([*videos, run.path / "gone.mp4"], budget)
    assert 0 < len(some) < len(videos) and sum(map(len, some.values())) <= budget


# --- rewards that compare -------------------------------------------------------------------------------


def test_the_benchmark_makes_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--count", "3", "--height", "90", "--num_frames", "4"]
    assert bench_report.main(argv) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (measured["candidates"], measured["stills"]) == (12, 6)
    assert measured["wall_s"] >= 0 and measured["page_mb"] > 0.02


def write_compared(path: Path, combine: str) -> tuple[Path, Tensor]:
    """One job with five candidates judged by surprise and consensus; returns their embeddings, too."""
    weights = {"surprise": 1.0, "consensus": 0.5}
    settings = {"judged_by": {"rewards": weights, "model": "tiny", "combine": combine}}
    seeds = (1, 2, 3, 4, 5)
    run = write_run(path, jobs(1, seeds), ("plain",), videos=False, settings=settings)
    embeddings = torch.randn(5, 24, generator=torch.Generator().manual_seed(0)).half()
    records = run.manifest.read()
    for record, embedding in zip(records, embeddings, strict=True):
        record["files"]["embeddings.safetensors"] = "0"
        (path / record["path"]).mkdir()
        write_state({"consensus": embedding}, path / record["path"] / "embeddings.safetensors")
    run.manifest.rewrite(records)
    return path, embeddings


@pytest.mark.parametrize("combine", ["sum", "rank"])
def test_totals_are_those_of_the_mix(tmp_path: Path, combine: str) -> None:
    path, embeddings = write_compared(tmp_path / "run", combine)
    run = with_totals(read_run(path))
    surprise = torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05], dtype=torch.float64)
    consensus = Consensus.compare(None, embeddings).double()  # type: ignore[arg-type]
    if combine == "rank":
        surprise, consensus = (x.argsort().argsort().double() for x in (surprise, consensus))
    expected = (surprise + 0.5 * consensus).tolist()
    assert [entry.score for entry in run.entries] == pytest.approx(expected)
    assert run.relative and "no common scale" in page(run, {}, path / "x.html")


def test_totals_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_compared(tmp_path / "run", "sum")
    run = with_totals(read_run(path))
    monkeypatch.setattr(totals, "read_state", lambda _: pytest.fail("read again"))
    assert with_totals(read_run(path)) == run


def test_a_candidate_without_embeddings_has_no_total(tmp_path: Path) -> None:
    path, _ = write_compared(tmp_path / "run", "sum")
    (path / "candidates" / "0001.plain.5" / "embeddings.safetensors").unlink()
    scores = [entry.score for entry in with_totals(read_run(path)).entries]
    assert scores[4] is None and None not in scores[:4]


def test_scores_stay_where_nothing_is_compared(run: RunData) -> None:
    assert with_totals(run) is run


# --- surprise -------------------------------------------------------------------------------------------


def test_curves_and_maps_are_drawn_once(
    cli: Cli, scored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", jobs(1, (1,)), ("plain",), frames=24)
    records = folder.manifest.read()
    for record in records:
        del record["per_window"]
    folder.manifest.rewrite(records)
    run = read_run(folder.path)
    weights = str(tmp_path / "nano.safetensors")
    assert usual_model(run, 1) == "tiny"
    assert draw_surprise(run, run.entries, "tiny", weights) == {}
    (entry,) = with_surprise(run).entries
    assert entry.curve is not None and len(entry.curve.surprise) == 2
    assert entry.heat_map is not None and (run.path / entry.heat_map).exists()
    assert not entry.heat_map.is_absolute() and len(scored) == 1
    assert draw_surprise(run, run.entries, "tiny", weights) == {} and len(scored) == 1
    assert draw_surprise(with_surprise(run), with_surprise(run).entries, "x") == {}
    assert main([str(run.path), "--weights", weights]) == 0 and len(scored) == 1
    assert capsys.readouterr().out.strip() == str(run.path / "report.html")
    text = (run.path / "report.html").read_text()
    assert urllib.parse.quote(entry.heat_map.as_posix()) in text
    gone = [replace(e, video=Path("gone.mp4")) for e in run.entries]
    assert draw_surprise(run, gone, "tiny", weights) == {
        run.entries[0].name: f"{run.path}/gone.mp4: is gone"
    }


scored = cli_fixtures.scored


def test_a_heat_map_does_not_replace_the_recorded_curve(
    cli: Cli, scored: list[str], tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", jobs(1, (1,)), ("plain",), frames=24)
    run = read_run(folder.path)
    weights = str(tmp_path / "nano.safetensors")
    assert main([str(run.path), "--no_maps"]) == 0 and scored == []
    assert main([str(run.path), "--weights", weights]) == 0 and len(scored) == 1
    (before,), (after,) = run.entries, with_surprise(run).entries
    assert before.heat_map is None and after.heat_map is not None
    assert after.curve == before.curve is not None
    assert main([str(run.path), "--weights", weights]) == 0 and len(scored) == 1


def test_nothing_is_scored_where_there_is_no_heat_map(scored: list[str], tmp_path: Path) -> None:
    judge = {"rewards": {"surprise": 1.0}, "model": "tiny", "similarity": "token"}
    folder = write_run(
        tmp_path / "run", jobs(1, (1,)), ("plain",), frames=24, settings={"judged_by": judge}
    )
    run = read_run(folder.path)
    assert lacking(run, run.entries) == []
    assert main([str(run.path)]) == 0 and scored == []
    without = replace(run.entries[0], curve=None)
    assert lacking(run, [without, replace(without, video=None)]) == [without]


def test_curves_in_frames_and_in_seconds() -> None:
    in_frames = {"starts": [-6, 0, 4], "target": 4, "size": 8}
    record = {"per_window": [0.5, 0.25, 0.125], "windows": in_frames, "fps": 8.0}
    curve = Curve.of(record)
    assert curve == Curve((0.0, 0.5, 1.0), (0.125, 0.875, 1.375), (0.5, 0.25, 0.125))
    spans = zip(curve.start_s, curve.end_s, strict=True)
    in_seconds = [{"target_s": start, "end_s": end} for start, end in spans]
    assert Curve.of({**record, "windows": in_seconds}) == curve
    assert Curve.of({**record, "fps": None}) is None
    assert Curve.of({**record, "per_window": [0.5]}) is None


@pytest.mark.parametrize(
    ("reward", "mode"), [("surprise", "mean"), ("surprise", "max"), ("seam", "mean")]
)
def test_a_batch_records_the_curve_of_every_score(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reward: str, mode: str
) -> None:
    """From the generator to the page; every video is scored once."""
    passes = []
    score_rules = SurpriseScorer.score_rules
    monkeypatch.setattr(
        SurpriseScorer,
        "score_rules",
        lambda scorer, video, *of: passes.append(video.shape[2]) or score_rules(scorer, video, *of),
    )
    config, weights = write_nano(tmp_path / "magi"), str(tmp_path / "nano.safetensors")
    given = write_clip(tmp_path / "given.mp4", frames=40, fps=24)
    lines = [
        {"id": "free", "mode": "t2v", "prompt": "a ball", "seeds": [1, 2]},
        {"id": "on", "mode": "v2v", "prompt": "", "init_video": str(given), "seeds": [1]},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = f"--jobs list.jsonl --config_file {config} --run run --no_progress --device cpu"
    flags += f" --num_frames 24 --num_steps 4 --reward {reward}=0.5 consensus --model tiny"
    flags += f" --weights {weights} --stride 4 --reward_mode {mode} --score plain"
    assert generate(flags.split()) == 0
    run = tmp_path / "run"
    records = {Path(r["path"]).name: r for r in read_records(run).made.values()}
    assert sorted(passes) == [24, 24, 12 + records["on.plain.1"]["frames"]]
    for record in records.values():
        pooled = {"mean": np.mean, "max": np.max}[mode](record["per_window"])
        assert pooled == pytest.approx(-record["scores"][reward], rel=1e-5)
        assert all(value == float(f"{value:.6g}") for value in record["per_window"])
    free, on = records["free.plain.1"], records["on.plain.1"]
    assert free["windows"] == {"starts": [0, 4, 8], "target": 8, "size": 16}
    at_seam = [-8]  # seen in frames -8 to -1
    expected = at_seam if reward == "seam" else list(range(-12, on["frames"] - 15, 4))
    assert on["windows"]["starts"] == expected
    for entry in read_run(run).entries[:2]:
        again = compute_vjepa_surprise(
            str(run / str(entry.video)), "tiny", stride=4, mode=mode, weights=weights, device="cpu"
        )
        assert isinstance(again, SurpriseResult) and entry.curve is not None
        assert entry.curve.surprise == pytest.approx(again.per_window.tolist(), rel=1e-5)
        assert entry.curve.start_s == pytest.approx([w.target_s for w in again.windows], abs=1e-3)
        assert entry.curve.end_s == pytest.approx([w.end_s for w in again.windows], abs=1e-3)
    assert [entry.curve is not None for entry in read_run(run).entries] == [True] * 3


def test_long_work_is_not_begun_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = {"judged_by": {"rewards": {"surprise": 1.0}, "model": "vitg"}}
    folder = write_run(tmp_path / "run", jobs(1), ("plain",), videos=False, settings=settings)
    run = read_run(folder.path)
    assert usual_model(run, 1) is None
    recorded = folder.manifest.read()
    folder.manifest.rewrite([record | {"per_window": None} for record in recorded])
    assert main([str(folder.path)]) == 0
    assert "note: 2 videos have no surprise curve, and there is no GPU" in capsys.readouterr().err
    folder.manifest.rewrite(recorded)
    assert main([str(folder.path)]) == 0
    assert "note: 2 videos have no heat map, and there is no GPU" in capsys.readouterr().err
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert usual_model(run, 1000) == "vitg"


# --- the page -------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Elements and attributes of a page, and whether they are closed in order."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert (closes := self._open.pop()) == tag, f"{closes} closed by {tag}"


def test_page_is_well_formed_and_self_contained(run: RunData) -> None:
    text = page(run, RESULTS, run.path / "report.html")
    outline = Outline(text)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {a["href"] for tag, a in outline.tags if tag == "a"}
    assert {href.removeprefix("#") for href in anchors if href} <= set(ids)
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    for tag, attributes in outline.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")


def test_nothing_of_a_user_becomes_markup(run: RunData) -> None:
    text = page(run, RESULTS, run.path / "report.html")
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text and "hacked=1" in text and "\u2028" not in _data_text(text)
    data = json.loads(_data_text(text))
    assert [job[2] for job in data["jobs"]] == [job.prompt for job in run.jobs]
    assert data["rows"][4 - 3 + 6][14] == f"out of memory {NASTY}"
    assert as_script({"x": NASTY}).count("<") == 0


def _data_text(text: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return found[1]


def test_static_tables_say_what_the_run_says(run: RunData) -> None:
    text = page(run, RESULTS, run.path / "report.html")
    assert "my run #1 &lt;b&gt;&amp;" in text and "28 of 30 candidates made" in text
    assert "best of up to 6 by its score" in text and "0.0340" in text
    assert "51.50" in text and "30.00 to undefined" in text and "2 of 5" in text
    assert "best − plain: +15.00 (10.00 to 20.00)" in text
    assert "too short" in text and "weighted rewards surprise × 1" in text
    assert "generator.num_steps" in text and "Candidates are missing" in text


def test_a_page_elsewhere_finds_its_videos(run: RunData, tmp_path: Path) -> None:
    for place in (run.path / "report.html", tmp_path / "deep" / "er" / "x.html"):
        data = page_data(run, gallery(run), {}, place)
        base = urllib.parse.unquote(data["base"])
        assert (place.parent.resolve() / base / "run.json").resolve() == run.path / "run.json"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """The whole benchmark with 16 candidates of every job, 5 s at 24 fps."""
    path = tmp_path_factory.mktemp("big") / "run"
    run = read_run(write_run(path, jobs(198, tuple(range(8))), videos=False).path)
    windows = [{"target_s": i / 12, "end_s": (i + 8) / 12} for i in range(53)]
    curve = Curve.of({"per_window": [0.31234 + i / 1000 for i in range(53)], "windows": windows})
    return replace(run, entries=tuple(replace(entry, curve=curve) for entry in run.entries))


def test_a_page_of_3168_candidates_stays_small(
    big: RunData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(big.entries) == 3168
    still = np.random.default_rng(0).bytes(7500)
    monkeypatch.setattr(
        "wmreward.report.page_data.posters", lambda videos, _: dict.fromkeys(videos, still)
    )
    assert len(page(big, RESULTS, tmp_path / "x.html").encode()) < 10e6
    monkeypatch.setattr("wmreward.report.page_data.MOST_CURVES", 100)
    data = page_data(big, gallery(big), {}, tmp_path / "x.html")
    assert 0 < sum(row[13] is not None for row in data["rows"]) <= 3 * 198


# --- in a browser ---------------------------------------------------------------------------------------

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def opened(chrome: Page, folder: Path) -> Page:
    run = read_run(folder)
    (folder / "report.html").write_text(page(run, RESULTS, folder / "report.html"))
    chrome.messages.clear()
    chrome.requested.clear()
    chrome.open((folder / "report.html").as_uri())
    return chrome


CELLS = "[...document.querySelectorAll('#rows tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
COUNT = "document.getElementById('row-count').textContent"


def fill(chrome: Page, form: str, name: str, value: str) -> None:
    chrome.run(
        f"{{const e = document.getElementById('{form}').elements['{name}']; e.value = {json.dumps(value)};"
        "e.dispatchEvent(new Event('input', {bubbles: true})); 0}"
    )


@needs_chromium
def test_page_opens_clean(opened: Page) -> None:
    assert opened.run("document.querySelectorAll('.card').length") == 5
    assert opened.run(COUNT) == "1 to 30 of 30 candidates"
    assert opened.run("window.hacked") is None
    assert opened.messages == []
    fetched = {url.split(":")[0] for url in opened.requested}
    assert fetched <= {"file", "data"}
    assert not [url for url in opened.requested if url.endswith(".mp4")]  # none before it is wanted


@needs_chromium
def test_columns_sort_by_mouse_and_keyboard(opened: Page) -> None:
    opened.run("document.querySelector('th[data-name=score] button').click()")
    sort = "document.querySelector('th[data-name=score]').getAttribute('aria-sort')"
    assert opened.run(sort) == "descending"
    names = opened.run("[...document.querySelectorAll('#rows thead th')].map(h => h.dataset.name)")
    column = names.index("score")
    scores = [row[column] for row in opened.run(CELLS)]
    known = [float(text) for text in scores if text != "–"]
    assert known == sorted(known, reverse=True) and scores[len(known) :] == ["–"] * 2
    opened.run("document.querySelector('th[data-name=score] button').focus()")
    opened.press("Enter", 13, "\r")
    assert opened.run(sort) == "ascending"
    scores = [row[column] for row in opened.run(CELLS)]
    known = [float(text) for text in scores if text != "–"]
    assert known == sorted(known) and scores[len(known) :] == ["–"] * 2
    assert opened.run("document.querySelectorAll('th[aria-sort]').length") == 1


@needs_chromium
def test_filters_work_together(opened: Page) -> None:
    fill(opened, "candidate-filters", "category", "Magnetism")
    assert opened.run(COUNT) == "1 to 12 of 12 candidates"
    fill(opened, "candidate-filters", "variant", "guided")
    assert opened.run(COUNT) == "1 to 6 of 6 candidates"
    fill(opened, "candidate-filters", "text", "SCENE 4")
    assert [row[0] for row in opened.run(CELLS)] == ["0004"] * 3
    fill(opened, "candidate-filters", "text", "nothing like it")
    assert opened.run(COUNT) == "No candidate matches."
    opened.run("document.querySelector('#candidate-filters button[type=reset]').click()")
    opened.run("new Promise(done => setTimeout(done, 50))")
    assert opened.run(COUNT) == "1 to 30 of 30 candidates"
    fill(opened, "candidate-filters", "status", "failed")
    assert opened.run(COUNT) == "1 to 1 of 1 candidate"
    fill(opened, "candidate-filters", "status", "")
    fill(opened, "candidate-filters", "job", "0003")
    assert opened.run(COUNT) == "1 to 6 of 6 candidates"
    opened.run("document.querySelector('[name=best]').click()")
    assert opened.run(COUNT) == "1 to 1 of 1 candidate"
    assert opened.messages == []


@needs_chromium
def test_gallery_filters_orders_and_plays(opened: Page) -> None:
    heads = "[...document.querySelectorAll('.card h3')].map(h => h.textContent)"
    assert opened.run(heads) == ["0001", "0002", "0003", "0004", "0005"]
    fill(opened, "gallery-filters", "order", "worst")
    assert opened.run(heads)[0] == "0003"  # its best candidate is not there yet
    fill(opened, "gallery-filters", "category", "Optics")
    assert opened.run(heads) == ["0003"]
    labels = opened.run(
        "[...document.querySelectorAll('.card figcaption')].map(f => f.textContent)"
    )
    assert [label.split(",")[0] for label in labels] == ["plain", "guided", "best of 5: plain"]
    assert opened.run("document.querySelectorAll('.card svg[aria-label^=Surprise]').length") == 3
    opened.run(
        "[...document.querySelectorAll('.card button')].find(b => b.textContent == 'Play together').click()"
    )
    opened.run(
        "new Promise((done, fail) => { let n = 0; const look = () => {"
        "if ([...document.querySelectorAll('.card video')].every(v => v.readyState >= 2)) done();"
        "else if (++n > 100) fail(new Error('no video')); else setTimeout(look, 50); }; look(); })"
    )
    assert opened.run("document.querySelector('.card video').videoWidth") == 64
    assert len([url for url in opened.requested if ".mp4" in url]) >= 3
    assert opened.messages == []


@needs_chromium
def test_details_open_by_keyboard_and_give_focus_back(opened: Page) -> None:
    fill(opened, "candidate-filters", "status", "failed")
    opened.run("document.querySelector('#rows tbody button').focus()")
    opened.press("Enter", 13, "\r")
    assert opened.run("document.getElementById('detail').open")
    text = opened.run("document.getElementById('detail').textContent")
    assert "0002, plain, seed 2" in text and f"out of memory {NASTY}" in text
    opened.press("Escape", 27)
    opened.run("new Promise(done => setTimeout(done, 50))")
    assert not opened.run("document.getElementById('detail').open")
    assert opened.run("document.activeElement.textContent") == "0002"
    assert opened.run("window.hacked") is None


@needs_chromium
def test_keyboard_goes_through_the_page_in_order(opened: Page) -> None:
    opened.press("Tab", 9)
    assert opened.run("document.activeElement.className") == "skip"
    assert opened.run("document.activeElement.getBoundingClientRect().left") >= 0
    opened.press("Tab", 9)
    assert opened.run("document.activeElement.getAttribute('href')") == "#summary"
    outline = opened.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@needs_chromium
def test_assistive_software_is_told_names(opened: Page) -> None:
    tree = opened.tree()
    assert {"main", "navigation", "banner", "table", "status"} <= {role for role, _ in tree}
    named = {"button", "link", "searchbox", "combobox", "checkbox", "image", "region"}
    assert named <= {role for role, _ in tree}
    assert [role for role, name in tree if role in named and not name.strip()] == []
    assert ("columnheader", "Score") in tree


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough(opened: Page, folder: Path, dark: bool) -> None:
    opened.open((folder / "report.html").as_uri(), dark=dark)
    pairs = opened.run(
        """(() => {
          const seen = new Map();
          const behind = (e) => { for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor;
            if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; };
          for (const e of document.querySelectorAll('body *')) {
            const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
            if (!own || e.closest('svg, script, [hidden], dialog:not([open]), :disabled')) continue;
            const key = getComputedStyle(e).color + '|' + behind(e);
            if (!seen.has(key)) seen.set(key, e.tagName + '.' + e.className);
          }
          return [...seen];
        })()"""
    )
    assert len(pairs) >= 4
    for colors, where in pairs:
        ink, paper = (_luminance(color) for color in colors.split("|"))
        ratio = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert ratio >= 4.5, (where, colors, ratio)


def _luminance(color: str) -> float:
    values = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@needs_chromium
def test_a_narrow_screen_does_not_scroll_sideways(opened: Page, folder: Path) -> None:
    opened.open((folder / "report.html").as_uri(), width=360, height=740)
    assert opened.run("document.documentElement.scrollWidth") <= 360


@needs_chromium
def test_a_page_of_3168_candidates_opens_quickly(
    big: RunData, chrome: Page, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(big, {}, file))
    seconds = min(chrome.open(file.as_uri()) for _ in range(2))
    assert chrome.run(COUNT) == "1 to 50 of 3,168 candidates"
    assert seconds < 2
    turning = chrome.run(
        "(() => { const t = performance.now(); "
        "document.querySelector('th[data-name=score] button').click(); return performance.now() - t; })()"
    )
    assert turning < 500
    chrome.run("document.getElementById('next').click()")
    assert chrome.run(COUNT) == "51 to 100 of 3,168 candidates"
    chrome.run("document.getElementById('more-cards').click()")
    assert chrome.run("document.querySelectorAll('.card').length") == 24
