"""A small text encoder that reads bytes: the encoder of T5 v1.1 over the alphabet of ByT5.

For models small enough to ship with the code, where the 4.8 billion parameters of T5-XXL would be out
of proportion. There is no vocabulary file: a prompt's tokens are its UTF-8 bytes. Parameters have the
names of the T5 encoder in transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from magi1.errors import MagiUsageError
from wmfiles import short

MODEL_TYPE = "byte_t5"

PAD, EOS = 0, 1
FIRST_BYTE = 3  # after pad, end of sequence and unknown; no byte is unknown, so id 2 stays unused
VOCABULARY = FIRST_BYTE + 256

# All layers add the same bias; the released checkpoints keep it in the first.
_POSITION_BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias"


@dataclass(frozen=True)
class ByteT5Config:
    """Sizes, with the field names of T5's ``config.json``.

    Attributes:
        d_model: Width of the features.
        num_layers: Number of blocks.
        num_heads: Attention heads; together they may be wider or narrower than ``d_model``.
        d_kv: Width of one head.
        d_ff: Hidden width of the gated MLP.
        max_length: Tokens per prompt, end of sequence included.
        relative_attention_num_buckets: Distances that the position bias tells apart, both directions
            together.
        relative_attention_max_distance: All distances from here on share a bucket.
        layer_norm_epsilon: Added to the mean square before its root.
    """

    d_model: int
    num_layers: int
    num_heads: int
    d_kv: int
    d_ff: int
    max_length: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ByteT5Config:
        """From the content of a ``config.json``.

        Raises:
            MagiUsageError: another kind of model, a field missing, unknown or not positive.
        """
        given = dict(settings)
        if given.pop("model_type", None) != MODEL_TYPE:
            raise MagiUsageError(f'text encoder: model_type is not "{MODEL_TYPE}"')
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if unknown := given.keys() - names:
            raise MagiUsageError(f"text encoder: unknown field {short(min(unknown))}")
        if missing := required - given.keys():
            raise MagiUsageError(f"text encoder: field {min(missing)!r} is missing")
        for name, value in given.items():
            if not isinstance(value, int | float) or value <= 0:
                raise MagiUsageError(
                    f"text encoder: {name} is {short(value)}, not a positive number"
                )
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The inverse of :meth:`from_dict`."""
        return {"model_type": MODEL_TYPE, **asdict(self)}


def tokenize(prompts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Bytes of each prompt and an end-of-sequence token, padded or cut to ``max_length``.

    Returns:
        ids ``[B, max_length]`` int64 and mask ``[B, max_length]`` int64, 1 where there is a token. A
        prompt that is cut keeps its end of sequence, an empty one has nothing else.
    """
    return padded([Bytes.encode(prompt) for prompt in prompts], max_length)


class Bytes:
    """Text ↔ ids: the bytes of its UTF-8."""

    @staticmethod
    def encode(text: str) -> list[int]:
        return [byte + FIRST_BYTE for byte in text.encode()]

    @staticmethod
    def decode(ids: Sequence[int]) -> str:
        """What begins within a character begins with the next one."""
        return bytes(i - FIRST_BYTE for i in ids).decode(errors="ignore")


def padded(rows: Sequence[Sequence[int]], max_length: int) -> tuple[Tensor, Tensor]:
    """Tokens of each prompt → ids and mask ``[B, max_length]``: cut, an end of sequence, padding.

    Every T5 has the same ids for padding and end of sequence.
    """
    ids = torch.full((len(rows), max_length), PAD)
    for place, row in zip(ids, rows, strict=True):
        tokens = [*row[: max_length - 1], EOS]
        place[: len(tokens)] = torch.tensor(tokens)
    return ids, (ids != PAD).long()


class ByteT5(nn.Module):
    """T5 v1.1 encoder over bytes, freshly initialised as T5 is."""

    def __init__(self, config: ByteT5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(VOCABULARY, config.d_model)
        self.encoder = _Stack(config)
        self._initialise()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``ids, mask [B, L]`` of :func:`tokenize` → features ``[B, L, d_model]`` in the weights' dtype.

        Tokens do not see padding; the features at padded places mean nothing.
        """
        return self.encoder(self.shared(ids), mask)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Scales that keep activations near 1 without a 1/√d in the attention: queries start small."""
        c = self.config
        nn.init.normal_(self.shared.weight)
        for module in self.modules():
            if isinstance(module, _SelfAttention):
                nn.init.normal_(module.q.weight, std=(c.d_model * c.d_kv) ** -0.5)
                nn.init.normal_(module.k.weight, std=c.d_model**-0.5)
                nn.init.normal_(module.v.weight, std=c.d_model**-0.5)
                nn.init.normal_(module.o.weight, std=(c.num_heads * c.d_kv) ** -0.5)
            elif isinstance(module, _GatedMLP):
                nn.init.normal_(module.wi_0.weight, std=c.d_model**-0.5)
                nn.init.normal_(module.wi_1.weight, std=c.d_model**-0.5)
                nn.init.normal_(module.wo.weight, std=c.d_ff**-0.5)
            elif isinstance(module, _RelativePositionBias):
                nn.init.normal_(module.weight, std=c.d_model**-0.5)


class _Stack(nn.Module):
    def __init__(self, config: ByteT5Config) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            _Block(config, with_bias=layer == 0) for layer in range(config.num_layers)
        )
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x [B, L, D]``, ``mask [B, L]`` → ``[B, L, D]``."""
        bias = self.get_submodule(_POSITION_BIAS)(x.shape[1])
        # The lowest finite number, not -inf: a row without any token stays finite.
        hidden = torch.finfo(bias.dtype).min
        bias = bias.masked_fill(mask[:, None, None, :] == 0, hidden)
        # The residual stream is float32 at least: rounding it at every block would cost the most.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class _Block(nn.Module):
    def __init__(self, config: ByteT5Config, with_bias: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList((_AttentionLayer(config, with_bias), _MLPLayer(config)))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, mlp = self.layer
        x = x + attention(x, bias)
        return x + mlp(x)


class _AttentionLayer(nn.Module):
    def __init__(self, config: ByteT5Config, with_bias: bool) -> None:
        super().__init__()
        self.SelfAttention = _SelfAttention(config, with_bias)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.SelfAttention(self.layer_norm(x), bias)


class _MLPLayer(nn.Module):
    def __init__(self, config: ByteT5Config) -> None:
        super().__init__()
        self.DenseReluDense = _GatedMLP(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.DenseReluDense(self.layer_norm(x))


class _SelfAttention(nn.Module):
    """Attention of all tokens to all, without the usual 1/√d. The first layer owns the position bias."""

    def __init__(self, config: ByteT5Config, with_bias: bool) -> None:
        super().__init__()
        self.heads = config.num_heads
        inner = config.num_heads * config.d_kv
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if with_bias:
            self.relative_attention_bias = _RelativePositionBias(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``x [B, L, D]``, ``bias [B, heads, L, L]`` added to the logits → ``[B, L, D]``."""
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", h=self.heads)
            for project in (self.q, self.k, self.v)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(rearrange(out, "b h n d -> b n (h d)"))


class _RelativePositionBias(nn.Embedding):
    """One learned number per head and bucket of signed distance: exact near, logarithmic far."""

    def __init__(self, config: ByteT5Config) -> None:
        super().__init__(config.relative_attention_num_buckets, config.num_heads)
        self.max_distance = config.relative_attention_max_distance

    def forward(self, length: int) -> Tensor:  # type: ignore[override]
        """Bias ``[1, heads, L, L]`` of query rows to key columns."""
        places = torch.arange(length, device=self.weight.device)
        buckets = relative_buckets(places - places[:, None], self.num_embeddings, self.max_distance)
        return rearrange(super().forward(buckets), "q k h -> 1 h q k")


def relative_buckets(offset: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Bucket of each signed distance ``key - query``, 0 … ``buckets - 1``.

    Half of the buckets are for keys behind the query. Within a direction half of them hold one distance
    each; the others widen logarithmically up to ``max_distance``.
    """
    half = buckets // 2
    exact = half // 2
    distance = offset.abs()
    growth = math.log(max_distance / exact)
    # a distance of 0 would give log 0; the near branch is taken there anyway
    far = exact + (torch.log(distance.clamp_min(1) / exact) / growth * (half - exact)).long()
    near_or_far = torch.where(distance < exact, distance, far.clamp_max(half - 1))
    return near_or_far + half * (offset > 0)


class _GatedMLP(nn.Module):
    def __init__(self, config: ByteT5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class RMSNorm(nn.Module):
    """Divides by the root mean square over the width, without subtracting a mean; returns the weight's dtype.

    Computed in float32 at least.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(self.weight.dtype)
