"""MAGI-1 as the benchmarks want a generator: many scenes at once, each with its own prompt, prefix and seed.

    python -m benchmarks.generator_quality --generator benchmarks.shared.magi_generator:tiny \\
        --settings '[{}, {"num_steps": 8}, {"transform": "identity"}, {"prev_chunk_scales": 1.5}]'

Row by row it makes what :class:`magi1.pipeline.Pipeline` makes. Networks are loaded once per process,
however many settings are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from magi1.config import DTYPES, MagiConfig, RuntimeConfig
from magi1.errors import MagiUsageError
from magi1.pipeline import Pipeline
from magi1.sampling.sampler import Guide, denoise, make_noise, with_prefix
from magi1.sampling.schedule import SHIFT, TimeTransform, VideoLayout, chunk_calls, time_steps
from magi1.sampling.velocity import MagiVelocity, VideoTexts
from magi1.text.chunk_texts import chunk_text
from magi1.text.encoder import TextFeatures
from magi1.tiling import tiled_decode, tiled_encode

TINY = Path(__file__).parents[2] / "MAGI-1" / "example" / "tiny" / "tiny_config.json"

MakeGuide = Callable[[], Guide]
"""A guide remembers what it saw of a batch, so that each batch has its own."""

_PER_INTERVAL = ("prev_chunk_scales", "text_scales")


@lru_cache(maxsize=2)
def load(config_file: Path, device: torch.device, dtype: torch.dtype | None) -> Pipeline:
    """Networks, from memory if they were loaded before."""
    return Pipeline(MagiConfig.load(config_file), device=device, dtype=dtype)


@dataclass(frozen=True)
class Asked:
    """What B videos are to show, as the sampler takes it: reusable for any seeds and guides.

    Attributes:
        runtime: Settings, with the number of frames.
        layout: Frames and chunks.
        texts: What each video's chunks read.
        prefix: Given latents ``[B, C, P, H/8, W/8]``, or None.
    """

    runtime: RuntimeConfig
    layout: VideoLayout
    texts: VideoTexts
    prefix: Tensor | None


class MagiGenerator:
    """A :class:`benchmarks.shared.generators.Generator`; see there for the methods without a description.

    Args:
        networks: What generates.
        runtime: How it samples.
        transform, shift: Of the time steps (`magi1.sampling.schedule.time_steps`).
        make_guide: Makes the guide of each batch.
        settings: What to tell about it.
    """

    def __init__(
        self,
        networks: Pipeline,
        runtime: RuntimeConfig,
        *,
        transform: TimeTransform = "sd3",
        shift: float = SHIFT,
        make_guide: MakeGuide | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.networks, self.runtime = networks, runtime
        self.device = networks.device
        self.make_guide = make_guide
        self.settings = settings or {}
        engine = networks.config.engine_config
        self.times = time_steps(
            runtime.num_steps,
            transform=transform,
            shift=shift,
            shortcut_mode=engine.shortcut_mode,
        )

    def describe(self) -> dict[str, Any]:
        networks = self.networks
        _ = networks.dit, networks.vae  # which weights they have is known once they are loaded
        return {
            "name": networks.config.model_config.model_name,
            "weights": {loaded.part: loaded.fingerprint for loaded in networks.weights},
            "dtype": str(networks.dit.block_dtype).removeprefix("torch."),
            "settings": self.settings,
        }

    def continue_video(
        self, prefix: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        asked = self.ask(prompts, frames, prefix)
        return self.generate(asked, seeds)[:, :, :frames]

    def from_image(
        self, images: Tensor, frames: int, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Tensor:
        # The latent of an image stands for the last of its four frames: from there the video goes on.
        before = self.runtime.temporal_downsample_factor - 1
        asked = self.ask(prompts, frames - 1, images[:, :, None])
        return self.generate(asked, seeds)[:, :, before : before + frames]

    def from_text(self, prompts: Sequence[str], frames: int, seeds: Sequence[int]) -> Tensor:
        return self.generate(self.ask(prompts, frames, None), seeds)[:, :, :frames]

    @torch.no_grad()
    def reconstruct(self, videos: Tensor) -> Tensor:
        return _shown(self._decode(self._encode(videos)))[:, :, : videos.shape[2]]

    # --- in ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def ask(self, prompts: Sequence[str], frames: int, given: Tensor | None) -> Asked:
        """Read prompts and encode what is given.

        Args:
            prompts: One for each video.
            frames: New frames; rounded up to whole chunks.
            given: ``[B, 3, P, H, W]`` in [0, 1]; P = 1 is an image.

        Raises:
            MagiUsageError: prefixes that are no whole number of latents, or of another size.
        """
        unit = self.runtime.temporal_downsample_factor
        runtime = replace(self.runtime, num_frames=-(-frames // unit) * unit)
        prefix = None if given is None else self._encode(self._checked(given))
        layout = VideoLayout.plan(runtime, 0 if prefix is None else prefix.shape[2])
        return Asked(runtime, layout, self._read(prompts, layout), prefix)

    def _checked(self, given: Tensor) -> Tensor:
        runtime = self.runtime
        unit, size = (
            runtime.temporal_downsample_factor,
            (runtime.video_size_h, runtime.video_size_w),
        )
        frames = given.shape[2]
        if given.shape[3:] != size or (frames != 1 and frames % unit):
            raise MagiUsageError(
                f"given videos must be [B, 3, 1 or a multiple of {unit}, {size[0]}, {size[1]}], "
                f"got {list(given.shape)}"
            )
        return given

    def _encode(self, videos: Tensor) -> Tensor:
        """RGB in [0, 1], in steps of a byte as from a file → scaled latents in float32."""
        networks = self.networks
        vae = networks.vae
        pixels = (videos.to(self.device) * 255).round() / 127.5 - 1
        latents = tiled_encode(vae, pixels.to(vae.dtype), networks.tiling)
        return (latents * self.runtime.scale_factor).float()

    def _read(self, prompts: Sequence[str], layout: VideoLayout) -> VideoTexts:
        networks = self.networks
        different = list(dict.fromkeys(prompts))
        read = networks.text.features(different)
        null = networks.dit.null_features().float()
        texts = [
            chunk_text(
                TextFeatures(features[None], mask[None]),
                null,
                chunks=layout.chunks,
                prefix_chunks=layout.offset,
            )
            for features, mask in zip(*read, strict=True)
        ]
        rows = torch.tensor([different.index(prompt) for prompt in prompts])
        features = torch.stack([text.y for text in texts])
        mask = torch.stack([text.mask for text in texts])
        return VideoTexts.prepare(networks.dit, features, mask).select(rows)

    # --- out --------------------------------------------------------------------------------------------

    def generate(
        self, asked: Asked, seeds: Sequence[int], make_guide: MakeGuide | None = None
    ) -> Tensor:
        """The new frames (after an image: all) of B videos, ``[B, 3, T, H, W]`` in [0, 1].

        Args:
            asked: From `ask`.
            seeds: One for each video.
            make_guide: Instead of the generator's own.
        """
        layout, unit = asked.layout, self.networks.decode_unit
        latents = self.latents(asked, seeds, make_guide)
        first = layout.emitted(layout.offset).start
        start = first - first % unit
        known = (first - start) * asked.runtime.temporal_downsample_factor
        with torch.no_grad():
            return _shown(self._decode(latents[:, :, start:])[:, :, known:])

    def latents(
        self, asked: Asked, seeds: Sequence[int], make_guide: MakeGuide | None = None
    ) -> Tensor:
        """Scaled latents of whole videos, what is given in place: ``[B, C, T, H/8, W/8]``."""
        networks, runtime, layout = self.networks, asked.runtime, asked.layout
        make_guide = make_guide or self.make_guide
        noise = [
            make_noise(
                layout,
                networks.config.model_config.latent_channels,
                runtime.latent_height,
                runtime.latent_width,
                seed,
            )
            for seed in seeds
        ]
        config = replace(networks.config, runtime_config=runtime)
        *_, last = denoise(
            MagiVelocity(networks.dit, config, asked.texts),
            torch.cat(noise).to(self.device),
            self.times,
            chunk_calls(layout, runtime),
            layout,
            prefix=asked.prefix,
            guide=make_guide() if make_guide else None,
            decode=self._decode,
            decode_unit=networks.decode_unit,
            frames_per_latent=runtime.temporal_downsample_factor,
        )
        return with_prefix(last.state.latents, asked.prefix)

    def _decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → video in about [−1, 1]; differentiable."""
        networks = self.networks
        return tiled_decode(networks.vae, latents / self.runtime.scale_factor, networks.tiling)


def _shown(video: Tensor) -> Tensor:
    """About [−1, 1] → [0, 1]."""
    return (video.float() / 2 + 0.5).clamp(0, 1)


def tiny(
    *,
    device: torch.device,
    config: str | Path = TINY,
    dtype: str | None = None,
    transform: str = "sd3",
    shift: float = SHIFT,
    make_guide: MakeGuide | None = None,
    **runtime: Any,
) -> MagiGenerator:
    """The embedded generator, or that of another configuration.

    Args:
        device: Where it runs.
        config: The configuration file.
        dtype: Of the transformer's layers and the VAE: ``float32``, ``bfloat16`` or ``float16``.
        transform: Of the time steps: ``sd3``, ``square``, ``piecewise`` or ``identity``.
        shift: Of ``sd3``: how far steps are bent towards noise.
        make_guide: Makes a guide for each batch.
        runtime: Anything of the configuration's ``runtime_config``, such as ``num_steps``; a guidance scale
            may be one number, which then holds in the intervals where the configuration's differs
            from what a scale of no effect would be (1 for previous chunks, 0 for text).

    Raises:
        MagiUsageError: a setting that does not exist or makes no sense.
    """
    told = {"config": str(config), "dtype": dtype, "transform": transform, "shift": shift} | runtime
    if transform not in get_args(TimeTransform):
        raise MagiUsageError(
            f"transform={transform!r} must be one of {', '.join(get_args(TimeTransform))}"
        )
    if dtype is not None and f"torch.{dtype}" not in DTYPES:
        raise MagiUsageError(f"dtype={dtype!r} must be one of float32, bfloat16, float16")
    networks = load(Path(config), device, None if dtype is None else getattr(torch, dtype))
    return MagiGenerator(
        networks,
        _with(networks.config.runtime_config, runtime),
        transform=transform,  # type: ignore[arg-type]
        shift=shift,
        make_guide=make_guide,
        settings=told,
    )


def _with(runtime: RuntimeConfig, changes: dict[str, Any]) -> RuntimeConfig:
    known = {field.name for field in fields(RuntimeConfig)}
    if unknown := sorted(changes.keys() - known):
        raise MagiUsageError(
            f"setting {unknown[0]!r} is unknown; besides those of benchmarks.shared.magi_generator:tiny "
            f"there are {', '.join(sorted(known))}"
        )
    values = dict(_listed(runtime, changes))
    return replace(runtime, **values)


def _listed(runtime: RuntimeConfig, changes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """JSON's lists as tuples, and one guidance scale as one for each interval."""
    for name, value in changes.items():
        if name in _PER_INTERVAL and not isinstance(value, list | tuple):
            neutral = 1.0 if name == "prev_chunk_scales" else 0.0
            own = getattr(runtime, name)
            acts = [scale != neutral for scale in own]
            if not any(acts):  # it is off: on at all times
                acts = [True] * len(own)
            yield name, tuple(float(value) if on else neutral for on in acts)
        else:
            yield name, tuple(value) if isinstance(value, list) else value
