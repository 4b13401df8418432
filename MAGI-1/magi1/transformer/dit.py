"""MAGI-1's diffusion transformer: latents, time and text of a few chunks in, their velocity out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from magi1.config import ModelConfig
from magi1.transformer.attention import CacheUse, ChunkAttention, ChunkRange, OneDevice
from magi1.transformer.kernels import TORCH, Kernels, wide
from magi1.transformer.layers import ChunkTexts, LayerInputs, Norm, TransformerLayer
from magi1.transformer.rope import RotaryEmbedding, Rotation
from wmweights import keep_compiled

SINUSOID = 256
ROUNDED_UP = [12, 106]
"""Frequencies of the time embedding that the reference rounded up where down was nearer."""
TEXT_ROW, NO_TEXT_ROW = -2, -1
"""Rows of the null caption that tell adaLN whether there is a text; the caption itself never reaches it."""


def frequencies(device: torch.device) -> Tensor:
    """10000^(−k/128) for k < 128, in float32: on every machine the bits that the reference had.

    Distilled models are told step sizes of up to 32. Times 1000 that turns the last bit of a frequency
    into 2e-3 of an angle, and float32 exponentials differ in that bit from processor to processor. So it
    is taken in float64 (of float32 exponents, as in the reference) and rounded here.
    """
    half = SINUSOID // 2
    steps = torch.arange(half, device=device, dtype=torch.float32)
    values = (-math.log(10_000) * steps / half).double().exp().float()
    above = values.nextafter(torch.ones_like(values))
    for k in ROUNDED_UP:
        values[k] = above[k]
    return values


class TimeEmbedding(nn.Module):
    """Time in [0, 1] → ``[..., c]``: a sinusoid of 1000 t and two linear layers, in float32."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.block_dtype = dtype
        first = nn.Linear(SINUSOID, width, dtype=wide(dtype))
        self.mlp = nn.Sequential(first, nn.SiLU(), nn.Linear(width, width, dtype=wide(dtype)))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[..., None] * frequencies(t.device).to(t.dtype) * 1000
        wide_angles = angles.double()  # processors differ in the sines of float32, too
        sinusoid = torch.cat((wide_angles.cos(), wide_angles.sin()), dim=-1).to(t.dtype)
        # The trained model has only ever seen the sinusoid rounded to the precision of its blocks.
        rounded = (
            sinusoid if t.dtype == torch.float64 else sinusoid.to(self.block_dtype).to(t.dtype)
        )
        out: Tensor = self.mlp(rounded)
        return out


class CaptionEmbedding(nn.Module):
    """Text features → what layers read, and the learned caption that stands for "no text"."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, dtype = config.caption_channels, wide(config.dtype)
        null = torch.zeros(config.caption_max_length, width, dtype=dtype)
        self.null_caption_embedding = nn.Parameter(null)
        self.y_proj_xattn = nn.Sequential(
            nn.Linear(width, config.hidden_size, dtype=dtype), nn.SiLU()
        )
        self.y_proj_adaln = nn.Sequential(nn.Linear(width, config.condition_width, dtype=dtype))

    def condition(self, dropped: bool | Tensor) -> Tensor:
        """The adaLN condition: one of two learned vectors ``[c]``, or ``[…, c]`` for ``dropped […]``."""
        if isinstance(dropped, bool):
            row = self.null_caption_embedding[NO_TEXT_ROW if dropped else TEXT_ROW]
            alike: Tensor = self.y_proj_adaln(row)
            return alike
        both: Tensor = self.y_proj_adaln(self.null_caption_embedding[[TEXT_ROW, NO_TEXT_ROW]])
        return both[dropped.long()]


class TransformerBlocks(nn.Module):
    """The layers and the norm after them."""

    def __init__(self, config: ModelConfig, *, fp8: bool) -> None:
        super().__init__()
        # Released quantised models keep the first and the last layer as they were.
        self.layers = nn.ModuleList(
            TransformerLayer(config, i, fp8=fp8 and 0 < i < config.num_layers - 1)
            for i in range(config.num_layers)
        )
        self.final_layernorm = Norm(config.hidden_size, config, wide(config.dtype))


class FinalLinear(nn.Module):
    """Tokens → the latents of their patches, in float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        outputs = config.patch_size**2 * config.out_channels
        self.linear = nn.Linear(config.hidden_size, outputs, bias=False, dtype=wide(config.dtype))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


class DiT(nn.Module):
    """The transformer, on one device; `parallel` and `offload` change where it runs from outside.

    Args:
        config: Its shape.
        fp8: Whether inner layers hold float8 weights.

    Attributes:
        kernels: What attention and activation are computed with.
        layout: Where tokens live.
        checkpointing: Recompute each layer in the backward pass instead of keeping its activations.
    """

    def __init__(self, config: ModelConfig, *, fp8: bool = False) -> None:
        super().__init__()
        self.config = config
        self.kernels: Kernels = TORCH
        self.layout = OneDevice()
        self.checkpointing = False
        patch = (config.t_patch_size, config.patch_size, config.patch_size)
        self.x_embedder = nn.Conv3d(
            config.in_channels,
            config.hidden_size,
            patch,
            patch,
            bias=False,
            dtype=wide(config.dtype),
        )
        self.t_embedder = TimeEmbedding(config.condition_width, config.dtype)
        self.y_embedder = CaptionEmbedding(config)
        self.rope = RotaryEmbedding(config.kv_channels)
        self.videodit_blocks = TransformerBlocks(config, fp8=fp8)
        self.final_linear = FinalLinear(config)

    @property
    def block_dtype(self) -> torch.dtype:
        """Precision of the layers as they are now."""
        return next(self.videodit_blocks.layers.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return self.x_embedder.weight.device

    def prepare_text(self, features: Tensor, mask: Tensor) -> ChunkTexts:
        """Project the text of each chunk once; the result serves all steps.

        Args:
            features: ``[B, chunks, L, caption_channels]``.
            mask: ``[B, chunks, L]``, nonzero where a token counts; best on the CPU.
        """
        keep = mask != 0
        features = features.to(self.null_features())
        tokens: list[Tensor] = []
        masks: list[Tensor | None] = []
        for j in range(features.shape[1]):
            text, kept = features[:, j], keep[:, j]
            if alike := bool((kept == kept[:1]).all()):
                text = text[:, kept[0].nonzero()[:, 0].to(text.device)]
            tokens.append(self.y_embedder.y_proj_xattn(text).to(self.block_dtype))
            masks.append(None if alike else kept.to(text.device))
        return ChunkTexts(tokens, masks)

    def null_features(self) -> Tensor:
        """The features of "no text", ``[L, caption_channels]``."""
        return self.y_embedder.null_caption_embedding

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        texts: ChunkTexts,
        *,
        first: int = 0,
        ranges: Sequence[ChunkRange] | None = None,
        cached: CacheUse | None = None,
        text_dropped: bool | Tensor = False,
        step_size: float | None = None,
    ) -> Tensor:
        """Velocity (data − noise) of every chunk.

        Args:
            x: Latents ``[B, C, T, H, W]``, T = chunks · chunk width.
            t: Time of each chunk, ``[B, chunks]``: 0 noise, 1 data.
            texts: What each chunk reads (`prepare_text`).
            first: Index of the first chunk in the video: sets the position in time.
            ranges: Chunks that each chunk attends to, as (first, last + 1) in the video. Default: all of
                this call up to the chunk itself.
            cached: Keys and values of earlier chunks; needed where a range begins before ``first``.
            text_dropped: Which of the two adaLN conditions is used: one for all, or ``[B, chunks]``.
            step_size: Distilled models: the step size they are told.

        Returns:
            Like ``x``, in float32.
        """
        chunks = t.shape[1]
        if ranges is None:
            ranges = [(first, first + j + 1) for j in range(chunks)]
        tokens, rotation, grid = self._embed(x, first * (x.shape[2] // chunks))
        layout = self.layout.of(tokens.shape[1])
        inputs = LayerInputs(
            rotation=Rotation(*(layout.split(part) for part in rotation)),
            condition=self._condition(t, text_dropped, step_size),
            texts=texts,
            attention=ChunkAttention(first, ranges, cached),
            segments=layout.segments(chunks, tokens.shape[1] // chunks),
            layout=layout,
            kernels=self.kernels,
        )
        hidden = layout.split(tokens)
        for layer in self.videodit_blocks.layers:
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(
                    layer, hidden, inputs, use_reentrant=False, preserve_rng_state=False
                )
            else:
                hidden = layer(hidden, inputs)
        out = self.final_linear(self.videodit_blocks.final_layernorm(hidden))
        return self._unpatch(layout.gather(out), grid)

    def compile_layers(self) -> None:
        """Compile in place what the layers do to single tokens; attention stays as it is.

        All layers share the compiled code, which rounds where it does without compilation. It is kept for
        the next run.
        """
        keep_compiled()
        from torch._inductor import config as inductor  # takes a second

        # Kinds of layers, with and without gradients, and sizes: more variants than the default limit.
        dynamo = torch._dynamo.config
        dynamo.cache_size_limit = max(dynamo.cache_size_limit, 64)
        exact = hasattr(inductor, "emulate_precision_casts")  # from torch 2.5
        compiled = partial(
            torch.compile, options={"emulate_precision_casts": True} if exact else None
        )
        for layer in self.videodit_blocks.layers:
            assert isinstance(layer, TransformerLayer)
            layer.self_attention.heads = compiled(layer.self_attention.heads)  # type: ignore[method-assign]
            layer.token_local = compiled(layer.token_local)  # type: ignore[method-assign]

    def _embed(self, x: Tensor, first_frame: int) -> tuple[Tensor, Rotation, tuple[int, int]]:
        """Latents → tokens ``[B, S, h]`` in order (T, H, W), their positions, and the token grid."""
        config, weight = self.config, self.x_embedder.weight
        x = x.to(weight.dtype) * config.x_rescale_factor
        if config.half_channel_vae:
            x = torch.cat((x, x), dim=1)
        p = config.patch_size
        patches = rearrange(x, "b c t (h p) (w q) -> b t h w (c p q)", p=p, q=p)
        # The kernel covers its stride, so the convolution is one matrix product.
        tokens = F.linear(patches, weight.flatten(1)).to(self.block_dtype)
        frames, height, width = tokens.shape[1:4]
        rotation = self.rope(frames, height, width, first=first_frame)
        return tokens.flatten(1, 3), rotation, (height, width)

    def _condition(self, t: Tensor, text_dropped: bool | Tensor, step_size: float | None) -> Tensor:
        """Time, step size and "is there a text", ``[B, chunks, c]``."""
        t = t.to(self.x_embedder.weight.dtype)
        time = self.t_embedder(t)
        if step_size is not None:
            time = time + self.t_embedder(torch.full_like(t, step_size))
        return (time + self.y_embedder.condition(text_dropped)).to(self.block_dtype)

    def _unpatch(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        config = self.config
        out = rearrange(
            tokens,
            "b (t h w) (p q c) -> b c t (h p) (w q)",
            h=grid[0],
            w=grid[1],
            p=config.patch_size,
            q=config.patch_size,
        )
        return out[:, : config.latent_channels] / config.x_rescale_factor
