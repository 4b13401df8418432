"""From folders of clips to scores: goldens end to end, names, caches, bad clips, the command line."""

from __future__ import annotations

import csv
import gc
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from physics_iq_goldens import COMMITTED, COMPLETE, Case, agree, cases

from benchmarks import bench_physics_iq
from wmreward.errors import UsageError, VideoError, WMRewardError
from wmreward.physics_iq import cache, dataset
from wmreward.physics_iq.cli import build_parser, default_workers, main
from wmreward.physics_iq.clips import Take, change_rate, first_frames, read_header, read_take
from wmreward.physics_iq.dataset import find_jobs, read_descriptions, read_list
from wmreward.physics_iq.evaluate import evaluate, plan_job
from wmreward.physics_iq.measures.metrics import Look, sampled
from wmreward.physics_iq.measures.stored_masks import through_mpeg4
from wmreward.physics_iq.official_csv import read_csv
from wmreward.physics_iq.scores import original_score, verified_score
from wmreward.video_io import write_video

FURTHER = ("a30_lossless", "b24_lossy_clips", "c16_edges", "d16_short")
D16 = COMMITTED / "d16_short"


def disc(num_frames: int, shift: float, size: tuple[int, int] = (48, 64)) -> Iterator[Any]:
    rows, columns = np.ogrid[: size[0], : size[1]]
    for t in range(num_frames):
        frame = np.full((*size, 3), 90, np.uint8)
        inside = (rows - 24) ** 2 + (columns - 16 - 3 * t - shift) ** 2 < 100
        frame[inside] = (220, 200, 40)
        yield frame


@dataclass
class Bench:
    """A small data set: two scenarios, two views, 1 s at 8 fps."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def real(self) -> Path:
        return self.root / "real"

    @property
    def generated(self) -> Path:
        return self.root / "generated"

    def __call__(self, *arguments: object, real: bool = True) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of the command line."""
        folders = ["--real", self.real, "--generated", self.generated] if real else []
        words = [*folders, "--seconds", 1, "--workers", 1, "--cache", self.root / "cache"]
        code = main([str(word) for word in [*words, *arguments]])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def clips(self) -> list[Path]:
        return sorted(self.generated.iterdir())


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    number = 0
    for scenario in ("trimmed-ball-hits-duck", "trimmed-siphon"):
        for view in ("left", "right"):
            number += 1
            place = f"perspective-{view}"
            for take in (1, 2):
                name = f"{number + 4 * (take - 1):04d}_testing-videos_8FPS_{place}_take-{take}_{scenario}.mp4"
                folder = tmp_path / "real" / "split-videos" / "testing" / "8FPS"
                write_video(folder / name, disc(8, take), 8)
            clip = tmp_path / "generated" / f"{number:04d}_{place}_{scenario}.mp4"
            write_video(clip, disc(8, 4, (54, 96)), 8)
    return Bench(tmp_path, capsys)


# --- goldens


@pytest.mark.parametrize("case", cases("d16_short", further=FURTHER))
def test_evaluation_is_the_benchmarks(case: Case) -> None:
    result = evaluate(find_jobs(case.folder / "real", case.folder / "gen"), cache="")
    assert not result.failures
    agree(result.samples, case)


def test_evaluation_from_the_cache_is_the_same(tmp_path: Path) -> None:
    jobs = find_jobs(D16 / "real", D16 / "gen")
    cold, known = (evaluate(jobs, cache=tmp_path).samples for _ in range(2))
    assert cold == known


@pytest.mark.parametrize("case", cases(further=["r24_real_footage"]))
def test_evaluation_of_real_footage_is_the_benchmarks(case: Case, tmp_path: Path) -> None:
    """Its real clips lie elsewhere, under other names."""
    kinds = {"left": "fluid", "center": "magnet", "right": "optics"}
    for name in case.expected["clips"]:
        take = re.fullmatch(r"real/(.*_perspective-(\w+)_take-(\d)_.*)", name)
        if take:
            source = f"{kinds[take[2]]}_{('baseline', 'geophys')[int(take[3]) - 1]}.mp4"
            (tmp_path / take[1]).symlink_to(COMPLETE.parents[1] / "videos" / source)
    result = evaluate(find_jobs(tmp_path, case.folder / "gen"), cache="")
    agree(result.samples, case)


@pytest.mark.parametrize("case", cases(further=["d16_short", "b24_lossy_clips"]))
def test_stored_masks_are_read_as_the_benchmark_reads_them(case: Case) -> None:
    masks = case.folder / "masks_lossy" / "real"
    jobs = find_jobs(case.folder / "real", case.folder / "gen", masks=masks)
    agree(evaluate(jobs, masks="mpeg4", cache="").samples, case, "stored")


@pytest.mark.parametrize("case", cases(further=["d16_short"]))
def test_masks_through_the_benchmarks_codec(case: Case) -> None:
    jobs = find_jobs(case.folder / "real", case.folder / "gen")
    agree(evaluate(jobs, masks="mpeg4", cache="").samples, case, "stored")


@pytest.mark.skipif(not COMPLETE.is_dir(), reason="the complete golden set is not at hand")
def test_masks_through_mpeg4_are_those_read_by_the_benchmark() -> None:
    folder = COMPLETE / "a30_lossless"
    with np.load(folder / "masks_raw.npz") as raw, np.load(folder / "masks_read.npz") as read:
        for name in list(raw)[1:4]:
            ours = np.stack(list(sampled(through_mpeg4(raw[name] > 0, 30), (22, 40))))
            assert np.mean(ours != (read[name] > 0)) <= 0.001, name


@pytest.mark.skipif(not COMPLETE.is_dir(), reason="the complete golden set is not at hand")
def test_change_of_rate_is_the_benchmarks() -> None:
    folder = COMPLETE / "fps_change"
    expected = json.loads((folder / "expected.json").read_text())
    source = COMPLETE / "a30_lossless" / "real" / expected["source"]
    for facts in expected["targets"].values():
        digest = hashlib.sha256()
        for frame in change_rate(first_frames(source, 150), 150, facts["frames"]):
            digest.update(np.ascontiguousarray(frame[..., ::-1]))
        assert digest.hexdigest() == facts["sha256_bgr"]


def test_mpeg4_leaves_a_mask_as_it_was_at_full_size() -> None:
    """But not in its grey levels, of which scaling makes something at the edges; odd sizes are cut."""
    masks = np.stack([frame[..., 0] > 127 for frame in disc(30, 0, (47, 55))])
    greys = np.stack(list(through_mpeg4(masks, 24)))
    assert greys.shape == (30, 46, 54)
    np.testing.assert_array_equal(greys > 127, masks[:, :46, :54])
    off, on = greys[greys <= 127], greys[greys > 127]
    assert 0 < off.max() <= 23 and 230 <= on.min() < 255


def test_mpeg4_has_the_rate_of_the_benchmarks_writer() -> None:
    """Specks at random places: more than there is room for. OpenCV's error is this, at any FFmpeg's."""
    specks = np.random.default_rng(0).random((60, 16, 16)) < 0.1
    masks = specks.repeat(3, axis=1).repeat(3, axis=2)
    greys = np.stack(list(through_mpeg4(masks, 24)))
    error = np.abs(greys - np.where(masks, 255.0, 0.0)).mean()
    assert error == pytest.approx(5.735, rel=0.01)


def test_change_of_rate_keeps_the_ends_and_cuts() -> None:
    frames = [np.full((1, 1, 3), value, np.uint8) for value in (0, 3, 10)]
    changed = [int(frame[0, 0, 0]) for frame in change_rate(iter(frames), 3, 5)]
    assert changed == [0, 1, 3, 6, 10]
    assert len(list(change_rate(iter(frames), 3, 1))) == 1


# --- the command line


def test_table_json_and_csv(bench: Bench) -> None:
    before = {path: path.read_bytes() for path in bench.root.rglob("*.mp4")}
    code, out, err = bench("--output", bench.root / "a.json", "--measures", bench.root / "a.csv")
    assert code == 0 and "note: 4 of the 198 jobs" in err
    lines = [line.split("  ")[0] for line in out.splitlines()]
    assert {"all", "Solid Mechanics", "Fluid Dynamics", "spatiotemporal", "mse"} <= set(lines)
    record = json.loads((bench.root / "a.json").read_text())
    rows = read_csv(bench.root / "a.csv")
    assert [row.view for row in rows] == ["perspective-left", "perspective-right"] * 2
    assert record["scores"]["all"]["original"]["score"] == original_score(rows).score
    assert record["scores"]["all"]["verified"]["score"] == verified_score(rows).score
    assert record["scores"]["Fluid Dynamics"]["num_samples"] == 2
    assert record["published"]["final_score_view"] == verified_score(rows).score
    assert [sample["id"] for sample in record["samples"]] == ["0001", "0002", "0003", "0004"]
    assert len(record["samples"][0]["metrics"]["v1_mse"]) == 8
    assert before == {path: path.read_bytes() for path in bench.root.rglob("*.mp4")}

    code, out, _ = bench("--format", "csv")
    (header, whole, *_), parts = (list(csv.reader(part.splitlines())) for part in out.split("\n\n"))
    assert header[:3] == ["category", "samples", "Original"] and whole[:2] == ["all", "4"]
    assert float(whole[2]) == pytest.approx(original_score(rows).score, abs=0.005)
    assert [row[0] for row in parts] == [
        "part",
        "spatiotemporal",
        "spatial",
        "weighted_spatial",
        "mse",
    ]


def test_dashes_and_any_subset(bench: Bench) -> None:
    for clip in bench.clips()[1:]:
        clip.unlink()
    clip = bench.clips()[0].rename(bench.generated / "0001_my own name.mp4")
    (bench.generated / "notes.txt").write_text("not a video")
    code, out, err = bench("--output", bench.root / "a.json", "--real-masks", "computed")
    assert code == 0 and "1 of the 198" in err and "Solid Mechanics" in out
    assert clip.exists()


def test_one_bad_clip_does_not_stop_the_others(bench: Bench) -> None:
    bench.clips()[0].write_bytes(b"no video")
    write_video(bench.clips()[1], disc(7, 0), 8)
    code, out, err = bench("--output", bench.root / "a.json")
    assert code == 1 and out
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and "0001_" in failed[0]
    assert "0002: has 7 frames at 8 fps (0.88 s), where" in failed[1]
    record = json.loads((bench.root / "a.json").read_text())
    assert [failure["id"] for failure in record["failures"]] == ["0001", "0002"]
    assert len(record["samples"]) == 2


def test_a_bad_take_fails_its_jobs_only(bench: Bench) -> None:
    take = next(bench.real.rglob("0006_*"))
    data = take.read_bytes()
    take.write_bytes(data[: len(data) // 2])
    code, _, err = bench()
    assert code == 1
    assert [line for line in err.splitlines() if "0006_" in line and "failed" in line]


def test_all_clips_bad(bench: Bench) -> None:
    for clip in bench.clips():
        clip.write_bytes(b"no video")
    code, out, _ = bench("--output", bench.root / "a.json")
    assert code == 1 and not out
    assert json.loads((bench.root / "a.json").read_text())["scores"] == {}


def test_new_clips_under_old_names_get_new_scores(bench: Bench) -> None:
    """No trace of a generated clip stays; of a real one, only while the file is the same."""
    _, first, _ = bench()
    for clip in bench.clips():
        write_video(clip, disc(8, 9, (54, 96)), 8)
    _, second, _ = bench()
    assert first != second
    kept = {path.name for path in (bench.root / "cache").iterdir()}
    kinds = Counter(Path(name).suffix for name in kept)
    assert kinds == {".zip": 8, ".json": 8}  # looks and headers of the takes
    take = next(bench.real.rglob("0001_*"))
    write_video(take, disc(8, 2), 8)
    _, third, _ = bench()
    assert third != second
    new = {path.name for path in (bench.root / "cache").iterdir()} - kept
    assert Counter(Path(name).suffix for name in new) == {".zip": 1, ".json": 1}


def test_longer_clips_are_cut_and_other_rates_converted(bench: Bench) -> None:
    write_video(bench.clips()[0], disc(11, 4, (54, 96)), 8)
    write_video(bench.clips()[1], disc(6, 4), 6)
    code, _, _ = bench("--measures", bench.root / "a.csv")
    assert code == 0
    lengths = [len(row.metrics.v1_mse) for row in read_csv(bench.root / "a.csv")]
    assert lengths == [8, 6, 8, 8]


def test_ntsc_rates_count_as_whole_ones(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", disc(8, 0), 24000 / 1001)
    assert read_header(tmp_path / "a.mp4").rate == 24
    write_video(tmp_path / "b.mp4", disc(8, 0), 12.5)
    assert read_header(tmp_path / "b.mp4").rate == 12.5


def test_mpeg4_masks_and_stored_ones(bench: Bench) -> None:
    assert bench("--masks", "mpeg4")[0] == 0
    folder = bench.real / "video-masks" / "real" / "8FPS"
    for take in list((bench.real / "split-videos").rglob("*.mp4")):
        name = take.name.replace("testing-videos", "video-masks")
        still = (np.zeros((48, 64, 3), np.uint8) for _ in range(8))
        write_video(folder / name, still, 8)
        # A mask of a generated clip has the same name as one of a real clip.
        (bench.real / "video-masks" / "generated" / "x").mkdir(parents=True, exist_ok=True)
        (bench.real / "video-masks" / "generated" / "x" / name).write_bytes(b"")
    code, _, _ = bench("--real_masks", "released", "--measures", bench.root / "a.csv")
    assert code == 0
    row = read_csv(bench.root / "a.csv")[0].metrics
    assert row.variance_spatial == 1 and row.spatial_iou_v1 == 0  # nothing moves in those masks
    assert bench("--real_masks", bench.real / "video-masks")[0] == 0
    write_video(bench.clips()[1], disc(6, 4), 6)
    code, _, err = bench("--real_masks", folder)
    assert code == 1 and "0002: is at 6 fps and the stored masks at 8" in err
    next(folder.glob("0001_*")).unlink()
    code, _, err = bench("--real_masks", folder)
    assert code == 2 and "0001_" in err and "no mask" in err


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_own_videos(bench: Bench, suffix: str) -> None:
    first, second = (next(bench.real.rglob(f"000{number}_*")) for number in (1, 5))
    entry = {
        "take_1": os.path.relpath(first, bench.root),
        "take_2": str(second),
        "generated": str(bench.clips()[0]),
        "category": "mine",
    }
    listed = bench.root / f"list{suffix}"
    if suffix == ".json":
        listed.write_text(json.dumps([entry]))
    else:
        listed.write_text(f"{','.join(entry)}\n{','.join(entry.values())}\n")
    code, out, _ = bench("--list", listed, real=False)
    assert code == 0 and "mine" in out
    with pytest.raises(UsageError, match="listed twice"):
        listed.with_suffix(".json").write_text(json.dumps([entry, entry]))
        read_list(listed.with_suffix(".json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must be a list"),
        ("[", "list.json: not JSON"),
        ('[{"take_1": "a.mp4"}]', "no such file"),
        ('[{"take_3": "a.mp4"}]', "unknown field 'take_3'"),
        ("[{}]", "'take_1' is missing"),
    ],
)
def test_lists_that_are_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_list(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--real is missing"),
        ("--real {real}", "--generated is missing"),
        ("--real nowhere --generated {generated}", "nowhere: no such folder"),
        ("--real {generated} --generated {generated}", "no real clips below it"),
        ("--real {real} --generated {real}", "no videos in it"),
        (
            "--real {real} --generated {generated} --workers 0",
            "--workers must be a whole number from 1",
        ),
        ("--real {real} --generated {generated} --masks best", "--masks must be lossless or mpeg4"),
        ("--real {real} --generated {generated} --seconds 0", "--seconds must be a number above 0"),
        ("--real {real} --generated {generated} --frames 3", "--frames"),
        ("--list a.json --real {real}", "--real has no place beside --list"),
        ("--list a.json --real_masks released", "--real_masks has no place"),
        ("--list absent.json", "absent.json: no such file"),
        ("--real {real} --generated {generated} --descriptions {real}", "real: is a folder"),
        ("--real {real} --generated {generated} --real_masks x", "x: no such folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments: str, message: str, bench: Bench) -> None:
    words = arguments.format(real=bench.real, generated=bench.generated).split()
    code = main(words)
    err = bench.capsys.readouterr().err
    assert code == 2 and message in err and len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ball.mp4", "has to start with the id"),
        ("0001_again.mp4", "id 0001 is taken by"),
        ("0077_perspective-left_trimmed-siphon.mp4", "no real first take with id 0077"),
    ],
)
def test_names_that_do_not_fit(name: str, message: str, bench: Bench) -> None:
    shutil.copy(bench.clips()[0], bench.generated / name)
    code, _, err = bench()
    assert code == 2 and message in err and name[:4] in err


def test_an_id_with_the_name_of_another(bench: Bench) -> None:
    bench.clips()[0].rename(bench.generated / "0001_perspective-left_trimmed-siphon.mp4")
    code, _, err = bench()
    assert code == 2 and "id 0001 belongs to perspective-left_trimmed-ball-hits-duck.mp4" in err


def test_a_take_that_is_missing_or_twice(bench: Bench) -> None:
    take = next(bench.real.rglob("0005_*"))
    shutil.copy(take, bench.real)
    code, _, err = bench()
    assert code == 2 and "the same clip is also at" in err
    (bench.real / take.name).unlink()
    take.unlink()
    code, _, err = bench()
    assert code == 2 and "no take 2 of perspective-left_trimmed-ball-hits-duck.mp4" in err


def test_a_scenario_may_be_called_take_1(bench: Bench) -> None:
    """The benchmark looks for the take anywhere in the name."""
    for path in bench.root.rglob("*trimmed-siphon*"):
        path.rename(path.with_name(path.name.replace("siphon", "take-1-of-it")))
    assert bench()[0] == 0


def test_descriptions(tmp_path: Path) -> None:
    table = tmp_path / "descriptions.csv"
    table.write_text(
        "scenario,description,category,generated_video_name\n"
        '0199_perspective-left_take-2_trimmed-a.mp4,"It falls, slowly.",Optics,0199_a.mp4\n'
    )
    (row,) = read_descriptions(table)
    assert (row.id, row.take, row.scenario, row.category) == ("0199", 2, "trimmed-a.mp4", "Optics")
    assert row.text == "It falls, slowly."


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in build_parser().defaults:
        assert f"--{name}" in text


def test_default_workers() -> None:
    counts = {
        (jobs, cores): default_workers(jobs, cores) for jobs in (1, 3, 198) for cores in (2, 32)
    }
    assert counts == {(1, 2): 2, (1, 32): 16, (3, 2): 3, (3, 32): 16, (198, 2): 2, (198, 32): 16}


def test_several_processes_without_torch(tmp_path: Path) -> None:
    """The same numbers from two workers; nothing loads PyTorch."""
    command = [sys.executable, "-X", "importtime", "-m", "wmreward.physics_iq"]
    command += ["--real", str(D16 / "real"), "--generated", str(D16 / "gen"), "--workers", "2"]
    command += ["--cache", "none", "--measures", str(tmp_path / "a.csv")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| torch" not in done.stderr.replace("|  ", "| ") and "all" in done.stdout
    alone = evaluate(find_jobs(D16 / "real", D16 / "gen"), cache="")
    assert [row.metrics for row in read_csv(tmp_path / "a.csv")] == [
        row.metrics for row in alone.samples
    ]


# --- parts


def test_cache_gives_back_what_it_got(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = [
        Look(rng.integers(0, 256, (5, 7, 3), np.uint8), rng.integers(0, 2, (5, 7)).astype(bool))
        for _ in range(3)
    ]
    cache.write_looks(tmp_path / "a.zip", seen)
    for ours, given in zip(cache.read_looks(tmp_path / "a.zip"), seen, strict=True):
        np.testing.assert_array_equal(ours.picture, given.picture)
        np.testing.assert_array_equal(ours.moving, given.moving)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data[:-30])
    with pytest.raises(WMRewardError, match="damaged; delete it"):
        list(cache.read_looks(tmp_path / "a.zip"))


def test_headers_of_real_clips_are_read_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clip = tmp_path / "kept", next(bench.real.rglob("0001_*"))
    read: list[Path] = []
    monkeypatch.setattr(cache, "read_take", lambda path: read.append(path) or read_take(path))
    facts = cache.known_take(folder, clip)
    assert facts == read_take(clip) == Take(8.0, 8, 48, 64)
    assert cache.known_take(folder, clip) == facts and len(read) == 1
    (file,) = folder.iterdir()
    file.write_text(file.read_text()[:-5])
    assert cache.known_take(folder, clip) == facts and len(read) == 2
    write_video(clip, disc(6, 0, (32, 64)), 8)
    assert cache.known_take(folder, clip) == Take(8.0, 6, 32, 64) and len(read) == 3
    with pytest.raises(VideoError, match="no such file"):
        cache.known_take(folder, tmp_path / "gone.mp4")
    (tmp_path / "file").write_text("")
    assert cache.known_take(tmp_path / "file", clip).num_frames == 6  # nowhere to keep it


def test_a_known_data_set_is_not_opened_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, _ = bench()
    monkeypatch.setattr(cache, "read_take", lambda path: pytest.fail(f"{path} is opened"))
    monkeypatch.setattr(dataset, "read_header", lambda path: pytest.fail(f"{path} is opened"))
    code, out, err = bench()
    assert (code, out) == (0, first)
    jobs, shapes = err.splitlines()
    assert jobs == "note: 4 of the 198 jobs; a published score needs them all"
    assert "96 x 54 has other proportions than the recordings (64 x 48)" in shapes
    assert shapes.endswith("(3 more like this)")


def test_a_clip_that_fails_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def breaks() -> Iterator[Look]:
        yield Look(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), bool))
        raise VideoError("clip.mp4", "is damaged")

    with pytest.raises(VideoError):
        cache.write_looks(tmp_path / "a.zip", breaks())
    assert not list(tmp_path.iterdir())


def test_settings_and_files_tell_cached_clips_apart(bench: Bench) -> None:
    job = find_jobs(bench.real, bench.generated)[0]
    names = {
        plan_job(job, **how).takes[0].cache_name()  # type: ignore[arg-type]
        for how in ({}, {"seconds": 0.5}, {"masks": "mpeg4"})
    }
    os.utime(job.take_1, ns=(1, 1))
    assert len(names | {plan_job(job).takes[0].cache_name()}) == 4


def test_decoded_frames_do_not_pile_up() -> None:
    """A frame of PyAV in a cycle of references would stay until the garbage collector runs."""
    clip = next((D16 / "gen").iterdir())
    gc.collect()
    gc.disable()
    try:
        for _ in first_frames(clip, 32):
            pass
        alive = sum(type(thing) is VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive <= 4


def test_bench_measures_cold_and_known(capsys: pytest.CaptureFixture[str]) -> None:
    if sys.platform != "linux":
        pytest.skip("memory is measured the Linux way")
    assert bench_physics_iq.main(["--height", "90", "--frames", "6", "--workers", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    result = json.loads(out[-1])
    assert {"cold", "known"} <= result.keys()
    assert result["cold"]["verified"] == result["known"]["verified"]
    assert 20 < result["known"]["largest_process_mib"] < 512
