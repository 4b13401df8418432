"""T5's tokenizer from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magi1.errors import MagiError
from magi1.text.reader import Tokenizer
from wmweights import first_line


def load_t5_tokenizer(folder: Path) -> Tokenizer:
    """From ``tokenizer.json``, or from ``spiece.model``, which is what Google released.

    Raises:
        MagiError: the extra ``generate`` is not installed, or the files are missing or damaged.
    """
    if (folder / "tokenizer.json").exists():
        return _Json(folder)
    file = folder / "spiece.model"
    if file.exists():
        return _Sentencepiece(file)
    raise MagiError(f"text encoder: {folder} has no tokenizer (tokenizer.json or spiece.model)")


class _Json:
    def __init__(self, folder: Path) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise _missing("transformers") from error
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the Rust part raises bare Exception, and panics
            raise MagiError(
                f"text encoder: cannot read the tokenizer in {folder}: {first_line(error)}"
            ) from error

    def encode(self, text: str) -> list[int]:
        # Not verbose: it knows no longer text than 512 tokens by heart, and warns.
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return [int(i) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


class _Sentencepiece:
    """Directly: transformers would need protobuf too, only to convert the file."""

    def __init__(self, file: Path) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise _missing("sentencepiece") from error
        try:
            self._processor: Any = SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError) as error:
            raise MagiError(f"text encoder: cannot read {file}: {first_line(error)}") from error

    def encode(self, text: str) -> list[int]:
        return list(self._processor.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._processor.decode(list(ids)))


def _missing(package: str) -> MagiError:
    return MagiError(
        f'the T5 text encoder needs {package}: pip install -e ".[generate]" in the clone'
    )
