"""Prompt, image or video in, frames out: text encoder, VAE, transformer and sampler put together.

Each network is loaded when it is first needed. The text encoder comes first and leaves again once the prompt
is read (:mod:`magi1.text.features`); with ``offload`` the VAE and the transformer's layers are on the GPU
only while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from magi1.config import MagiConfig
from magi1.errors import MagiError, MagiUsageError
from magi1.files.blame import blamed, check_finite
from magi1.files.checkpoint import LoadedWeights, load_dit, load_vae
from magi1.pixels import from_uint8, to_uint8
from magi1.pullback import tiled_pullback
from magi1.sampling.sampler import (
    FinishedChunk,
    Guide,
    LoopState,
    NotFiniteError,
    denoise,
    make_noise,
    with_prefix,
)
from magi1.sampling.schedule import ChunkCall, VideoLayout, chunk_calls, time_steps
from magi1.sampling.velocity import MagiVelocity, VideoTexts
from magi1.text.chunk_texts import ChunkText, SpecialTokens, chunk_text, load_token_vectors
from magi1.text.encoder import TextFeatures
from magi1.text.features import PromptFeatures
from magi1.text.reader import CutPrompt, PromptReader
from magi1.tiling import TileMap, Tiling, map_tiles, tiled_decode, tiled_encode
from magi1.transformer.dit import DiT
from magi1.transformer.kernels import KernelChoice, find_kernels
from magi1.transformer.kv_cache import KVCache
from magi1.transformer.offload import offload_layers, resident
from magi1.vae import VAE
from wmweights import first_not_finite

MAX_PREFIX_FRAMES = 32
"""Given frames that are used at most."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate.

    Attributes:
        prompt: One text, or one for each generated chunk.
        negative_prompt: What to guide away from; empty for the model's own "no text".
        given: Frames to continue, uint8 ``[T, H, W, 3]`` at the configuration's size and rate: one is an
            image that opens the video; of a longer video the first 32 are used and not repeated.
        tokens: Special tokens put before the text.
    """

    prompt: str | Sequence[str]
    negative_prompt: str = ""
    given: Tensor | None = None
    tokens: SpecialTokens = field(default_factory=SpecialTokens)

    @property
    def prompts(self) -> list[str]:
        """One, or one for each chunk."""
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)

    @property
    def texts(self) -> list[str]:
        """All that the text encoder reads: the prompts, then the negative one, where there is one."""
        return [*self.prompts, *([self.negative_prompt] if self.negative_prompt else [])]


@dataclass(frozen=True)
class Prepared:
    """A request as the sampler takes it: reusable for any number of seeds.

    Attributes:
        layout: Frames and chunks.
        text: Features of every chunk.
        prefix: Latents of the given frames ``[1, C, P, H/8, W/8]``, scaled, or None.
        cut: Prompts that the text encoder did not read to their ends.
    """

    layout: VideoLayout
    text: ChunkText
    prefix: Tensor | None
    cut: tuple[CutPrompt, ...] = ()


@dataclass(frozen=True)
class VideoChunk:
    """Some frames of the result, in order.

    Attributes:
        frames: uint8 ``[T, H, W, 3]`` on the CPU.
        finished: The latents, and the state to go on from.
    """

    frames: Tensor
    finished: FinishedChunk


class Pipeline:
    """MAGI-1 as a whole.

    Args:
        config: Which model, and how it samples.
        device: Where it runs.
        dtype: Precision of the transformer's layers; the configuration's by default.
        offload: Stream the transformer's layers from host memory, and keep the VAE there while idle.
        compiled: Compile the transformer's layers: seconds at the start, and then a sixth faster. Not with
            ``offload``.
        kernels: ``torch``, or ``flash`` where those packages are installed.
        special_tokens: The file ``special_tokens.npz``, where a request asks for such tokens.
        text_folder: Where text features are kept for other runs, too.

    Attributes:
        text: What the text encoder says of prompts.
        weights: What was loaded so far.
        tile_map: Runs the VAE's tiles; may be replaced by one that deals them to several processes.
    """

    def __init__(
        self,
        config: MagiConfig,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        offload: bool = False,
        compiled: bool = False,
        kernels: KernelChoice = "torch",
        special_tokens: str | Path = "special_tokens.npz",
        text_folder: Path | None = None,
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.dtype = dtype or config.model_config.dtype
        self.offload = offload
        self.compiled = compiled
        self.kernels = find_kernels(kernels)
        self.special_tokens = special_tokens
        self.text = PromptFeatures(config, self.device, text_folder)
        self.weights: list[LoadedWeights] = []
        self.tile_map: TileMap = map_tiles

    # --- networks ---------------------------------------------------------------------------------------

    @cached_property
    def dit(self) -> DiT:
        """The transformer."""
        quantised = self.config.engine_config.fp8_quant
        dtype = None if quantised or self.dtype == self.config.model_config.dtype else self.dtype
        home = "cpu" if self.offload else self.device
        dit, loaded = load_dit(self.config, device=home, dtype=dtype)
        dit.kernels = self.kernels
        if self.compiled:
            dit.compile_layers()
        if self.offload:
            offload_layers(dit, self.device)
        self.weights.append(loaded)
        return dit

    @cached_property
    def vae(self) -> VAE:
        """The VAE, in the precision of the transformer's layers."""
        home = "cpu" if self.offload else self.device
        vae, loaded = load_vae(self.config, device=home, dtype=self.dtype)
        vae.checkpoint = True  # gradients of a guide in bounded memory
        self.weights.append(loaded)
        if first_not_finite(vae) is not None:
            raise blamed("", "VAE", vae, self.weights)
        return vae

    @property
    def tiling(self) -> Tiling:
        """The VAE works on half a second at a time."""
        return Tiling(frames=self.config.runtime_config.fps // 2)

    @property
    def decode_unit(self) -> int:
        """The same in latent frames."""
        return self.tiling.frames // self.config.runtime_config.temporal_downsample_factor

    # --- in ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, request: Request) -> Prepared:
        """Read the text and encode the given frames.

        Raises:
            MagiUsageError: given frames of a wrong shape or number, more prompts than chunks.
            MagiError, WeightsError: weights that are missing or damaged.
        """
        encoded = self.text.features(request.texts)
        prefix = None if request.given is None else self._encode_given(request.given)
        given = 0 if prefix is None else prefix.shape[2]
        layout = VideoLayout.plan(self.config.runtime_config, given)
        text = self._chunk_text(encoded, request, layout)
        return Prepared(layout, text, prefix, tuple(cut_prompts(self.text.reader, request)))

    def _encode_given(self, frames: Tensor) -> Tensor:
        runtime = self.config.runtime_config
        size = (runtime.video_size_h, runtime.video_size_w, 3)
        if frames.ndim != 4 or frames.shape[1:] != size or frames.dtype != torch.uint8:
            raise MagiUsageError(
                f"given frames must be uint8 [T, {size[0]}, {size[1]}, 3], "
                f"got {frames.dtype} {list(frames.shape)}"
            )
        used = usable_frames(len(frames), runtime.temporal_downsample_factor)
        if not used:
            raise MagiUsageError(
                f"a given video needs at least {runtime.temporal_downsample_factor} frames, "
                f"got {len(frames)}; a single image is given as one frame"
            )
        with resident(self.vae, self.device):
            video = from_uint8(frames[:used].to(self.device), self.vae.dtype)[None]
            latents = tiled_encode(self.vae, video, self.tiling, self.tile_map)
        check_finite(latents, "latents of the given frames", "VAE", self.vae, self.weights)
        return (latents * runtime.scale_factor).float()

    def _chunk_text(
        self, encoded: TextFeatures, request: Request, layout: VideoLayout
    ) -> ChunkText:
        null = self.dit.null_features().float().cpu()
        vectors = load_token_vectors(self.special_tokens, request.tokens)

        def chunks_of(features: TextFeatures) -> ChunkText:
            return chunk_text(
                features,
                null,
                chunks=layout.chunks,
                prefix_chunks=layout.offset,
                tokens=request.tokens,
                vectors=vectors,
            )

        own_texts = len(request.prompts)
        text = chunks_of(TextFeatures(*(part[:own_texts] for part in encoded)))
        if not request.negative_prompt or self.config.runtime_config.cfg_number == 1:
            return text
        against = chunks_of(TextFeatures(*(part[own_texts:] for part in encoded)))
        # It stands for "no text" where finished and given chunks are context, too.
        rows = [max(chunk, layout.offset) for chunk in range(layout.chunks)]
        return ChunkText(
            torch.stack((text.y[0], against.y[0, rows])),
            torch.stack((text.mask[0], against.mask[0, rows])),
        )

    # --- out --------------------------------------------------------------------------------------------

    def sample(
        self,
        prepared: Prepared,
        *,
        seed: int | None = None,
        noise: Tensor | None = None,
        guide: Guide | None = None,
        resume: LoopState | None = None,
        released: bool = False,
        on_call: Callable[[ChunkCall, Tensor], None] | None = None,
    ) -> Iterator[VideoChunk]:
        """Generate a video; yields frames chunk by chunk.

        Args:
            prepared: From :meth:`prepare`.
            seed: Of the noise; the configuration's by default.
            noise: Used instead, ``[B, C, T, H/8, W/8]``: B videos at once, of which the first is decoded;
                :meth:`decode` makes the frames of the others.
            guide: May replace the velocity of every step.
            resume: Go on from here. Chunks that were finished before are not yielded again; :meth:`decode`
                makes their frames.
            released: Decode as the released code does: the opening image as the steps left it, and a
                continued video's first piece in tiles of its own, which loses three of its frames.
            on_call: Told of every step and the state after it.
        """
        runtime, engine = self.config.runtime_config, self.config.engine_config
        layout = prepared.layout
        _ = self.vae  # what is wrong with it shows before a chunk is sampled
        if noise is None:
            noise = self.noise(layout, runtime.seed if seed is None else seed)
        prefix = prepared.prefix
        if prefix is not None:
            prefix = prefix.expand(len(noise), -1, -1, -1, -1)
        texts = VideoTexts.prepare(
            self.dit, prepared.text.y.to(self.device), prepared.text.mask, batch=len(noise)
        )
        cache = KVCache(offload=self.offload or engine.kv_offload)
        pieces = denoise(
            MagiVelocity(self.dit, self.config, texts, cache),
            noise.to(self.device, torch.float32),
            time_steps(runtime.num_steps, shortcut_mode=engine.shortcut_mode),
            chunk_calls(layout, runtime),
            layout,
            prefix=prefix,
            guide=guide,
            decode=_Decoder(self),
            decode_unit=self.decode_unit,
            frames_per_latent=runtime.temporal_downsample_factor,
            resume=resume,
            on_call=on_call,
        )
        # Gradients of a guide pass through the VAE after it was called: it has to stay.
        stays = nullcontext() if guide is None else resident(self.vae, self.device)
        with stays, self._blaming():
            for piece in pieces:
                yield VideoChunk(self.decode(prepared, piece, released=released), piece)

    def noise(self, layout: VideoLayout, seed: int) -> Tensor:
        """The noise of a seed, ``[1, C, T, H/8, W/8]``."""
        runtime, channels = self.config.runtime_config, self.config.model_config.latent_channels
        return make_noise(layout, channels, runtime.latent_height, runtime.latent_width, seed)

    @torch.no_grad()
    def decode(
        self, prepared: Prepared, piece: FinishedChunk, *, released: bool = False, row: int = 0
    ) -> Tensor:
        """The frames that a finished chunk adds, uint8 ``[T, H, W, 3]`` on the CPU; of several videos at
        once, those of one ``row``.

        The VAE's units of half a second are counted from the beginning of the video, so the first new
        frames after a given video are decoded together with its last ones.
        """
        if released:
            latents, known = piece.latents[row, None], 0
        else:
            runtime = self.config.runtime_config
            emitted = prepared.layout.emitted(piece.chunk)
            start = emitted.start - emitted.start % self.decode_unit
            shown = with_prefix(piece.state.latents[row, None], prepared.prefix)
            latents = shown[:, :, start : emitted.stop]
            known = (emitted.start - start) * runtime.temporal_downsample_factor
        with resident(self.vae, self.device):
            frames = to_uint8(self._decode(latents)[0])
        return frames[known:].cpu()

    def _decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → video in about [−1, 1]; differentiable."""
        if not torch.isfinite(latents).all():
            raise MagiError(
                "latents to be decoded are infinite or not numbers: guidance is too strong; lower "
                "--guidance_scale"
            )
        scale = self.config.runtime_config.scale_factor
        video = tiled_decode(self.vae, latents / scale, self.tiling, self.tile_map)
        check_finite(video, "decoded frames", "VAE", self.vae, self.weights)
        return video

    def _pulled_back(self, latents: Tensor, towards: Sequence[Tensor]) -> list[Tensor]:
        """Gradients at what :meth:`_decode` returns → gradients at the latents."""
        scale = self.config.runtime_config.scale_factor
        found = tiled_pullback(self.vae, latents / scale, towards, self.tiling, self.tile_map)
        return [gradient / scale for gradient in found]

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Say why a velocity is not finite."""
        try:
            yield
        except NotFiniteError as error:
            if error.guided:
                raise
            scales = self.config.runtime_config
            largest = max(map(abs, (*scales.text_scales, *scales.prev_chunk_scales)))
            told = f"{error} (the largest of text_scales and prev_chunk_scales is {largest:g})"
            raise blamed(told, "transformer", self.dit, self.weights) from error


@dataclass(frozen=True)
class _Decoder:
    """What a guide decodes with: as the pipeline is when it is asked."""

    pipeline: Pipeline

    def __call__(self, latents: Tensor) -> Tensor:
        """Scaled latents ``[B, C, T, H, W]`` → video in about [−1, 1]; differentiable."""
        return self.pipeline._decode(latents)

    def pulled_back(self, latents: Tensor, towards: Sequence[Tensor]) -> list[Tensor]:
        """Gradients at the video → gradients at the latents, without a graph."""
        return self.pipeline._pulled_back(latents, towards)


def cut_prompts(reader: PromptReader, request: Request) -> tuple[CutPrompt, ...]:
    """The prompts of a request that a text encoder does not read to their ends."""
    found = [reader.cut(prompt, request.tokens.before_text) for prompt in request.prompts]
    found.append(reader.cut(request.negative_prompt, request.tokens.before_text))
    return tuple(cut for cut in found if cut is not None)


def usable_frames(count: int, unit: int) -> int:
    """How many of ``count`` given frames are used: one, or a multiple of ``unit`` up to 32."""
    return count if count == 1 else min(count, MAX_PREFIX_FRAMES) // unit * unit
