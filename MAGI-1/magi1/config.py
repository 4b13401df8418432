"""MAGI-1's configuration files: one JSON object with three sections, read strictly and checked at once.

The names are those of the released files, so that any of them can be used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from magi1.errors import MagiUsageError
from magi1.refusal import Refusal, shown
from wmfiles import JSONError, parse_json, read_text

if TYPE_CHECKING:
    import torch

VAE_STRIDE = 8
"""Pixels per latent, in height and width."""

DTYPES = ("torch.bfloat16", "torch.float16", "torch.float32")

INTERLEAVED_GROUPS = 8
"""Self- and cross-attention outputs are interleaved in this many groups before their projection."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the diffusion transformer.

    Attributes:
        model_name: A label.
        num_layers, hidden_size, ffn_hidden_size: Depth, token width h, and width of the MLPs.
        num_attention_heads, num_query_groups, kv_channels: Query heads, key/value heads, and
            channels per head.
        layernorm_epsilon: Epsilon of every LayerNorm.
        apply_layernorm_1p: Whether the q/k norms, post-norms and final norm multiply by ``weight + 1``.
        x_rescale_factor: Latents are multiplied by it on entry, velocities divided by it on exit.
        half_channel_vae: Latents are doubled along the channels on entry; half of them are kept on exit.
        params_dtype: Precision of the blocks: ``torch.bfloat16``, ``torch.float16`` or ``torch.float32``.
        patch_size, t_patch_size: Latents per token, in height and width, and in time (1).
        in_channels, out_channels: Channels that the transformer sees (after doubling).
        cond_hidden_ratio: Width of the time/text condition as a part of h.
        caption_channels, caption_max_length: Width of text features and tokens per prompt.
        xattn_cond_hidden_ratio, cond_gating_ratio: Width of projected text and of gates as a part of h (1).
        gated_linear_unit: SwiGLU (true) or GELU (false).
    """

    model_name: str
    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_query_groups: int
    kv_channels: int
    layernorm_epsilon: float
    apply_layernorm_1p: bool
    x_rescale_factor: float
    half_channel_vae: bool
    params_dtype: str
    patch_size: int
    t_patch_size: int
    in_channels: int
    out_channels: int
    cond_hidden_ratio: float
    caption_channels: int
    caption_max_length: int
    xattn_cond_hidden_ratio: float
    cond_gating_ratio: float
    gated_linear_unit: bool

    def __post_init__(self) -> None:
        refuse = Refusal("model_config", self)
        sizes = [f.name for f in fields(self) if f.type == "int"]
        refuse.unless_positive(*sizes, "layernorm_epsilon", "x_rescale_factor", "cond_hidden_ratio")
        refuse.unless_in("params_dtype", DTYPES)
        for name in ("xattn_cond_hidden_ratio", "cond_gating_ratio", "t_patch_size"):
            if getattr(self, name) != 1:
                refuse(name, "must be 1, as in every released model")
        if self.num_attention_heads % self.num_query_groups:
            refuse(
                "num_attention_heads",
                f"must be a multiple of num_query_groups={self.num_query_groups}",
            )
        if self.kv_channels % 8:
            refuse("kv_channels", "must be a multiple of 8: rotary bands take an eighth of a head")
        if self.num_attention_heads * self.kv_channels % INTERLEAVED_GROUPS:
            refuse(
                "num_attention_heads",
                f"times kv_channels={self.kv_channels} must be a multiple of {INTERLEAVED_GROUPS}",
            )
        if self.condition_width < 1:
            refuse("cond_hidden_ratio", f"leaves no channel of hidden_size={self.hidden_size}")
        if self.out_channels != self.in_channels:
            refuse("out_channels", f"must equal in_channels={self.in_channels}")
        if self.half_channel_vae and self.in_channels % 2:
            refuse("in_channels", "must be even with half_channel_vae")

    @property
    def dtype(self) -> torch.dtype:
        """``params_dtype`` as torch's own."""
        import torch  # a configuration is checked without it

        dtype: torch.dtype = getattr(torch, self.params_dtype.removeprefix("torch."))
        return dtype

    @property
    def condition_width(self) -> int:
        """Channels of the time/text condition, c."""
        return int(self.hidden_size * self.cond_hidden_ratio)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that are denoised (and of the VAE)."""
        return self.in_channels // 2 if self.half_channel_vae else self.in_channels


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """What is generated and how it is sampled.

    Attributes:
        cfg_number: Guidance branches per call: 3, or 1 for distilled and fp8 models.
        cfg_t_range: Lower edges, in time (0 noise, 1 data), of the guidance intervals.
        prev_chunk_scales, text_scales: Guidance scales of each interval.
        noise2clean_kvrange: Chunks that a chunk attends to, itself included, over equal parts of the
            steps from noise to clean. Empty: all chunks before it.
        clean_chunk_kvrange: The same for a finished chunk; -1 takes the last entry of the list.
        clean_t: Time told to finished chunks.
        seed: Seed of the noise.
        num_frames: Frames to generate, without those of a given video.
        video_size_h, video_size_w: Size in pixels.
        num_steps: Denoising steps N of each chunk.
        window_size: Chunks denoised at the same time.
        fps: Frames per second; the VAE works on half a second at a time.
        chunk_width: Latent frames per chunk.
        load: Folder of the transformer's weights.
        t5_pretrained, vae_pretrained: Folders of the text encoder and of the VAE.
        t5_device: Read, without effect: the text encoder works on the GPU where it fits.
        scale_factor: The VAE's latents are multiplied by it.
        temporal_downsample_factor: Frames per latent frame.
    """

    cfg_number: int
    cfg_t_range: tuple[float, ...]
    prev_chunk_scales: tuple[float, ...]
    text_scales: tuple[float, ...]
    noise2clean_kvrange: tuple[int, ...]
    clean_chunk_kvrange: int
    clean_t: float
    seed: int
    num_frames: int
    video_size_h: int
    video_size_w: int
    num_steps: int
    window_size: int
    fps: int
    chunk_width: int
    load: str
    t5_pretrained: str
    t5_device: str
    vae_pretrained: str
    scale_factor: float
    temporal_downsample_factor: int

    def __post_init__(self) -> None:
        refuse = Refusal("runtime_config", self)
        refuse.unless_positive("video_size_h", "video_size_w", "num_steps", "window_size")
        refuse.unless_positive("chunk_width", "scale_factor", "temporal_downsample_factor")
        refuse.unless_in("cfg_number", (1, 3))
        self._check_guidance(refuse)
        self._check_steps(refuse)
        if not 0 < self.clean_t <= 1:
            refuse("clean_t", "must be above 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            refuse("seed", "must be at least 0 and below 2^63")
        if self.num_frames < self.temporal_downsample_factor:
            refuse(
                "num_frames",
                f"must be at least {self.temporal_downsample_factor}, the frames of one latent",
            )
        shortest = 2 * self.temporal_downsample_factor
        if self.fps < shortest:
            refuse("fps", f"must be at least {shortest}: the VAE works on half a second at a time")

    def _check_guidance(self, refuse: Refusal) -> None:
        edges = self.cfg_t_range
        if not edges or edges[0] != 0 or any(b <= a for a, b in pairwise(edges)):
            refuse("cfg_t_range", "must rise from 0")
        for name in ("prev_chunk_scales", "text_scales"):
            if len(getattr(self, name)) != len(edges):
                refuse(name, f"must have {len(edges)} entries, one for each of cfg_t_range")

    def _check_steps(self, refuse: Refusal) -> None:
        spans = self.noise2clean_kvrange
        why = "must be a multiple of {window_size}"
        if spans and self.window_size % len(spans):
            why += f" and of {len(spans)}, the entries of noise2clean_kvrange"
        refuse.unless_multiple("num_steps", lcm(self.window_size, len(spans) or 1), why)
        if any(span < 1 for span in spans):
            refuse("noise2clean_kvrange", "must hold numbers of chunks, each at least 1")
        if self.clean_chunk_kvrange != -1 and self.clean_chunk_kvrange < 1:
            refuse("clean_chunk_kvrange", "must be -1 or at least 1")

    @property
    def latent_height(self) -> int:
        return self.video_size_h // VAE_STRIDE

    @property
    def latent_width(self) -> int:
        return self.video_size_w // VAE_STRIDE


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Processes, precision and kind of model.

    Attributes:
        distributed_backend: ``nccl`` or ``gloo``.
        distributed_timeout_minutes: How long processes wait for each other.
        pp_size: Pipeline stages; only 1 is supported.
        cp_size: Processes that share the tokens of a call.
        cp_strategy: How they do: ``none``, ``cp_ulysses`` or ``cp_shuffle_overlap``. The last two give
            the same result, and heads are exchanged (Ulysses) for both.
        ulysses_overlap_degree: Slices of heads whose exchange overlaps with work; -1: one per
            head of a group.
        fp8_quant: The model's middle layers are stored and multiplied in float8.
        distill_nearly_clean_chunk_threshold: Time from which a distilled model steers with previous chunks.
        shortcut_mode: Step pattern of the 12-step schedule, ``8,16,16`` or ``16,16,8``.
        distill: The model is distilled: it is told its step size and needs one branch.
        kv_offload: Keep cached keys and values in host memory.
        enable_cuda_graph: Without effect, as in the released code.
    """

    distributed_backend: str
    distributed_timeout_minutes: int
    pp_size: int
    cp_size: int
    cp_strategy: str
    ulysses_overlap_degree: int
    fp8_quant: bool
    distill_nearly_clean_chunk_threshold: float
    shortcut_mode: str
    distill: bool
    kv_offload: bool
    enable_cuda_graph: bool

    def __post_init__(self) -> None:
        refuse = Refusal("engine_config", self)
        refuse.unless_positive("distributed_timeout_minutes", "pp_size", "cp_size")
        refuse.unless_in("distributed_backend", ("nccl", "gloo"))
        refuse.unless_in("cp_strategy", ("none", "cp_ulysses", "cp_shuffle_overlap"))
        refuse.unless_in("shortcut_mode", ("8,16,16", "16,16,8"))
        if self.pp_size > 1:
            refuse(
                "pp_size", "must be 1: pipeline stages are not supported; use cp_size or --offload"
            )
        if self.cp_size > 1 and self.cp_strategy == "none":
            refuse("cp_strategy", f"must be cp_ulysses with cp_size={self.cp_size}")
        if self.ulysses_overlap_degree != -1 and self.ulysses_overlap_degree < 1:
            refuse("ulysses_overlap_degree", "must be -1 or at least 1")


@dataclass(frozen=True, kw_only=True)
class MagiConfig:
    """Everything about a run. Sections and fields as in MAGI-1's JSON files."""

    model_config: ModelConfig
    runtime_config: RuntimeConfig
    engine_config: EngineConfig

    def __post_init__(self) -> None:
        model, runtime, engine = self.model_config, self.runtime_config, self.engine_config
        refuse = Refusal("runtime_config", runtime)
        single = engine.distill or engine.fp8_quant
        if runtime.cfg_number != (1 if single else 3):
            kind = "distill or fp8_quant" if single else "a model that is neither distilled nor fp8"
            refuse("cfg_number", f"must be {1 if single else 3} with {kind}")
        unit = VAE_STRIDE * model.patch_size
        for name in ("video_size_h", "video_size_w"):
            refuse.unless_multiple(
                name,
                unit,
                f"must be a multiple of {unit} (VAE {VAE_STRIDE} × patch {model.patch_size}), "
                f"at least {2 * unit}",
                least=2 * unit,
            )
        refuse = Refusal("engine_config", engine)
        heads, groups, processes = model.num_attention_heads, model.num_query_groups, engine.cp_size
        if not _shares(processes, heads, groups):
            refuse(
                "cp_size",
                f"must divide the {heads} heads, and divide the {groups} query groups or be a multiple",
                [n for n in range(1, heads + 1) if _shares(n, heads, groups)],
            )
        if engine.fp8_quant and model.params_dtype != "torch.bfloat16":
            refuse("fp8_quant", "needs params_dtype torch.bfloat16")

    @property
    def tokens_per_chunk(self) -> int:
        """Transformer tokens of one chunk of latent frames."""
        runtime, area = self.runtime_config, self.model_config.patch_size**2
        return runtime.chunk_width * runtime.latent_height * runtime.latent_width // area

    @classmethod
    def load(cls, path: str | Path) -> MagiConfig:
        """Read a JSON file.

        Raises:
            MagiUsageError: the file cannot be read, a field is missing, unknown, of a wrong type or
                out of range; one line that names file, section, field, value and what is allowed.
        """
        text = read_text(
            path, refuse=lambda file, why: MagiUsageError(f"{file}: {why}"), most=_MOST
        )
        try:
            return cls.from_json(text)
        except MagiUsageError as error:
            raise MagiUsageError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> MagiConfig:
        """The inverse of :meth:`to_json`; raises ``MagiUsageError`` like :meth:`load`."""
        try:
            return cls.from_dict(parse_json(text))
        except JSONError as error:
            raise MagiUsageError(str(error)) from None

    @classmethod
    def from_dict(cls, sections: object) -> MagiConfig:
        """The same from JSON's own objects."""
        return _build(cls, sections, "")

    def to_json(self) -> str:
        """As the files are written: four spaces, one line at the end."""
        return json.dumps(asdict(self), indent=4) + "\n"

    def save(self, path: str | Path) -> None:
        """Write a JSON file that :meth:`load` reads back to an equal configuration."""
        Path(path).write_text(self.to_json(), encoding="utf-8")


def _shares(processes: int, heads: int, groups: int) -> bool:
    """Whether so many processes can share the heads of attention."""
    return heads % processes == 0 and (groups % processes == 0 or processes % groups == 0)


# --- strict building of dataclasses from JSON

_T = TypeVar("_T")
_MOST = 2**20
"""Bytes of a configuration; real ones have three thousand."""


def _build(cls: type[_T], given: object, where: str) -> _T:
    """A dataclass from a JSON object with exactly its fields."""
    if not isinstance(given, dict):
        raise MagiUsageError(f"{where or 'the file'} must be a JSON object, not {_kind(given)}")
    hints = get_type_hints(cls)
    prefix = f"{where}." if where else ""
    for name in sorted(given.keys() - hints.keys()):
        near = get_close_matches(name, hints, n=1)
        meant = f"did you mean {near[0]}?" if near else f"allowed are {_listed(hints)}"
        raise MagiUsageError(f"{prefix}{name[:80]} is unknown; {meant}")
    missing = [prefix + name for name in hints if name not in given]
    if missing:
        raise MagiUsageError(f"{_listed(missing)} missing: every field must be there")
    return cls(**{name: _value(kind, given[name], prefix + name) for name, kind in hints.items()})


def _listed(names: Iterable[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 200 else f"{text[:200].rpartition(', ')[0]} and more"


_ALLOWED = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple[int, ...]: "a list of integers",
    tuple[float, ...]: "a list of numbers",
}


def _value(kind: Any, given: object, where: str) -> Any:
    """``given`` as ``kind``; integers may stand for floats, nothing else is converted."""
    if kind not in _ALLOWED:
        return _build(kind, given, where)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if isinstance(given, list) and all(_fits(item, value) for value in given):
            return tuple(item(value) for value in given)
    elif _fits(kind, given):
        return kind(given)
    raise MagiUsageError(f"{where}={shown(given)} must be {_ALLOWED[kind]}")


def _fits(kind: type, given: object) -> bool:
    if isinstance(given, bool):
        return kind is bool
    if kind is float:
        return isinstance(given, int | float) and abs(given) < float("inf")
    return isinstance(given, kind)


def _kind(given: object) -> str:
    return "a list" if isinstance(given, list) else shown(given)
