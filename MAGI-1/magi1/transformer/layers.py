"""A MAGI-1 transformer layer: self- and cross-attention side by side, gates before the post-norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from magi1.config import INTERLEAVED_GROUPS, ModelConfig
from magi1.transformer.attention import ChunkAttention, OneDevice, Segment
from magi1.transformer.fp8 import PerTensorFP8Linear, SmoothFP8Linear
from magi1.transformer.kernels import TORCH, Kernels, wide, wide_linear
from magi1.transformer.rope import Rotation, rotate


@dataclass(frozen=True)
class ChunkTexts:
    """What each chunk reads: only the tokens that count.

    Attributes:
        tokens: Per chunk ``[B, L, h]``, projected to the transformer's width.
        masks: Per chunk ``[B, L]``, true where a token counts, or None where all do.
    """

    tokens: Sequence[Tensor]
    masks: Sequence[Tensor | None]

    def __getitem__(self, chunks: slice) -> ChunkTexts:
        return ChunkTexts(self.tokens[chunks], self.masks[chunks])

    def __add__(self, other: ChunkTexts) -> ChunkTexts:
        return ChunkTexts([*self.tokens, *other.tokens], [*self.masks, *other.masks])

    def select(self, rows: Tensor) -> ChunkTexts:
        """Those of these rows of the batch, ``[B]``."""
        return ChunkTexts(
            [text[rows.to(text.device)] for text in self.tokens],
            [None if mask is None else mask[rows.to(mask.device)] for mask in self.masks],
        )

    def as_batch(self, chunks: Sequence[int]) -> ChunkTexts:
        """These chunks as so many videos of one chunk, ``[chunks · B, L, h]``, chunk by chunk."""
        tokens, masks = [self.tokens[j] for j in chunks], [self.masks[j] for j in chunks]
        longest = max(text.shape[1] for text in tokens)
        if all(
            m is None and text.shape[1] == longest for text, m in zip(tokens, masks, strict=True)
        ):
            return ChunkTexts([torch.cat(tokens)], [None])
        kept = [
            text.new_ones(text.shape[:2], dtype=torch.bool) if mask is None else mask
            for text, mask in zip(tokens, masks, strict=True)
        ]
        pad = [longest - text.shape[1] for text in tokens]
        return ChunkTexts(
            [torch.cat([F.pad(text, (0, 0, 0, p)) for text, p in zip(tokens, pad, strict=True)])],
            [torch.cat([F.pad(mask, (0, p)) for mask, p in zip(kept, pad, strict=True)])],
        )


@dataclass(frozen=True)
class LayerInputs:
    """What all layers of one call share.

    Attributes:
        rotation: Positions of the tokens held here.
        condition: Time and text condition of each chunk, ``[B, chunks, c]``.
        texts: What each chunk reads.
        attention: Which chunks see which.
        segments: Where the chunks' tokens are.
        layout: Where tokens live.
        kernels: What to compute with.
    """

    rotation: Rotation
    condition: Tensor
    texts: ChunkTexts
    attention: ChunkAttention
    segments: Sequence[Segment]
    layout: OneDevice = field(default_factory=OneDevice)
    kernels: Kernels = TORCH


class Norm(nn.Module):
    """LayerNorm that multiplies by weight + 1 where ``one_plus``, in the type of its weight."""

    def __init__(self, size: int, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps, self.one_plus = config.layernorm_epsilon, config.apply_layernorm_1p
        start = torch.zeros if self.one_plus else torch.ones
        self.weight = nn.Parameter(start(size, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(size, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + 1 if self.one_plus else self.weight
        return F.layer_norm(x.to(weight.dtype), weight.shape, weight, self.bias, self.eps)


def _linear(inputs: int, outputs: int, dtype: torch.dtype) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False, dtype=dtype)


class QueryKeyValue(nn.Module):
    """The shared LayerNorm and the projections of self-attention and of cross-attention's queries."""

    def __init__(self, config: ModelConfig, *, fp8: bool) -> None:
        super().__init__()
        width, dtype = config.hidden_size, config.dtype
        queries = config.num_attention_heads * config.kv_channels
        keys = config.num_query_groups * config.kv_channels
        made = PerTensorFP8Linear if fp8 else partial(_linear, dtype=dtype)
        self.layer_norm = nn.LayerNorm(width, config.layernorm_epsilon, dtype=dtype)
        self.q, self.qx = made(width, queries), made(width, queries)
        self.k, self.v = made(width, keys), made(width, keys)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``[B, S, h]`` → q, qx, k, v, ``[B, S, heads · d]`` each."""
        normed = self.layer_norm(hidden)
        return self.q(normed), self.qx(normed), self.k(normed), self.v(normed)


class ParallelAttention(nn.Module):
    """Self-attention to chunks and cross-attention to text, joined by one projection."""

    def __init__(self, config: ModelConfig, layer: int, *, fp8: bool) -> None:
        super().__init__()
        self.layer = layer
        self.groups, self.channels = config.num_query_groups, config.kv_channels
        dtype, d = config.dtype, config.kv_channels
        queries = config.num_attention_heads * d
        self.linear_qkv = QueryKeyValue(config, fp8=fp8)
        self.linear_kv_xattn = _linear(config.hidden_size, 2 * self.groups * d, dtype)
        self.linear_proj: nn.Module = (
            SmoothFP8Linear(2 * queries, config.hidden_size)
            if fp8
            else _linear(2 * queries, config.hidden_size, dtype)
        )
        # Self-attention normalises in float32, cross-attention in the precision of the blocks.
        self.q_layernorm = Norm(d, config, wide(dtype))
        self.k_layernorm = Norm(d, config, wide(dtype))
        self.q_layernorm_xattn = Norm(d, config, dtype)
        self.k_layernorm_xattn = Norm(d, config, dtype)

    def self_attention(self, hidden: Tensor, inputs: LayerInputs) -> tuple[Tensor, Tensor]:
        """Attention among video tokens, and the normalised queries to the text; ``[B, S, heads, d]``."""
        q, k, v, queries = self.heads(hidden, inputs.rotation)
        attended = inputs.layout.attend(inputs.attention, self.layer, q, k, v, inputs.kernels)
        return attended, queries

    def heads(self, hidden: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, S, heads, d]`` of tokens, and their queries to the text."""
        q, qx, k, v = (part.unflatten(-1, (-1, self.channels)) for part in self.linear_qkv(hidden))
        q = rotate(self.q_layernorm(q), rotation).to(hidden.dtype)
        k = rotate(self.k_layernorm(k), rotation).to(hidden.dtype)
        return q, k, v, self.q_layernorm_xattn(qx)

    def cross_attention(
        self, queries: Tensor, text: Tensor, mask: Tensor | None, kernels: Kernels
    ) -> Tensor:
        """Queries ``[B, n, heads, d]`` of one chunk to its text ``[B, L, h]``."""
        both = self.linear_kv_xattn(text)
        # Key and value lie side by side within each group, not in two halves of the projection.
        key, value = both.unflatten(-1, (self.groups, 2 * self.channels)).chunk(2, dim=-1)
        return kernels.attention(queries, self.k_layernorm_xattn(key), value, mask)

    def project(self, attended: Tensor, crossed: Tensor) -> Tensor:
        """Both outputs ``[B, n, heads, d]`` → ``[B, n, h]``, interleaved in eight groups, in float32."""
        pair = torch.stack(
            [
                rearrange(part, "b n h d -> b n (h d)").unflatten(-1, (INTERLEAVED_GROUPS, -1))
                for part in (attended, crossed)
            ],
            dim=3,
        )
        joined = pair.flatten(2)
        if isinstance(self.linear_proj, SmoothFP8Linear):
            out: Tensor = self.linear_proj(joined)
            return out
        assert isinstance(self.linear_proj, nn.Linear)
        return wide_linear(joined, self.linear_proj.weight)


class MLP(nn.Module):
    """LayerNorm, then SwiGLU or exact GELU between two matrices without bias."""

    def __init__(self, config: ModelConfig, *, fp8: bool) -> None:
        super().__init__()
        width, inner, dtype = config.hidden_size, config.ffn_hidden_size, config.dtype
        self.gated = config.gated_linear_unit
        first = 2 * inner if self.gated else inner
        self.layer_norm = nn.LayerNorm(width, config.layernorm_epsilon, dtype=dtype)
        self.linear_fc1 = PerTensorFP8Linear(width, first) if fp8 else _linear(width, first, dtype)
        self.linear_fc2 = SmoothFP8Linear(inner, width) if fp8 else _linear(inner, width, dtype)

    def forward(self, hidden: Tensor, kernels: Kernels) -> Tensor:
        x = self.linear_fc1(self.layer_norm(hidden))
        out: Tensor = self.linear_fc2(kernels.silu_and_mul(x) if self.gated else F.gelu(x))
        return out


class Gates(nn.Module):
    """tanh gates of attention and MLP from the condition; MAGI-1's adaLN has no shift and no scale."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        outputs = 2 * config.hidden_size
        self.proj = nn.Sequential(nn.Linear(config.condition_width, outputs, dtype=config.dtype))

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, chunks, c]`` → two gates ``[B, chunks, h]``."""
        raw = self.proj(F.silu(condition))
        attention, mlp = raw.to(wide(raw.dtype)).tanh().to(condition.dtype).chunk(2, dim=-1)
        return attention, mlp


class TransformerLayer(nn.Module):
    """One layer; the parts that need only a chunk's own tokens run chunk by chunk to bound memory."""

    def __init__(self, config: ModelConfig, layer: int, *, fp8: bool) -> None:
        super().__init__()
        self.ada_modulate_layer = Gates(config)
        self.self_attention = ParallelAttention(config, layer, fp8=fp8)
        self.self_attn_post_norm = Norm(config.hidden_size, config, wide(config.dtype))
        self.mlp = MLP(config, fp8=fp8)
        self.mlp_post_norm = Norm(config.hidden_size, config, wide(config.dtype))

    def forward(self, hidden: Tensor, inputs: LayerInputs) -> Tensor:
        """``[B, S, h]`` of the tokens held here, before and after."""
        attended, queries = self.self_attention.self_attention(hidden, inputs)
        gates = self.ada_modulate_layer(inputs.condition)
        texts, kernels = inputs.texts, inputs.kernels
        out = []
        for segment in inputs.segments:
            here, chunk = segment.tokens, segment.chunk
            crossed = self.self_attention.cross_attention(
                queries[:, here], texts.tokens[chunk], texts.masks[chunk], kernels
            )
            gate = (gates[0][:, chunk, None], gates[1][:, chunk, None])
            out.append(self.token_local(hidden[:, here], attended[:, here], crossed, gate, kernels))
        return torch.cat(out, dim=1)

    def token_local(
        self,
        hidden: Tensor,
        attended: Tensor,
        crossed: Tensor,
        gates: tuple[Tensor, Tensor],
        kernels: Kernels,
    ) -> Tensor:
        """Everything after attention, for tokens ``[B, n, ·]`` of one chunk."""
        joined = self.self_attention.project(attended, crossed)
        hidden = _gated_residual(hidden, joined, gates[0], self.self_attn_post_norm)
        return _gated_residual(hidden, self.mlp(hidden, kernels), gates[1], self.mlp_post_norm)


def _gated_residual(hidden: Tensor, update: Tensor, gate: Tensor, norm: Norm) -> Tensor:
    dtype = wide(hidden.dtype)
    added = norm(update.to(dtype) * gate.to(dtype)) + hidden.to(dtype)
    return added.to(hidden.dtype)
