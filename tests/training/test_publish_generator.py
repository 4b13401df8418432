"""How a trained generator gets into the package, and that a wheel takes it along."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from setuptools import Distribution

from magi1.config import MagiConfig
from magi1.files import located
from magi1.files.checkpoint import load_dit, load_vae
from magi1.files.folders import missing_files
from magi1.vae import VAE
from training import publish_generator
from training.autoencoder import SMOKE as SMOKE_AUTOENCODER
from training.autoencoder import WEIGHTS
from training.generator import SMOKE, GeneratorTrainer
from training.loop import Process
from training.publish_generator import CONFIG, files_of, main
from wmweights import WeightsError, quantise

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("vae")
    shape = SMOKE_AUTOENCODER.shape
    torch.manual_seed(0)
    save_file(quantise(VAE(shape).state_dict()), folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps({"ddconfig": asdict(shape)}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, vae: Path) -> Path:
    """Folder of a run that has only begun."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.generator.latent_scale", lambda *_: 0.5)
        config = replace(SMOKE, vae=str(vae))
        GeneratorTrainer(config, folder, Process.current(), compiled=False).export()
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's folders, empty, in which it looks for what it has."""
    monkeypatch.setattr(located, "__file__", str(tmp_path / "magi1" / "files" / "located.py"))
    return tmp_path


def test_published_generator_is_found_and_loads(
    run: Path, vae: Path, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # what is there is replaced
        assert main(["--run", str(run), "--vae", str(vae), "--into", str(package)]) == 0
    config = MagiConfig.load(package / "example" / "tiny" / CONFIG)
    assert missing_files(config) == []
    (_, transformer), (_, autoencoder) = load_dit(config), load_vae(config)
    out = capsys.readouterr().out
    assert transformer.fingerprint in out and autoencoder.fingerprint in out
    written = files_of(package)
    assert all(str(file) in out for file in written)
    assert (
        len(written) == 7
    )  # weights and an index of the transformer, two parts with a config, ours
    assert all(file.stat().st_mode & 0o044 for file in written)


def test_only_folders_of_the_configuration_change(run: Path, vae: Path, package: Path) -> None:
    publish_generator.publish(run, vae, package)
    before = json.loads((run / CONFIG).read_text())
    after = json.loads((package / "example" / "tiny" / CONFIG).read_text())
    for name in ("load", "t5_pretrained", "vae_pretrained"):
        assert after["runtime_config"].pop(name).startswith("magi1:weights/tiny/")
        before["runtime_config"].pop(name)
    assert before == after


@pytest.mark.parametrize("limit", ["LARGEST_FILE", "LARGEST_SUM"])
def test_a_failure_leaves_what_was_there(
    run: Path, vae: Path, package: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_generator.publish(run, vae, package)
    before = {file: file.read_bytes() for file in files_of(package)}
    monkeypatch.setattr(publish_generator, limit, 10_000)
    with pytest.raises(WeightsError, match="more than 10000"):
        publish_generator.publish(run, vae, package)
    assert {file: file.read_bytes() for file in files_of(package)} == before


def test_weights_of_another_shape_are_refused(
    run: Path, vae: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((vae / "config.json").read_text())
    save_file({"x": torch.zeros(1)}, broken / WEIGHTS)
    with pytest.raises(SystemExit, match="1"):
        main(["--run", str(run), "--vae", str(broken), "--into", str(package)])
    assert "does not fit" in capsys.readouterr().err
    assert files_of(package / "magi1") == []


def test_a_wheel_holds_all_embedded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["pyproject.toml"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    build.manifest_files = {}  # what only a list of all sources would add
    for package, folder in (("vjepa2", ROOT / "vjepa2"), ("magi1", ROOT / "MAGI-1" / "magi1")):
        packed = {Path(file) for file in build.find_data_files(package, str(folder))}
        assert packed >= set(files_of(folder / "weights")), package
