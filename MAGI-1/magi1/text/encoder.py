"""Prompts → text features: T5 with the released models, the byte encoder with small ones."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from magi1.errors import MagiError, MagiUsageError
from magi1.text.byte_t5 import MODEL_TYPE as BYTE_T5
from magi1.text.byte_t5 import Bytes, ByteT5, ByteT5Config
from magi1.text.cleaning import clean_prompt
from magi1.text.reader import PromptReader
from magi1.text.t5_files import check_byte_t5, check_t5, load_t5, t5_parameters
from magi1.text.t5_tokenizer import load_t5_tokenizer
from wmfiles import read_json, short
from wmweights import WeightsError, assemble, blank, dequantise, places, read_state

T5_FOLDER = "t5-v1_1-xxl"
_T5_PACKAGES = ("transformers", "ftfy", "bs4")
T5_MAX_LENGTH = 800
T5_UNIT = 64


class TextFeatures(NamedTuple):
    """What a text encoder says about prompts.

    Attributes:
        features: ``[B, L, D]``, float32 at least.
        mask: ``[B, L]``, 1 where there is a token, 0 at padding.
    """

    features: Tensor
    mask: Tensor


class T5Encoder:
    """The encoder of a T5 from transformers, over cleaned prompts."""

    def __init__(self, model: Any, reader: PromptReader) -> None:
        self.model, self.reader = model, reader

    @property
    def max_length(self) -> int:
        return self.reader.max_length

    @property
    def width(self) -> int:
        return self.model.get_input_embeddings().embedding_dim

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_length: int = T5_MAX_LENGTH,
    ) -> T5Encoder:
        """From a folder with tokenizer, ``config.json`` and weights, frozen. Nothing is downloaded.

        Raises:
            MagiError: the extra ``generate`` is not installed, or files are missing or damaged.
        """
        reader = _t5_reader(folder, max_length)
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise MagiError(
                'the T5 text encoder needs transformers: pip install -e ".[generate]" in the clone'
            ) from error
        return cls(load_t5(folder, device, dtype), reader)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of each prompt after :func:`magi1.text.cleaning.clean_prompt`; zeros at most padding.

        Most of 800 tokens are padding, which changes nothing of the others: only up to a multiple of
        ``T5_UNIT`` tokens is computed.
        """
        ids, mask = (x.to(self.model.device) for x in self.reader.tokens(prompts))
        length = -(-int(mask.sum(dim=1).max()) // T5_UNIT) * T5_UNIT
        seen = {"input_ids": ids[:, :length], "attention_mask": mask[:, :length]}
        features = _at_least_float32(self.model(**seen).last_hidden_state)
        return TextFeatures(F.pad(features, (0, 0, 0, ids.shape[1] - features.shape[1])), mask)


class ByteEncoder:
    """The byte-level encoder, over lower-case prompts with single spaces. Carries gradients."""

    def __init__(self, model: ByteT5, max_length: int | None = None) -> None:
        self.model = model
        self.reader = _byte_reader(model.config, max_length)

    @property
    def max_length(self) -> int:
        return self.reader.max_length

    @property
    def width(self) -> int:
        return self.model.config.d_model

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_length: int | None = None,
    ) -> ByteEncoder:
        """From a folder with ``config.json`` and ``model.safetensors`` (floats, or int8 with a scale
        per row), frozen.

        Raises:
            MagiError: a file is missing, damaged, or does not fit the other.
        """
        with blank():
            model = ByteT5(_byte_config(folder))
        file = folder / "model.safetensors"
        try:
            assemble(model, dequantise(read_state(file)), str(file), BYTE_T5)
        except WeightsError as error:
            raise MagiError(f"text encoder: {error}") from error
        return cls(model.to(device, dtype).eval(), max_length)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of each prompt; more than ``max_length - 1`` bytes are cut off."""
        device = self.model.shared.weight.device
        ids, mask = (x.to(device) for x in self.reader.tokens(prompts))
        return TextFeatures(_at_least_float32(self.model(ids, mask)), mask)


def load_text_encoder(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_length: int | None = None,
) -> T5Encoder | ByteEncoder:
    """The text encoder in a folder, frozen; ``model_type`` in its ``config.json`` says which it is.

    Args:
        folder: Holds ``config.json``, or a folder ``t5-v1_1-xxl`` that does.
        device: Where it runs. T5-XXL takes 18 GiB in float32.
        dtype: Precision of the weights.
        max_length: Tokens per prompt, if not 800 for T5 or what ``config.json`` says for the byte encoder.

    Raises:
        MagiError: missing, damaged, or neither kind.
    """
    folder = _inner(Path(folder))
    if _kind(folder) == BYTE_T5:
        return ByteEncoder.load(folder, device=device, dtype=dtype, max_length=max_length)
    length = max_length or T5_MAX_LENGTH
    return T5Encoder.load(folder, device=device, dtype=dtype, max_length=length)


def text_reader(folder: str | Path, max_length: int | None = None) -> PromptReader:
    """How the text encoder in a folder takes prompts; its weights are not looked at.

    Raises:
        MagiError: configuration or tokenizer are missing, damaged, or need a package that is not there.
    """
    folder = _inner(Path(folder))
    if _kind(folder) == BYTE_T5:
        return _byte_reader(_byte_config(folder), max_length)
    return _t5_reader(folder, max_length or T5_MAX_LENGTH)


def encoder_bytes(folder: str | Path) -> int:
    """Memory of the weights of the text encoder in a folder, in float32."""
    folder = _inner(Path(folder))
    if _kind(folder) != BYTE_T5:
        return 4 * t5_parameters(folder)
    with blank():
        model = ByteT5(_byte_config(folder))
    return sum(4 * place.numel() for place in places(model).values())


def check_text_encoder(folder: str | Path, max_length: int | None = None) -> PromptReader:
    """Whether packages, configuration, tokenizer and the headers of the weights are there and fit.

    Args:
        folder: Like that of :func:`load_text_encoder`; its weights are not read.
        max_length: Tokens per prompt, likewise.

    Returns:
        How the encoder takes prompts.

    Raises:
        MagiError: something is missing, damaged, or of another model.
    """
    folder = _inner(Path(folder))
    if _kind(folder) == BYTE_T5:
        check_byte_t5(folder, _byte_config(folder))
        return text_reader(folder, max_length)
    reader = () if (folder / "tokenizer.json").exists() else ("sentencepiece",)
    missing = [name for name in (*_T5_PACKAGES, *reader) if find_spec(name) is None]
    if missing:
        raise MagiError(
            f'the T5 text encoder needs {", ".join(missing)}: pip install -e ".[generate]" in the clone'
        )
    check_t5(folder)
    return text_reader(folder, max_length)


def _inner(folder: Path) -> Path:
    if not (folder / "config.json").exists() and (folder / T5_FOLDER).is_dir():
        return folder / T5_FOLDER
    return folder


def _kind(folder: Path) -> str:
    kind = _read_config(folder).get("model_type")
    if kind not in (BYTE_T5, "t5"):
        raise MagiUsageError(
            f'text encoder: {folder / "config.json"} has model_type {short(kind)}, not "t5" or "{BYTE_T5}"'
        )
    return str(kind)


def _byte_config(folder: Path) -> ByteT5Config:
    try:
        return ByteT5Config.from_dict(_read_config(folder))
    except MagiUsageError as error:
        raise MagiUsageError(f"{error} in {folder / 'config.json'}") from error


def _byte_reader(config: ByteT5Config, max_length: int | None) -> PromptReader:
    return PromptReader(_plain, Bytes(), "bytes", max_length or config.max_length)


def _t5_reader(folder: Path, max_length: int) -> PromptReader:
    return PromptReader(clean_prompt, load_t5_tokenizer(folder), "tokens", max_length)


def _plain(prompt: str) -> str:
    return " ".join(prompt.lower().split())


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise MagiError(
            f"text encoder: {file} is missing; give the folder that has it, or the one that {T5_FOLDER} is in"
        )
    config = read_json(file, refuse=lambda path, why: MagiError(f"text encoder: {path}: {why}"))
    if not isinstance(config, dict):
        raise MagiError(f"text encoder: {file} is not a JSON object")
    return config


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
