"""Text features are computed once, the same alone and together, and kept for other runs and processes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from magi1_fakes import nano_config, write_nano
from safetensors.torch import load_file, save_file

import magi1.text.features
from magi1.errors import MagiError
from magi1.text.encoder import load_text_encoder
from magi1.text.features import PromptFeatures
from wmfiles import alone

A, B = "a red ball falls", "two boxes"


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    write_nano(tmp_path / "nano")
    return tmp_path / "nano"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each loading of the encoder, whose features count as expensive."""
    monkeypatch.setattr(magi1.text.features, "LEAST_BYTES", 1)
    found: list[Path] = []

    def counted(folder: Path, **options: Any) -> Any:
        found.append(folder)
        return load_text_encoder(folder, **options)

    monkeypatch.setattr(magi1.text.features, "load_text_encoder", counted)
    return found


@pytest.fixture
def opened(nano: Path, tmp_path: Path) -> Callable[..., PromptFeatures]:
    """Another run in the same folder."""

    def open_again(**model: Any) -> PromptFeatures:
        config = nano_config(nano)
        config = replace(config, model_config=replace(config.model_config, **model))
        return PromptFeatures(config, folder=tmp_path / "out" / ".text_features")

    return open_again


def equal(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_they_are_the_encoders(nano: Path, loads: list[Path], opened: Any) -> None:
    features, mask = opened().features([A, B, ""])
    direct = load_text_encoder(nano / "t5", max_length=32).encode([A, B, ""])
    seen = mask.bool()
    assert torch.equal(mask, direct.mask) and features.shape == (3, 32, 16)
    torch.testing.assert_close(features[seen], direct.features[seen], rtol=0, atol=1e-6)
    assert not features[~seen].any() and not features.requires_grad


def test_known_ones_are_the_same_to_the_bit(loads: list[Path], opened: Any) -> None:
    fresh = opened().features([A, B])
    assert len(loads) == 1
    assert equal(opened().features([A, B]), fresh)
    assert equal(opened().features([B, A, B]), [part[[1, 0, 1]] for part in fresh])
    assert len(loads) == 1


def test_who_is_read_together_does_not_matter(
    loads: list[Path], opened: Any, tmp_path: Path, nano: Path
) -> None:
    together = opened().features([A, B, "a third prompt, longer than both"])
    elsewhere = PromptFeatures(nano_config(nano), folder=tmp_path / "other")
    for row, prompt in enumerate([A, B]):
        assert equal(elsewhere.features([prompt]), [part[row, None] for part in together])
    assert len(loads) == 3


def test_nothing_is_taken_for_another(loads: list[Path], opened: Any, nano: Path) -> None:
    first = opened().features([A])[0]
    assert not torch.equal(opened().features([A + "s"])[0], first)
    assert len(loads) == 2
    assert torch.equal(opened().features([f" {A.upper()} "])[0], first)  # what is read is the same
    assert len(loads) == 2
    assert opened(caption_max_length=20).features([A])[0].shape == (1, 20, 16)
    assert len(loads) == 3
    file = nano / "t5" / "model.safetensors"
    save_file({name: 2 * value for name, value in load_file(file).items()}, file)
    assert not torch.equal(opened().features([A])[0], first)
    assert len(loads) == 4
    changed = json.loads((nano / "t5" / "config.json").read_text()) | {"layer_norm_epsilon": 0.1}
    (nano / "t5" / "config.json").write_text(json.dumps(changed))
    opened().features([A])
    assert len(loads) == 5


@pytest.mark.parametrize("damage", ["cut", "short", "empty", "changed", "foreign"])
def test_damaged_files_are_made_again(
    loads: list[Path], opened: Any, tmp_path: Path, damage: str
) -> None:
    fresh = opened().features([A])
    (file,) = (tmp_path / "out" / ".text_features").glob("*.safetensors")
    whole = file.read_bytes()
    if damage == "foreign":
        save_file({"latents": torch.zeros(2)}, file)
    else:
        changed = whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:]
        parts = {"cut": whole[:-1], "short": whole[:9], "empty": b"", "changed": changed}
        file.write_bytes(parts[damage])
    for _ in range(2):
        assert equal(opened().features([A]), fresh)
        assert len(loads) == 2


def test_without_a_folder_or_where_none_can_be_made(
    loads: list[Path], nano: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file" / "folder"):
        loads.clear()
        text = PromptFeatures(nano_config(nano), folder=folder)
        assert equal(text.features([A]), text.features([A]))
        assert len(loads) == 1


def test_a_small_encoder_leaves_no_files(nano: Path, tmp_path: Path) -> None:
    text = PromptFeatures(nano_config(nano), folder=tmp_path / "out")
    text.features([A])
    assert not (tmp_path / "out").exists()


def test_the_encoder_is_not_looked_at_where_all_is_known(
    loads: list[Path], opened: Any, nano: Path
) -> None:
    opened().read([A])
    file = nano / "t5" / "model.safetensors"
    whole, found = file.read_bytes(), file.stat()
    file.write_bytes(whole[:8] + b"[" + whole[9:])
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(MagiError, match="cannot be read"):
        opened().check([A])  # another file by its first bytes
    file.write_bytes(whole)
    assert opened().check([A]).max_length == 32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magi1.text.features, "check_text_encoder", pytest.fail)
        opened().check([A])
    assert len(loads) == 1


def test_one_of_several_processes_reads(
    loads: list[Path], opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "out" / ".text_features" / ".lock"
    done = Event()
    with alone(lock) as mine:
        assert mine
        opened().read([A], wait=False)  # somebody is at it
        assert not loads

        def wait() -> None:
            opened().read([A, B])
            done.set()

        waiting = Thread(target=wait)
        waiting.start()
        assert not done.wait(0.2)
        monkeypatch.setattr(magi1.text.features, "alone", lambda *_, **__: alone(tmp_path / "x"))
        opened().read([A, B])  # as if by the process that holds the lock
    assert done.wait(10)
    waiting.join()
    assert len(loads) == 1


def test_a_prompt_that_loses_its_text_is_reported(
    opened: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether its features are new or known."""
    text = opened()
    latin = replace(text.reader, clean=lambda prompt: prompt.encode("ascii", "ignore").decode())
    monkeypatch.setattr(text, "reader", latin)
    with caplog.at_level(logging.WARNING):
        text.features(["", "a ball"])
        assert not caplog.records
        for _ in range(2):
            caplog.clear()
            assert text.features(["一只狗在跑"]).mask.sum() == 1
            assert "一只狗在跑" in caplog.text and "English" in caplog.text
