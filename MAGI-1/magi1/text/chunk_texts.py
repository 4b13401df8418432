"""Text of each chunk of a video: the caption with MAGI-1's special tokens, and the null text beside it.

The special tokens are learned feature vectors, not words. Each one that is asked for is put in front of the
caption's features; they say that the video is of high quality, say, or how many chunks are still to come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from magi1.errors import MagiError, MagiUsageError
from magi1.text.encoder import TextFeatures
from wmfiles.arrays import read_arrays

NULL_LENGTH = 50
"""Tokens of the null text that attention sees."""

_TRUE = {"1", "true", "yes", "y", "on", "enabled"}

# Rows of `other_tokens` in the file; the rest of its 100 rows is unused.
_TRANSITION = 0
_BORDERNESS = 4
_ROWS = {
    "static": 2,
    "dynamic": 3,
    "borderness": _BORDERNESS,
    "hq": 1,
    "three_d_model": 15,
    "two_d_anime": 16,
}
_FIRST_DURATION, _DURATIONS = 7, 8
_LEAST_ROWS = max(_ROWS.values()) + 1


@dataclass(frozen=True)
class SpecialTokens:
    """Which special tokens to put before the text. Each goes before those above it.

    Attributes:
        static: The first frames do not move.
        dynamic: The first frames move.
        borderness: The video has a border.
        hq: High quality.
        three_d_model: A rendered 3D model.
        two_d_anime: Drawn animation.
        duration: How many chunks are still to come, this one included, up to 8.
        negative: Caption, logo, transition and border tokens before the *null* text, to guide away
            from them.
    """

    static: bool = False
    dynamic: bool = False
    borderness: bool = False
    hq: bool = False
    three_d_model: bool = False
    two_d_anime: bool = False
    duration: bool = False
    negative: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> SpecialTokens:
        """From ``PAD_STATIC``, ``PAD_DYNAMIC``, ``PAD_BORDERNESS``, ``PAD_HQ``, ``PAD_THREE_D_MODEL``,
        ``PAD_TWO_D_ANIME``, ``PAD_DURATION`` and ``NEG_PROMPT``: 1, true, yes, y, on or enabled.
        """
        variables = {
            field.name: "NEG_PROMPT" if field.name == "negative" else f"PAD_{field.name.upper()}"
            for field in fields(cls)
        }
        return cls(
            **{
                name: environment.get(variable, "").lower() in _TRUE
                for name, variable in variables.items()
            }
        )

    @property
    def before_text(self) -> int:
        """How many go before the text of a prompt."""
        return sum(getattr(self, name) for name in (*_ROWS, "duration"))

    def any(self) -> bool:
        """Whether a token is asked for."""
        return self != SpecialTokens()


@dataclass(frozen=True)
class TokenVectors:
    """Feature vectors of the special tokens.

    Attributes:
        caption: ``[D]``, for burnt-in captions.
        logo: ``[D]``.
        other: ``[100, D]``, all others.
    """

    caption: Tensor
    logo: Tensor
    other: Tensor

    def before_caption(self, tokens: SpecialTokens, chunks: int) -> list[Tensor]:
        """The vectors to put before each of ``chunks`` captions, in this order, each ``[chunks, D]``."""
        rows = [row for name, row in _ROWS.items() if getattr(tokens, name)]
        vectors = [self.other[row].expand(chunks, -1) for row in rows]
        if tokens.duration:
            remaining = torch.arange(chunks, 0, -1).clamp_max(_DURATIONS)
            vectors.append(self.other[_FIRST_DURATION - 1 + remaining])
        return vectors

    def before_null(self, tokens: SpecialTokens, chunks: int) -> list[Tensor]:
        """The same for the null text."""
        if not tokens.negative:
            return []
        vectors = (self.caption, self.logo, self.other[_TRANSITION], self.other[_BORDERNESS])
        return [vector.expand(chunks, -1) for vector in vectors]


_ARRAYS = ("caption_token", "logo_token", "other_tokens")
_MOST_BYTES = 2**28


def load_token_vectors(file: str | Path, tokens: SpecialTokens) -> TokenVectors | None:
    """The vectors in ``special_tokens.npz``, or None if no token is asked for: then it need not exist.

    They are rounded to float16 as the released pipeline does, and returned as float32.

    Raises:
        MagiError: the file is missing or not such a file.
    """
    if not tokens.any():
        return None
    if not Path(file).exists():
        raise MagiError(
            f"special tokens: {file} is missing; it comes with the MAGI-1 code, or ask for no special token"
        )
    arrays = read_arrays(
        file,
        _ARRAYS,
        most=_MOST_BYTES,
        refuse=lambda path, why: MagiError(f"special tokens: cannot read {path}: {why}"),
    )
    try:
        caption, logo, other = (
            torch.from_numpy(arrays[name].astype(np.float16)).float() for name in _ARRAYS
        )
    except (ValueError, TypeError):
        raise MagiError(f"special tokens: {file} holds something else than numbers") from None
    if other.ndim != 2 or len(other) < _LEAST_ROWS:
        raise MagiError(
            f"special tokens: other_tokens in {file} has shape {list(other.shape)}, expected [100, width]"
        )
    return TokenVectors(caption.reshape(-1), logo.reshape(-1), other)


class ChunkText(NamedTuple):
    """Text of every chunk: row 0 is the caption, row 1 the null text.

    Attributes:
        y: Features ``[2, chunks, L, D]``.
        mask: ``[2, chunks, L]`` in the dtype of ``y``, 1 where attention sees a token.
    """

    y: Tensor
    mask: Tensor


def chunk_text(
    text: TextFeatures,
    null_embedding: Tensor,
    *,
    chunks: int,
    prefix_chunks: int = 0,
    tokens: SpecialTokens = SpecialTokens(),
    vectors: TokenVectors | None = None,
) -> ChunkText:
    """Captions and null text for all chunks of a video.

    The first ``prefix_chunks`` chunks are given, not generated: they get the null features and a mask of
    zeros. If the text has not a single token, the null text takes its place.

    Args:
        text: Features ``[B, L, D]`` of one prompt for all chunks (B = 1), or of one for each generated
            chunk (B = ``chunks - prefix_chunks``).
        null_embedding: The model's ``null_caption_embedding [L, D]``; its dtype and device are the result's.
        chunks: Chunks of the video, prefix included.
        prefix_chunks: Full chunks of a given prefix video.
        tokens: The special tokens to add. The text is cut to L again.
        vectors: Their vectors; needed if ``tokens`` asks for any.

    Raises:
        MagiUsageError: sizes that do not fit, or tokens without vectors.
    """
    generated = chunks - prefix_chunks
    _check(text, null_embedding, generated, tokens, vectors)
    null = plain_null = null_embedding.expand(chunks, -1, -1)
    seen = torch.arange(len(null_embedding), device=null.device) < NULL_LENGTH
    null_mask = seen.to(null.dtype).expand(chunks, -1)
    if vectors is not None:
        for vector in vectors.before_null(tokens, chunks):
            null = _prepend(vector, null)  # and the mask stays as it is
    if not text.mask.any():
        return ChunkText(torch.stack((null, null)), torch.stack((null_mask, null_mask)))

    caption = text.features.to(null).expand(generated, -1, -1)
    mask = text.mask.to(null).expand(generated, -1)
    if vectors is not None:
        for vector in vectors.before_caption(tokens, generated):
            caption, mask = _prepend(vector, caption), _prepend(torch.ones(generated), mask)
    caption = torch.cat((plain_null[:prefix_chunks], caption))
    mask = torch.cat((torch.zeros_like(null_mask[:prefix_chunks]), mask))
    return ChunkText(torch.stack((caption, null)), torch.stack((mask, null_mask)))


def _prepend(first: Tensor, rest: Tensor) -> Tensor:
    """``first [B, …]`` before ``rest [B, L, …]``, whose last place falls off."""
    return torch.cat((first.to(rest)[:, None], rest[:, :-1]), dim=1)


def _check(
    text: TextFeatures,
    null_embedding: Tensor,
    generated: int,
    tokens: SpecialTokens,
    vectors: TokenVectors | None,
) -> None:
    prompts, length, width = text.features.shape
    if generated < 1:
        raise MagiUsageError("text: no chunk is left to generate after the prefix")
    if prompts not in (1, generated):
        raise MagiUsageError(
            f"text: {prompts} prompts for {generated} generated chunks; give 1 or one each"
        )
    if (length, width) != tuple(null_embedding.shape):
        raise MagiUsageError(
            f"text: features of {length} tokens and width {width} do not fit the generator's null caption "
            f"{list(null_embedding.shape)}"
        )
    if tokens.any() and vectors is None:
        raise MagiUsageError("text: special tokens are asked for but their vectors are not given")
    if vectors is not None and vectors.other.shape[1] != width:
        raise MagiUsageError(
            f"text: special tokens of width {vectors.other.shape[1]} do not fit features of width {width}"
        )
