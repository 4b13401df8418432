"""Weights files → a built model: strictly, quickly, and with errors that name the key, the shape
and the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vjepa2.build import build_model
from vjepa2.config import ModelConfig, get_config
from vjepa2.errors import WeightsError
from vjepa2.files.key_maps import from_transformers, is_transformers
from vjepa2.files.official import official_part, part_file, stored_part
from vjepa2.files.recognise import refuse_others
from vjepa2.files.sources import OFFICIAL_SUFFIXES, WeightsSource, find_teacher, find_weights
from vjepa2.reading import Branches, Reading
from vjepa2.world_model import WorldModel
from vjepa2.world_model21 import VJEPA21
from wmweights import KeptHash, assemble, blank, check_fit, dequantise, fingerprint, read_state

State = dict[str, Tensor]

STUDENT_NOTE = "observed=student is ours and unverified: another quantity than the teacher's score"


@dataclass(frozen=True)
class WeightsInfo:
    """What was loaded, for records and ``--weights-info``.

    Attributes:
        model: Name of the model.
        source: Where the files came from.
        files: The files read.
        sha256: Hash of names, shapes and float32 values: equal for equal weights, whatever file
            format held them.
        context_encoder, target_encoder: ``online`` or ``ema``.
        mask_token: Which mask token predicts.
        mask_token_norms: Norm of each stored mask token. One near zero was never trained.
        crop: Side of the picture in pixels.
        reading: How a V-JEPA 2.1 model is read.
        teacher_files, teacher_sha256: The same of the teacher's encoder that a distilled model is
            compared with.
    """

    model: str
    source: str
    files: tuple[str, ...]
    sha256: str
    context_encoder: str
    target_encoder: str
    mask_token: int
    mask_token_norms: tuple[float, ...]
    crop: int
    reading: Reading | None = None
    teacher_files: tuple[str, ...] = ()
    teacher_sha256: str | None = None

    def __str__(self) -> str:
        return "\n".join(
            (
                f"model            {self.model}",
                f"source           {self.source}",
                *(f"file             {file}" for file in self.files),
                f"sha256           {self.sha256}",
                f"context encoder  {self.context_encoder}",
                f"target encoder   {self.target_encoder}",
                f"mask token       {self.mask_token} (norms: {self.norms})",
                f"crop             {self.crop}",
                *self._read_as(),
            )
        )

    @property
    def norms(self) -> str:
        """The mask tokens' norms, short."""
        return " ".join(f"{norm:.3g}" for norm in self.mask_token_norms) or "none"

    def compared_with(self) -> dict[str, str]:
        """Of a distilled model, for records: the teacher's hash, or that the student was taken instead."""
        if self.teacher_sha256 is not None:
            return {"teacher_sha256": self.teacher_sha256}
        taken = self.reading is not None and self.reading.observed == "student"
        return {"note": STUDENT_NOTE} if taken else {}

    def remarks(self) -> list[str]:
        """What should be known of scores of this model, one line each; nothing of one without a choice."""
        lines, tokens = [], len(self.mask_token_norms)
        if tokens > 1:  # published code and training disagree on which one predicts
            lines.append(
                f"{self.model}: mask token {self.mask_token} predicts; norms of all: {self.norms}"
            )
            if self.mask_token_norms[self.mask_token % tokens] == 0:
                lines.append(
                    f"{self.model}: mask token {self.mask_token} is zero: it was never trained"
                )
        if self.reading is not None and self.reading.observed == "student":
            lines.append(f"{self.model}: {STUDENT_NOTE}")
        return lines

    def _read_as(self) -> list[str]:
        if self.reading is None:
            return []
        lines = [
            f"positions        {self.reading.positions}",
            f"levels           {self.reading.levels}",
            f"observed         {self.reading.observed}",
            *(f"teacher file     {file}" for file in self.teacher_files),
        ]
        if self.teacher_sha256:
            lines.append(f"teacher sha256   {self.teacher_sha256}")
        return lines


def load_model(
    model: str,
    *,
    weights: str | Path | None = None,
    branches: Branches | None = None,
    mask_token: int | None = None,
    crop: int | None = None,
    reading: Reading | None = None,
    teacher_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    rehash: bool = False,
) -> tuple[WorldModel, WeightsInfo]:
    """A frozen world model with its weights.

    The hash of large files is kept beside them; then they are read straight to the device.

    Args:
        model: One of :data:`vjepa2.config.MODELS`.
        weights: A file or folder to use instead of the places searched by
            :func:`vjepa2.files.sources.find_weights`.
        branches: Which stored encoder serves the context and the target side; online for V-JEPA 2, as in
            every public loader, ema for V-JEPA 2.1.
        mask_token: Which mask token predicts; 1 for V-JEPA 2, as in every public loader, 0 for V-JEPA 2.1.
        crop: Another side of the picture than the model's own (V-JEPA 2.1 only).
        reading: How the model is read (V-JEPA 2.1 only).
        teacher_weights: A file or folder with the teacher of a distilled model, instead of searching.
        device: Where to put it.
        dtype: Precision of the weights.
        rehash: Compute the hash of the weights even where it is known (:class:`wmweights.KeptHash`).

    Raises:
        ValueError: unknown model, or settings that it does not have.
        WeightsError: weights missing, damaged, or of another model.
    """
    config = get_config(model, crop)
    branches = branches or Branches(config.default_branch, config.default_branch)
    with blank():
        built = build_model(config, branches=branches, mask_token=mask_token, reading=reading)
    source = find_weights(model, weights)
    teacher = None
    if isinstance(built, VJEPA21) and built.reading.observed == "teacher":
        teacher = find_teacher(built.config, source, teacher_weights)
    elif teacher_weights is not None:
        raise ValueError(f"teacher_weights: model {model!r} is not compared with a teacher")
    state, sha256 = _read_hashed(source, config, _wanted(built, branches), device, rehash)
    info = WeightsInfo(
        model=model,
        source=source.description,
        files=tuple(map(str, source.files)),
        sha256=sha256,
        context_encoder=branches.context,
        target_encoder=branches.target,
        mask_token=built.mask_token,
        mask_token_norms=tuple(
            value.float().norm().item() for name, value in state.items() if "mask_tokens" in name
        ),
        crop=config.crop,
        reading=built.reading if isinstance(built, VJEPA21) else None,
    )
    if teacher is not None:
        assert isinstance(built, VJEPA21) and built.config.teacher is not None
        wanted = {"encoder": branches.target}
        seen, sha256 = _read_hashed(
            teacher, built.config.teacher, wanted, device, rehash, prefix="encoder."
        )
        check_fit(built.target_encoder, seen, teacher.names, built.config.teacher.name)
        info = replace(info, teacher_files=tuple(map(str, teacher.files)), teacher_sha256=sha256)
        state |= {f"target_encoder.{name}": value for name, value in seen.items()}
    assemble(built, state, source.names, model)
    state.clear()  # else each weight would be there twice while its precision changes
    return built.to(device=device, dtype=dtype).requires_grad_(False).eval(), info


# --- reading


def _wanted(model: WorldModel, branches: Branches) -> dict[str, str]:
    """Which parts of its own weights a model takes: ours → ``online``, ``ema`` or ``predictor``."""
    wanted = {"encoder": branches.context, "predictor": "predictor"}
    taught = isinstance(model, VJEPA21) and model.reading.observed == "teacher"
    if model.target_encoder is not model.encoder and not taught:
        wanted["target_encoder"] = branches.target
    return wanted


def _read_hashed(
    source: WeightsSource,
    config: ModelConfig,
    wanted: Mapping[str, str],
    device: torch.device | str,
    rehash: bool,
    *,
    prefix: str = "",
) -> tuple[State, str]:
    """:func:`_read` without a ``prefix`` of its names, and the hash, which is computed on the CPU."""

    def kept_hash() -> KeptHash:
        return KeptHash(_files(source, config, wanted), json.dumps([config.name, wanted, prefix]))

    kept = kept_hash()
    sha256 = None if rehash else kept.known()
    state = {
        name.removeprefix(prefix): value
        for name, value in _read(
            source, config, wanted, "cpu" if sha256 is None else device
        ).items()
    }
    if sha256 is None:
        sha256 = fingerprint(state)
        after = kept_hash()  # of other files, if an official one was just converted
        (kept if after.files == kept.files else after).keep(sha256)
    return state, sha256


def _files(source: WeightsSource, config: ModelConfig, wanted: Mapping[str, str]) -> list[Path]:
    """What :func:`_read` reads."""
    if source.files[0].suffix not in OFFICIAL_SUFFIXES:
        return list(source.files)
    parts = (stored_part(config, branch) for branch in wanted.values())
    return list(dict.fromkeys(part_file(source.files[0], part, config) for part in parts))


def _read(
    source: WeightsSource,
    config: ModelConfig,
    wanted: Mapping[str, str],
    device: torch.device | str,
) -> State:
    """The parts of :func:`_wanted` with our names: ``encoder.*``, ``predictor.*``, ``target_encoder.*``."""
    first = source.files[0]
    if first.suffix == ".safetensors":
        return _read_safetensors(source, config, wanted, device)
    if first.suffix in OFFICIAL_SUFFIXES:
        return {
            f"{ours}.{key}": value
            for ours, branch in wanted.items()
            for key, value in official_part(
                first, stored_part(config, branch), config, device
            ).items()
        }
    raise WeightsError(f"{first}: weights must be a .pt, .pth or .safetensors file, or a folder")


def _read_safetensors(
    source: WeightsSource,
    config: ModelConfig,
    wanted: Mapping[str, str],
    device: torch.device | str,
) -> State:
    state: State = {}
    for file in source.files:
        state |= read_state(file, device)
    if is_transformers(set(state)):
        state = from_transformers(state)
    prefix = "encoder."
    refuse_others(
        {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        },
        config,
        source.names,
    )
    if set(wanted.values()) - {"predictor", config.default_branch}:
        other = "ema" if config.default_branch == "online" else "online"
        raise WeightsError(
            f"{source.names} holds one encoder (the {config.default_branch} one): {other} needs the "
            "official .pt file, which holds both"
        )
    if "predictor" not in wanted:  # a teacher is an encoder only
        state = {name: value for name, value in state.items() if name.startswith(prefix)}
    return dequantise(state)
