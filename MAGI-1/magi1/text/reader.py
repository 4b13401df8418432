"""What a text encoder sees of a prompt: its cleaned text as tokens, and what does not fit any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from magi1.text.byte_t5 import padded

_SHOWN = 60
"""Characters of what is not read that a message shows."""


class Tokenizer(Protocol):
    """Text ↔ ids, without an end of sequence, padding or a limit."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class CutPrompt:
    """A prompt that is longer than what the text encoder reads.

    Attributes:
        prompt: As it was given.
        length: Its tokens, after cleaning.
        read: Those that are read.
        unit: What a token is, in the plural.
        unread: The words that are not read.
    """

    prompt: str
    length: int
    read: int
    unit: str
    unread: str

    def __str__(self) -> str:
        begins = f"{self.unread[:_SHOWN]}{'…' if len(self.unread) > _SHOWN else ''}"
        return (
            f"the prompt is cut: the text encoder reads {self.read} of its {self.length} {self.unit}, and "
            f'nothing from "{begins}" on'
        )


@dataclass(frozen=True)
class PromptReader:
    """How a text encoder takes prompts.

    Attributes:
        clean: What is done to a prompt first.
        tokenizer: Text ↔ ids.
        unit: What a token is, in the plural.
        max_length: Tokens per prompt, end of sequence included.
    """

    clean: Callable[[str], str]
    tokenizer: Tokenizer
    unit: str
    max_length: int

    def tokens(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask ``[B, max_length]``: cut, with an end of sequence, padded."""
        return padded([self._ids(prompt) for prompt in prompts], self.max_length)

    def loses(self, prompt: str) -> bool:
        """Whether nothing is left of a prompt after cleaning."""
        return bool(prompt.strip()) and not self.clean(prompt)

    def cut(self, prompt: str, special: int = 0) -> CutPrompt | None:
        """What of a prompt is not read; None if all is.

        Args:
            prompt: The text.
            special: Special tokens that go before it. They push out its end of sequence first.
        """
        ids = self._ids(prompt)
        room = self.max_length - max(1, special)
        if len(ids) <= room:
            return None
        return CutPrompt(prompt, len(ids), room, self.unit, self._words_from(room, ids))

    def _words_from(self, room: int, ids: Sequence[int]) -> str:
        """The text from the first word on that is not read whole."""
        whole, start = self.tokenizer.decode(ids), len(self.tokenizer.decode(ids[:room]))
        if not whole[start : start + 1].isspace():
            start = whole.rfind(" ", 0, start) + 1
        return whole[start:].strip()

    def _ids(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(self.clean(prompt))
