"""Official V-JEPA 2.1 files: the right part of the right file, converted once, and refusals in one line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import NANO, random_model
from goldens import close
from safetensors.torch import load_file, save_file
from vjepa21_goldens import COMMITTED21, FEATURES, FILE_B, FILE_G, SCORES

from vjepa2 import (
    MODELS,
    VJEPA21,
    Branches,
    Reading,
    WeightsError,
    build_model,
    load_model,
)
from vjepa2.files import sources
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.scorer import SurpriseScorer

FILES = COMMITTED21 / "checkpoints"
B, G = sources.OFFICIAL_FILES["vitb21"], sources.OFFICIAL_FILES["vitG21"]
SMALL_G = sources.OFFICIAL_FILES["vitg21"]
STUDENT = Reading(observed="student")


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A checkpoint folder with both official files, whose small shapes are those of the models."""
    monkeypatch.setitem(MODELS, "vitb21", FILE_B)
    monkeypatch.setitem(MODELS, "vitG21", FILE_G)
    monkeypatch.setitem(MODELS, "vitg21", replace(FILE_G, name="vitg21", width=16, mlp_width=48))
    monkeypatch.delenv(sources.CHECKPOINT_DIR_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (B, G):
        shutil.copyfile(FILES / name, folder / name)
    yield folder


def expected() -> dict[str, torch.Tensor]:
    return load_file(FILES / "expected.safetensors")


def load(model: str, **how: Any) -> VJEPA21:
    built, _ = load_model(model, **how)
    assert isinstance(built, VJEPA21) and not any(p.requires_grad for p in built.parameters())
    return built


def surprise(model: VJEPA21) -> torch.Tensor:
    config = SurpriseConfig(window_size=6, context_frames=2)
    return SurpriseScorer(model, config)(expected()["video"].float())


def one_line(caught: pytest.ExceptionInfo[Exception], *parts: str) -> None:
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    for part in parts:
        assert part in message, message


# --- what is loaded


def test_own_model() -> None:
    model, info = load_model("vitG21")
    assert isinstance(model, VJEPA21)
    want, pixels = expected(), model.preprocess(expected()["video"].float())
    close(model.encoder(pixels, all_levels=True), want["G.encoder_full"], FEATURES)
    context = model.encoder(pixels[:, :, :2], all_levels=True)
    ours = model.predictor(context, torch.arange(4), torch.arange(4, 12))
    close(ours.targets, want["G.predictor_out"], FEATURES)
    close(surprise(model), want["G.surprise"], SCORES)
    assert model.target_encoder is model.encoder
    assert (info.context_encoder, info.target_encoder, info.mask_token) == ("ema", "ema", 0)
    assert info.reading == Reading(observed="own") and info.teacher_sha256 is None
    assert len(info.mask_token_norms) == 8 and info.norms in str(info)


def test_distilled_model_finds_its_teacher(files: Path) -> None:
    model, info = load_model("vitb21")
    assert isinstance(model, VJEPA21)
    want, pixels = expected(), model.preprocess(expected()["video"].float())
    close(model.encoder(pixels), want["B.ema.encoder_full"], FEATURES)
    ours = model.predictor(model.encoder(pixels[:, :, :2]), torch.arange(4), torch.arange(4, 12))
    close(ours.targets, want["B.predictor_out"], FEATURES)
    close(surprise(model), want["B.surprise"], SCORES)
    assert info.teacher_files == (str(Path("checkpoints") / G),) and info.teacher_sha256
    assert info.teacher_sha256 != info.sha256
    for shown in ("observed         teacher", info.teacher_sha256, G, info.sha256):
        assert shown in str(info)


def test_student_needs_one_file_and_is_another_quantity(files: Path) -> None:
    (files / G).unlink()
    model, info = load_model("vitb21", reading=STUDENT)
    assert isinstance(model, VJEPA21)
    close(surprise(model), expected()["B.surprise.student"], SCORES)
    assert info.teacher_sha256 is None and not info.teacher_files
    assert (expected()["B.surprise"] - expected()["B.surprise.student"]).abs() > 1e-2


def test_online_encoder_where_the_file_holds_it() -> None:
    model = load("vitb21", branches=Branches("online", "online"), reading=STUDENT)
    pixels = model.preprocess(expected()["video"].float())
    close(model.encoder(pixels), expected()["B.online.encoder_full"], FEATURES)
    mixed = load("vitb21", branches=Branches("online", "ema"), reading=STUDENT)
    close(mixed.encoder(pixels), expected()["B.online.encoder_full"], FEATURES)
    close(mixed.target_encoder(pixels), expected()["B.ema.encoder_full"], FEATURES)
    with pytest.raises(WeightsError, match="has no 'encoder'") as caught:
        load("vitG21", branches=Branches("online", "ema"))
    one_line(caught, G, "target_encoder, predictor", "use its ema encoder")


def test_teacher_is_found_beside_the_student_or_given(files: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(files, elsewhere)
    close(surprise(load("vitb21", weights=elsewhere / B)), expected()["B.surprise"], SCORES)
    shutil.move(elsewhere / G, tmp_path / "any.pt")
    given = load("vitb21", weights=elsewhere / B, teacher_weights=tmp_path / "any.pt")
    close(surprise(given), expected()["B.surprise"], SCORES)


def test_missing_teacher_names_file_and_alternative(files: Path) -> None:
    (files / G).unlink()
    with pytest.raises(WeightsError) as caught:
        load("vitb21")
    one_line(caught, "teacher vitG21", f"dl.fbaipublicfiles.com/vjepa2/{G}", "observed=student")
    one_line(caught, "unverified")
    with pytest.raises(WeightsError, match=r"nothing\.pt does not exist"):
        load("vitb21", teacher_weights="nothing.pt")


def test_safetensors_with_our_names(files: Path, tmp_path: Path) -> None:
    whole = load("vitG21")
    state = {k: v for k, v in whole.state_dict().items() if not k.startswith("target_encoder.")}
    save_file(state, tmp_path / "ours.safetensors")
    again, info = load_model("vitG21", weights=tmp_path / "ours.safetensors")
    assert info.sha256 == load_model("vitG21")[1].sha256
    assert torch.equal(surprise(load("vitG21")), surprise(again))  # type: ignore[arg-type]
    # Such a file serves as a teacher, with a predictor or without one.
    encoder = {k: v for k, v in state.items() if k.startswith("encoder.")}
    save_file(encoder, tmp_path / "encoder.safetensors")
    hashes = set()
    for name in ("ours", "encoder"):
        taught, info = load_model("vitb21", teacher_weights=tmp_path / f"{name}.safetensors")
        assert isinstance(taught, VJEPA21)
        close(surprise(taught), expected()["B.surprise"], SCORES)
        hashes.add(info.teacher_sha256)
    assert hashes == {load_model("vitb21")[1].teacher_sha256}
    with pytest.raises(WeightsError, match=r"holds one encoder \(the ema one\): online"):
        load("vitG21", weights=tmp_path / "ours.safetensors", branches=Branches("online", "ema"))


# --- conversion


def test_converted_once_under_names_that_differ_in_more_than_case(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [surprise(load(name)) for name in ("vitb21", "vitG21")]
    made = sorted(path.name for path in files.glob("*.safetensors"))
    assert made == sorted(
        [
            "vjepa2_1_vitG_384.width8.predictor.safetensors",
            "vjepa2_1_vitG_384.width8.target_encoder.safetensors",
            "vjepa2_1_vitb_dist_vitG_384.width12.ema_encoder.safetensors",
            "vjepa2_1_vitb_dist_vitG_384.width12.predictor.safetensors",
        ]
    )
    paths = [
        sources.converted_path(files / name, part, MODELS[model]).name.lower()
        for name, model in ((G, "vitG21"), (SMALL_G, "vitg21"))
        for part in ("target_encoder", "predictor")
    ]
    assert len(set(paths)) == 4
    for path in files.glob("*.pt"):
        path.unlink()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a .pt file was opened"))
    for name, score in zip(("vitb21", "vitG21"), before, strict=True):
        assert torch.equal(surprise(load(name)), score)


def other_size(path: Path) -> None:
    """An official file of `vitg21`, at the small size it has here."""
    model = random_model21("vitg21")
    stored = {
        part: {f"module.backbone.{k}": v for k, v in getattr(model, ours).state_dict().items()}
        for part, ours in (("target_encoder", "encoder"), ("predictor", "predictor"))
    }
    torch.save({**stored, "epoch": 3}, path)


def random_model21(name: str) -> VJEPA21:
    torch.manual_seed(0)
    model = build_model(MODELS[name])
    assert isinstance(model, VJEPA21)
    return model


def test_tensors_decide_between_names_that_differ_in_case(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On some disks the second download replaces the first."""
    other_size(files / SMALL_G)
    small = surprise(load("vitg21"))
    assert not torch.equal(small, surprise(load("vitG21")))
    for asked, held, path in (("vitG21", "vitg21", SMALL_G), ("vitg21", "vitG21", G)):
        fresh = files / "sub" / path
        fresh.parent.mkdir(exist_ok=True)
        shutil.copyfile(files / path, fresh)
        with pytest.raises(WeightsError, match=f"holds the weights of {held}, not of {asked}") as e:
            load(asked, weights=fresh)
        one_line(e, path, "differ only in case")
    # Overwritten after it was converted: what was converted serves on, and that is said.
    shutil.copyfile(files / G, files / SMALL_G)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(surprise(load("vitg21")), small)
    assert "holds the weights of vitG21, not of vitg21" in caplog.text
    assert "made before" in caplog.text


# --- what does not fit


def test_truncated_files_are_damaged(files: Path) -> None:
    for name, model in ((B, "vitb21"), (G, "vitG21"), (G, "vitb21")):
        whole = (FILES / name).read_bytes()
        for path in files.iterdir():
            path.unlink()
        for other in (B, G):
            shutil.copyfile(FILES / other, files / other)
        for size in (0, 1000, len(whole) // 2, len(whole) - 100):
            (files / name).write_bytes(whole[:size])
            with pytest.raises(WeightsError, match="download it again") as caught:
                load(model)
            words = ("V-JEPA 2.1 checkpoint", "damaged") if size else ("is empty",)
            one_line(caught, name, *words)


def test_another_size_is_refused(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="holds the weights of vitb21, not of vitG21") as caught:
        load("vitG21", weights=files / B)
    one_line(caught, B)
    with pytest.raises(WeightsError, match="holds the weights of vitG21, not of vitb21"):
        load("vitb21", weights=files / G)
    with pytest.raises(WeightsError, match="holds the weights of vitb21, not of vitG21"):
        load("vitb21", teacher_weights=files / B)
    for change in ({"depth": 24, "levels": (5, 11, 17, 23)}, {"width": 10}, {"mlp_width": 44}):
        monkeypatch.setitem(MODELS, "vitG21", replace(FILE_G, **change))
        with pytest.raises(WeightsError, match="does not fit model 'vitG21'") as caught:
            load("vitG21")
        one_line(caught, G)


def test_generations_are_told_apart(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "nano", NANO)
    state = random_model(dtype=torch.float32).state_dict()
    older = {
        side: {
            f"module.backbone.{k.removeprefix(side + '.')}": v
            for k, v in state.items()
            if k.startswith(f"{side}.")
        }
        for side in ("encoder", "predictor", "target_encoder")
    }
    torch.save(older, files / "old.pt")
    save_file(
        {k: v for k, v in state.items() if not k.startswith("target_encoder.")},
        files / "old.safetensors",
    )
    for name in ("old.pt", "old.safetensors"):
        with pytest.raises(WeightsError, match=r"holds V-JEPA 2 weights \(nano\)") as caught:
            load("vitG21", weights=files / name)
        one_line(caught, name, "model 'vitG21' is V-JEPA 2.1", "vitl, vith, vitg, vitg384")
        with pytest.raises(WeightsError, match="holds V-JEPA 2 weights"):
            load("vitb21", teacher_weights=files / name)
    save_file(
        {k: v for k, v in load("vitG21").state_dict().items() if not k.startswith("target")},
        files / "new.safetensors",
    )
    for name in (B, G, "new.safetensors"):
        with pytest.raises(WeightsError, match=r"holds V-JEPA 2\.1 weights") as caught:
            load_model("nano", weights=files / name)
        one_line(caught, name, "'nano' is V-JEPA 2;", "vitb21, vitl21, vitg21, vitG21")


def test_settings_that_a_model_does_not_have(files: Path) -> None:
    for model, how, message in (
        ("vitG21", {"reading": STUDENT}, "predicts its own latents"),
        ("vitb21", {"reading": Reading(observed="own")}, "choose teacher or student"),
        ("vitb21", {"reading": Reading(levels="all")}, "predicts the last level only"),
        ("tiny", {"reading": Reading()}, r"choices of V-JEPA 2\.1"),
        ("tiny", {"crop": 128}, r"sees 64 pixels; only V-JEPA 2\.1"),
        ("vitG21", {"crop": 40}, "crop=40 is not divisible by patch=16"),
        ("vitG21", {"crop": 16}, "crop=16 must be at least 32"),
        ("vitG21", {"teacher_weights": B}, "not compared with a teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(model, **how)  # type: ignore[arg-type]
    for wrong in ({"positions": "all"}, {"levels": "first"}, {"observed": "both"}):
        with pytest.raises(ValueError, match="must be one of"):
            Reading(**wrong)  # type: ignore[arg-type]
