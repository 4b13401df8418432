"""Flags without effect are named, and only those; nothing is generated here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import generate_fixtures
import guided_fixtures
import pytest
from generate_fixtures import T2V, CommandLine
from guided_fixtures import SHORT

from magi1.config import MagiConfig
from magi1.errors import MagiUsageError
from wmreward.commands.flags import Values
from wmreward.generation import run as generation
from wmreward.generation.batch import cli as batch
from wmreward.generation.batch.flags import parse
from wmreward.generation.cli import main
from wmreward.generation.output import settings_of

nano = guided_fixtures.nano
small_world = guided_fixtures.small_world
command = generate_fixtures.command

SEVERAL = ("--best_of", "2")
PARTICLES = (*SEVERAL, "--search", "particles")
GUIDED = ("--guidance_scale", "0.1")


@pytest.fixture(autouse=True)
def _nothing_is_made(small_world: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "run", lambda job: 0)


def judged(nano: Path, *flags: str) -> tuple[str, ...]:
    """With a world model, where something needs one."""
    world = ("--model", "tiny", "--weights", str(nano / "world.safetensors"))
    return (*T2V, *SHORT, *flags, *(world if needs_world(flags) else ()))


def needs_world(flags: tuple[str, ...]) -> bool:
    return "--reward" in flags or flags[:2] in (SEVERAL, GUIDED)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--keep", "all"), "--keep is without effect"),
        (("--candidate_batch", "2"), "--candidate_batch is without effect: there is a single"),
        ((*PARTICLES, "--candidate_batch", "2"), "effect: particles are made all at once"),
        (("--particle_beta", "3"), "--particle_beta is without effect"),
        (
            (*SEVERAL, "--particle_beta", "3", "--particle_every", "1"),
            "--particle_beta and --particle_every are without effect",
        ),
        (("--guidance_rule", "tilt"), "--guidance_rule is without effect: nothing is guided"),
        (("--guidance_steps", "1x4"), "--guidance_steps is without effect"),
        (("--guidance_scale", "0", "--context_grad"), "--context_grad is without effect"),
        ((*PARTICLES, "--guidance_null"), "--guidance_null is without effect"),
        ((*GUIDED, "--guidance_scales", "0.1x4"), "--guidance_scale is without effect"),
        (("--stride", "4"), "--stride is without effect: no reward"),
        (("--combine", "rank"), "--combine is without effect: no reward"),
        ((*SEVERAL, "--combine", "rank"), "--combine is without effect: there is a single"),
        (("--encoder", "tiny"), "--encoder is without effect: no reward"),
        (("--special_tokens", "x.npz"), "--special_tokens is without effect: the environment"),
        (("--model", "tiny", "--vlm", "y", "--stride", "4"), "--model, --stride and --vlm are"),
    ],
)
def test_a_flag_without_effect_is_named(
    command: CommandLine, nano: Path, flags: tuple[str, ...], says: str
) -> None:
    code, _, err = command(*judged(nano, *flags))
    assert code == 0
    (line,) = [line for line in err.splitlines() if "without effect" in line]
    assert line.startswith("note: ") and says in line


@pytest.mark.parametrize(
    "flags",
    [
        ("--guidance_scale", "0"),
        ("--guidance_scales", "0x4"),
        (*GUIDED, "--guidance_rule", "tilt", "--stride", "4"),
        (*SEVERAL, "--keep", "all", "--candidate_batch", "2", "--stride", "4"),
        (*PARTICLES, "--keep", "all", "--particle_beta", "3"),
        ("--reward", "surprise", "--keep", "all"),
        ("--reward", "surprise", "consensus", "--combine", "rank", *SEVERAL),
        (*GUIDED, "--compare", "--keep", "all"),
        ("--seeds", "3", "--best_of", "1"),
    ],
)
def test_a_flag_with_effect_is_not(
    command: CommandLine, nano: Path, flags: tuple[str, ...]
) -> None:
    code, _, err = command(*judged(nano, *flags))
    assert code == 0 and "without effect" not in err


def test_a_distilled_model_is_told_that_it_is_not_guided_by_text(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = json.loads((nano / "nano.json").read_text())
    given["runtime_config"]["cfg_number"] = 1
    given["engine_config"]["distill"] = True
    distilled = tmp_path / "distilled.json"
    distilled.write_text(json.dumps(given))
    flags = (
        "--text_scales",
        "3",
        "--negative_prompt",
        "a wall",
        "--output",
        str(tmp_path / "o.mp4"),
    )
    told = {}
    for config in (distilled, nano / "nano.json"):
        assert main(["--config_file", str(config), *T2V, *SHORT, *flags]) == 0
        told[config] = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
    assert told == {distilled: [told[distilled][0]], nano / "nano.json": []}
    assert "--negative_prompt and --text_scales are without effect: a dist" in told[distilled][0]


def test_another_share_of_context_is_a_setting(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAGI-1's variable, for distilled models alone."""
    base = MagiConfig.load(nano / "nano.json")
    engine = replace(base.engine_config, distill=True)
    runtime = replace(base.runtime_config, cfg_number=1)
    distilled = replace(base, runtime_config=runtime, engine_config=engine)
    plain = settings_of(distilled)
    monkeypatch.setenv("prev_chunks_scale", "0.7")
    assert settings_of(distilled) == plain
    monkeypatch.setenv("prev_chunks_scale", "0.5")
    assert settings_of(distilled) == plain | {"context_share": 0.5}
    monkeypatch.setenv("prev_chunks_scale", "half")
    assert "context_share" not in settings_of(base)
    with pytest.raises(MagiUsageError, match="prev_chunks_scale=half in the environment must be"):
        settings_of(distilled)


def test_a_list_of_jobs_is_told_too(
    nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"id": "a", "mode": "t2v", "prompt": "x", "output_name": "a.mp4", "seeds": [0]}
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(json.dumps(job) + "\n")
    flags = ("--jobs", str(jobs), "--config_file", str(nano / "nano.json"), "--dry_run")
    steering = ("--guidance_rule", "tilt", "--stride", "4")
    world = ("--model", "tiny", "--weights", str(nano / "world.safetensors"))
    assert batch.main([*flags, *steering, "--no_scores"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" is without")[0] for line in told] == [
        "note: --guidance_rule",
        "note: --stride",
    ]
    assert batch.main([*flags, *steering, *GUIDED, *world]) == 0
    assert "without effect" not in capsys.readouterr().err


def test_a_batch_has_no_particles_and_starts_no_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert batch.main(["--jobs", "x", "--particle_beta", "3"]) == 2
    assert "--particle_beta has no meaning here" in capsys.readouterr().err
    assert batch.main(["--jobs", "x", "--processes", "4"]) == 2
    assert "--processes is for --dry_run" in capsys.readouterr().err
    values = parse(["--jobs", "x"])
    assert isinstance(values, Values) and values["particle_every"] == 4
