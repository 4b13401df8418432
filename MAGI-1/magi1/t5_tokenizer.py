"""T5's tokenizer from a local folder: prompts → ids and mask of a fixed length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from magi1.byte_t5 import padded
from magi1.errors import MagiError
from wmweights import first_line

Tokenize = Callable[[Sequence[str], int], tuple[Tensor, Tensor]]
"""``(prompts, max_length)`` → ids and mask ``[B, max_length]``, with an end of sequence, padded or cut."""


def load_t5_tokenizer(folder: Path) -> Tokenize:
    """From ``tokenizer.json``, or from ``spiece.model``, which is what Google released.

    Raises:
        MagiError: the extra ``generate`` is not installed, or the files are missing or damaged.
    """
    if (folder / "tokenizer.json").exists():
        return _from_json(folder)
    file = folder / "spiece.model"
    if file.exists():
        return _from_sentencepiece(file)
    raise MagiError(f"text encoder: {folder} has no tokenizer (tokenizer.json or spiece.model)")


def _from_json(folder: Path) -> Tokenize:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise _missing("transformers") from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the Rust part raises bare Exception
        raise MagiError(
            f"text encoder: cannot read the tokenizer in {folder}: {first_line(error)}"
        ) from error

    def tokenize(prompts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        batch = tokenizer(
            list(prompts),
            max_length=max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]

    return tokenize


def _from_sentencepiece(file: Path) -> Tokenize:
    """Directly: transformers would need protobuf too, only to convert the file."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise _missing("sentencepiece") from error
    try:
        processor: Any = SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError) as error:
        raise MagiError(f"text encoder: cannot read {file}: {first_line(error)}") from error
    return lambda prompts, max_length: padded(processor.encode(list(prompts)), max_length)


def _missing(package: str) -> MagiError:
    return MagiError(
        f'the T5 text encoder needs {package}: pip install -e ".[generate]" in the clone'
    )
