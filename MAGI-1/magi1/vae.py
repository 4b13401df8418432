"""MAGI-1's video VAE: two plain vision transformers with full attention over all tokens of a clip.

A latent stands for ``patch_length`` frames of ``patch_size × patch_size`` pixels (4 × 8 × 8 in the
released model, 16 channels). Parameter names are those of the released checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as checkpointed

from magi1.errors import MagiUsageError
from magi1.standardise import standardise
from magi1.transformer.kernels import sdpa
from wmfiles import short

Grid = tuple[int, int, int]
"""Sizes in time, height and width."""

COLOURS = 3
PREPIXEL_CHANNELS = 4
"""Channels of the last convolution's input where ``use_final_proj`` sets them free of the token width."""

_ALWAYS = {
    "in_chans": COLOURS,
    "double_z": True,
    "qkv_bias": True,
    "with_cls_token": True,
    "ln_in_attn": True,
    "norm_code": False,
    "conv_last_layer": True,
    "use_rope": False,
}
"""Options of the file format that have one value in MAGI-1."""


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The shape of the VAE, by the names of the released ``config.json``.

    Attributes:
        video_size, video_length: Side in pixels and number of frames of the clip whose grid the stored
            position embeddings have.
        patch_size, patch_length: Pixels (height and width) and frames per latent.
        z_chans: Latent channels.
        embed_dim, depth, num_heads: Token width, blocks and attention heads of both transformers.
        mlp_ratio: Width of the MLPs as a multiple of ``embed_dim``.
        use_final_proj: Whether a projection makes the decoder's tokens as wide as a patch of 4 channels.
            Without it the token width is that of a patch, ``embed_dim / (patch_length · patch_size²)``
            channels.
        final_norm: Whether a LayerNorm follows that projection, as in MAGI-1's code. It gives all patches
            the same contrast, which a small decoder can hardly undo.
        encoder_depth, decoder_depth: Blocks of one of the two, where it is not ``depth``.

    Raises:
        MagiUsageError: Sizes that do not fit together.
    """

    video_size: int
    video_length: int
    patch_size: int
    patch_length: int
    z_chans: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    use_final_proj: bool = False
    final_norm: bool = True
    encoder_depth: int | None = None
    decoder_depth: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.type != "bool" and value <= 0:
                raise MagiUsageError(f"VAE: {field.name} must be positive, got {value}")
        multiples = [
            ("embed_dim", "num_heads", self.num_heads),
            ("video_size", "patch_size", self.patch_size),
            ("video_length", "patch_length", self.patch_length),
        ]
        if not self.use_final_proj:
            name = "patch_length · patch_size² (or use_final_proj set)"
            multiples.append(("embed_dim", name, self.patch_volume))
        for name, divisor_name, divisor in multiples:
            if getattr(self, name) % divisor:
                raise MagiUsageError(
                    f"VAE: {name}={getattr(self, name)} must be a multiple of {divisor_name}, {divisor}"
                )

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> VAEConfig:
        """Read the object of a ``config.json``: its ``ddconfig``, or such a section itself.

        Raises:
            MagiUsageError: Something else than this kind of VAE; a field that is missing, has the wrong
                type, or switches on what MAGI-1 does not have. Unknown fields that are off (false, 0,
                null) are let pass.
        """
        if config.get("model_type", "vit") != "vit":
            raise MagiUsageError(
                f"VAE: model_type must be 'vit', got {short(config['model_type'])}"
            )
        section = config.get("ddconfig", config)
        if not isinstance(section, Mapping):
            raise MagiUsageError(f"VAE: ddconfig must be an object, got {short(section)}")
        known = {field.name: field for field in fields(cls)}
        for name in section.keys() - known.keys():
            _refuse_option(name, section[name])
        missing = [n for n, field in known.items() if field.default is MISSING and n not in section]
        if missing:
            raise MagiUsageError(f"VAE: ddconfig lacks {', '.join(missing)}")
        given = known.keys() & section.keys()
        return cls(**{name: _typed(name, section[name], known[name].type) for name in given})

    @property
    def grid(self) -> Grid:
        """Frames, rows and columns of latents that the stored position embeddings are for."""
        side = self.video_size // self.patch_size
        return (self.video_length // self.patch_length, side, side)

    @property
    def patch(self) -> Grid:
        """Frames, rows and columns of pixels per latent."""
        return (self.patch_length, self.patch_size, self.patch_size)

    @property
    def patch_volume(self) -> int:
        """Pixel positions per latent."""
        return self.patch_length * self.patch_size**2

    @property
    def prepixel_channels(self) -> int:
        """Channels of the decoder's last convolution's input."""
        return PREPIXEL_CHANNELS if self.use_final_proj else self.embed_dim // self.patch_volume


def _refuse_option(name: str, value: Any) -> None:
    if name in _ALWAYS and value != _ALWAYS[name]:
        raise MagiUsageError(f"VAE: {name} must be {_ALWAYS[name]}, got {short(value)}")
    if name not in _ALWAYS and not name.startswith("_") and value not in (None, False, 0):
        raise MagiUsageError(f"VAE: unknown option {name[:80]}={short(value)} in ddconfig")


def _typed(name: str, value: Any, kind: Any) -> Any:
    """``value`` if it has the type that a field's annotation names."""
    if kind == "bool":
        fits = isinstance(value, bool)
    elif kind == "float":
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        fits = isinstance(value, int) and not isinstance(value, bool)
        fits = fits or (value is None and kind.endswith("| None"))
    if not fits:
        raise MagiUsageError(f"VAE: {name} must be of type {kind}, got {short(value)}")
    return value


class Attention(nn.Module):
    """Self-attention whose queries, keys and values are each standardised over the channels of a head.

    This takes the place of a norm in front of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, D]`` → ``[B, N, D]``."""
        qkv = rearrange(self.qkv(x), "b n (three h d) -> b n three h d", three=3, h=self.heads)
        q, k, v = standardise(qkv).unbind(2)
        return self.proj(sdpa(q, k, v).flatten(2))


class MLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` → ``[..., D]``."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Transformer block: ``x + attention(x)``, then ``x + MLP(norm(x))``."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.attn = Attention(config.embed_dim, config.num_heads)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.mlp = MLP(config.embed_dim, int(config.embed_dim * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, D]`` → ``[B, N, D]``."""
        x = x + self.attn(x)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """What encoder and decoder share: class token, positions, blocks and the norm after them."""

    def __init__(self, config: VAEConfig, depth: int) -> None:
        super().__init__()
        self.grid = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        positions = 1 + self.grid[0] * self.grid[1] * self.grid[2]
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, config.embed_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(depth))
        self.norm = nn.LayerNorm(config.embed_dim)
        self._kept: dict[Grid, tuple[object, Tensor]] = {}

    def transform(self, x: Tensor, grid: Grid, checkpoint: bool) -> Tensor:
        """Tokens ``[B, T·H·W, D]`` of a ``grid`` of T × H × W → the same, transformed.

        ``checkpoint`` recomputes the blocks' activations in the backward pass instead of keeping them.
        """
        cls = self.cls_token.expand(len(x), -1, -1)
        x = torch.cat((cls, x), dim=1) + self.positions(grid)
        for block in self.blocks:
            if checkpoint and torch.is_grad_enabled():
                x = checkpointed(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
        return self.norm(x[:, 1:])

    def positions(self, grid: Grid) -> Tensor:
        """Position embeddings ``[1, 1 + T·H·W, D]`` of another grid, by trilinear interpolation.

        Of weights that are frozen they are kept: on a GPU they would take a tenth of the time of a clip.
        """
        if grid == self.grid:
            return self.pos_embed
        weights = self.pos_embed
        if weights.requires_grad or weights.is_inference():  # the latter do not tell of changes
            return self._resized_to(grid)
        of = (weights.data_ptr(), weights._version, weights.dtype, weights.device)
        if grid not in self._kept or self._kept[grid][0] != of:
            with torch.inference_mode(False):  # else it could not take part in a later gradient
                self._kept[grid] = (of, self._resized_to(grid))
        return self._kept[grid][1]

    def _resized_to(self, grid: Grid) -> Tensor:
        stored = self.pos_embed[:, 1:].unflatten(1, self.grid)
        resized = F.interpolate(
            rearrange(stored, "b t h w d -> b d t h w"), grid, mode="trilinear", align_corners=False
        )
        resized = rearrange(resized, "b d t h w -> b (t h w) d")
        return torch.cat((self.pos_embed[:, :1], resized), dim=1)


class PatchEmbed(nn.Module):
    """Cuts a video into patches and maps each to one token."""

    def __init__(self, width: int, patch: Grid) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(COLOURS, width, kernel_size=patch, stride=patch)

    def forward(self, video: Tensor) -> Tensor:
        """``[B, 3, pT T, p H, p W]`` → ``[B, T·H·W, D]``."""
        patches = rearrange(
            video,
            "b c (t dt) (h dh) (w dw) -> b (t h w) (c dt dh dw)",
            **_named(self.patch, "dt", "dh", "dw"),
        )
        # A convolution whose stride is its kernel is a matrix product, which is the faster kernel everywhere.
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Encoder(Transformer):
    """Pixels → moments of the latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, config.encoder_depth or config.depth)
        self.patch_embed = PatchEmbed(config.embed_dim, config.patch)
        self.last_layer = nn.Linear(config.embed_dim, 2 * config.z_chans)

    def forward(self, video: Tensor, checkpoint: bool = False) -> Tensor:
        """``[B, 3, pT T, p H, p W]`` → ``[B, 2 z, T, H, W]``: means, then log-variances."""
        frames, height, width = video.shape[2:]
        length, side, _ = self.patch_embed.patch
        grid = (frames // length, height // side, width // side)
        x = self.last_layer(self.transform(self.patch_embed(video), grid, checkpoint))
        return rearrange(x, "b (t h w) c -> b c t h w", **_named(grid, "t", "h", "w"))


class ColourConv(nn.Conv3d):
    """The 3 × 3 × 3 convolution behind the decoder, zero padding."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, H, W]`` → ``[B, 3, T, H, W]``."""
        if len(x) > 1:
            return super().forward(x)
        # For a single clip torch's Conv3d is 3 to 5 times slower on CPUs (not so for several) than the
        # same sum as a Conv2d whose channels are those of three frames.
        frames = F.pad(x[0], (0, 0, 0, 0, 1, 1)).unfold(1, 3, 1)
        frames = rearrange(frames, "c t h w dt -> t (c dt) h w")
        out = F.conv2d(frames, self.weight.flatten(1, 2), self.bias, padding=1)
        return rearrange(out, "t c h w -> 1 c t h w")


class Decoder(Transformer):
    """Latents → pixels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, config.decoder_depth or config.depth)
        self.patch = config.patch
        channels = config.prepixel_channels
        self.proj_in = nn.Linear(config.z_chans, config.embed_dim)
        self.final_proj: nn.Module = nn.Identity()
        self.final_norm: nn.Module = nn.Identity()
        if config.use_final_proj:
            self.final_proj = nn.Linear(config.embed_dim, channels * config.patch_volume)
            if config.final_norm:
                self.final_norm = nn.LayerNorm(channels * config.patch_volume)
        self.last_layer = ColourConv(channels, COLOURS, kernel_size=3, padding=1)

    def forward(self, latent: Tensor, checkpoint: bool = False) -> Tensor:
        """``[B, z, T, H, W]`` → ``[B, 3, pT T, p H, p W]``."""
        grid = (latent.shape[2], latent.shape[3], latent.shape[4])
        # Contiguous: torch rounds a linear layer of a strided half-precision tensor twice, the bias apart.
        tokens = rearrange(latent, "b c t h w -> b (t h w) c").contiguous()
        x = self.transform(self.proj_in(tokens), grid, checkpoint)
        x = rearrange(
            self.final_norm(self.final_proj(x)),
            "b (t h w) (dt dh dw c) -> b c (t dt) (h dh) (w dw)",
            **_named(grid, "t", "h", "w"),
            **_named(self.patch, "dt", "dh", "dw"),
        )
        return self.last_layer(x)


def _named(sizes: Grid, *axes: str) -> dict[str, int]:
    return dict(zip(axes, sizes, strict=True))


class VAE(nn.Module):
    """Encoder and decoder. All computation is in the precision of the weights.

    With bfloat16 weights this rounds where CUDA autocast does, too: LayerNorm computes in float32
    inside, and what autocast leaves in float32 after it is rounded by the next linear layer anyway.

    Attributes:
        checkpoint: Recompute activations in the backward pass, block by block, instead of keeping them
            (gradient checkpointing): the memory of a gradient is then about that of one block.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint = False
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.apply(_initialise)

    def moments(self, video: Tensor) -> Tensor:
        """The encoder's output: means, then log-variances of the latents' distribution.

        Args:
            video: ``[B, 3, T, H, W]`` in [-1, 1]. One frame stands for ``patch_length`` equal ones.
                Otherwise the frames beyond a multiple of ``patch_length`` are left out.

        Returns:
            ``[B, 2 z, T/pT, H/p, W/p]``.

        Raises:
            MagiUsageError: Another shape, fewer frames than a patch has, or a height or width that is
                not a multiple of the patch.
        """
        self.check_video(video)
        length = self.config.patch_length
        if video.shape[2] == 1:
            video = video.expand(-1, -1, length, -1, -1)
        video = video[:, :, : video.shape[2] // length * length]
        return self.encoder(video.to(self.dtype), self.checkpoint)

    def encode(self, video: Tensor) -> Tensor:
        """The latents' mean ``[B, z, T/pT, H/p, W/p]``; arguments and errors of :meth:`moments`."""
        return self.moments(video)[:, : self.config.z_chans]

    def decode(self, latent: Tensor, checkpoint: bool | None = None) -> Tensor:
        """Latents → pixels.

        Args:
            latent: ``[B, z, T, H, W]``, without the scale factor of the diffusion model.
            checkpoint: Instead of the attribute of this name.

        Returns:
            ``[B, 3, pT T, p H, p W]`` in about [-1, 1], not clamped; one frame for one latent frame.

        Raises:
            MagiUsageError: Another shape.
        """
        self.check_latent(latent)
        checkpoint = self.checkpoint if checkpoint is None else checkpoint
        video = self.decoder(latent.to(self.dtype), checkpoint)
        return video[:, :, :1] if latent.shape[2] == 1 else video

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.decoder.proj_in.weight.dtype

    def check_video(self, video: Tensor) -> None:
        """Raise ``MagiUsageError`` unless :meth:`moments` can take this video."""
        patch, length = self.config.patch_size, self.config.patch_length
        shape = tuple(video.shape)
        if len(shape) != 5 or shape[1] != COLOURS:
            raise MagiUsageError(f"VAE: a video must be [B, {COLOURS}, T, H, W], got {shape}")
        frames, height, width = shape[2:]
        if frames != 1 and frames < length:
            raise MagiUsageError(f"VAE: {frames} frames to encode; give 1, or at least {length}")
        if not height or not width or height % patch or width % patch:
            raise MagiUsageError(f"VAE: frames of {height} × {width}; use multiples of {patch}")

    def check_latent(self, latent: Tensor) -> None:
        """Raise ``MagiUsageError`` unless :meth:`decode` can take these latents."""
        shape, channels = tuple(latent.shape), self.config.z_chans
        if len(shape) != 5 or shape[1] != channels or 0 in shape:
            raise MagiUsageError(f"VAE: latents must be [B, {channels}, T, H, W], got {shape}")


def _initialise(module: nn.Module) -> None:
    """Starting values for training, as is usual for vision transformers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Transformer):
        nn.init.trunc_normal_(module.cls_token, std=0.02)
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
