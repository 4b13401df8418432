"""Parameters and bytes of a run, counted from the networks' shapes."""

from __future__ import annotations

import math
from collections import Counter

from torch import nn

from magi1.config import MagiConfig
from magi1.planning.costs import is_doubled, oldest_read
from magi1.sampling.schedule import ChunkCall, VideoLayout
from magi1.transformer.dit import DiT
from wmweights import places

LAYERS_ON_DEVICE = 2
"""With offloading: the layer that runs and the next one, on its way."""


_SHORT_NAMES = {
    "linear_kv_xattn": "kv_x",
    "linear_proj": "proj",
    "linear_fc1": "fc1",
    "linear_fc2": "fc2",
    "ada_modulate_layer": "adaLN",
}


def parameter_counts(dit: DiT) -> dict[str, int]:
    """By part; ``layer.…`` are those of one layer."""
    sizes = {n: v.numel() for n, v in places(dit).items() if not n.endswith("_scale")}
    first = "videodit_blocks.layers.0."
    layer: Counter[str] = Counter()
    for name, size in sizes.items():
        if name.startswith(first):
            layer[_short(name.removeprefix(first))] += size
    total, layers = sum(sizes.values()), dit.config.num_layers * layer.total()
    return {
        **{f"layer.{name}": size for name, size in layer.items()},
        "layer": layer.total(),
        "layers": layers,
        "embeddings and output": total - layers,
        "transformer": total,
    }


def _short(name: str) -> str:
    """``self_attention.linear_qkv.q.weight`` → ``q``, any norm → ``norms``."""
    words = name.split(".")
    if any("norm" in word for word in words):
        return "norms"
    known = (_SHORT_NAMES[word] for word in words if word in _SHORT_NAMES)
    return next(known, words[-2])


def device_memory(
    config: MagiConfig,
    dit: DiT,
    calls: list[ChunkCall],
    world_size: int,
    offload: bool,
    videos: int = 1,
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes by part on one device, and in the host's memory for it, with so many ``videos`` in a batch."""
    model = config.model_config
    sizes = {name: value.numel() * value.element_size() for name, value in places(dit).items()}
    total = sum(sizes.values())
    layers = sum(size for name, size in sizes.items() if "blocks.layers." in name)
    resident = total - layers + LAYERS_ON_DEVICE * layers // model.num_layers
    cached = max(call.first - oldest_read(call) for call in calls)
    cache = videos * cached * cache_per_chunk(config, world_size)
    cache_in_host = offload or config.engine_config.kv_offload
    largest = max(len(call.steps) + call.refresh + is_doubled(config, call) for call in calls)
    memory = {
        "weights": resident if offload else total,
        "key/value cache": cache // model.num_layers if cache_in_host else cache,
        "activations": _activations(config, videos * largest, world_size),
    }
    host = {"weights": total if offload else 0, "key/value cache": cache if cache_in_host else 0}
    return memory, {name: size for name, size in host.items() if size}


def size_of(module: nn.Module) -> int:
    """Parameters of a network."""
    return sum(value.numel() for value in places(module).values())


def cache_per_chunk(config: MagiConfig, world_size: int) -> int:
    """Keys and values of a chunk in all layers. Devices share the groups, at least one each."""
    model = config.model_config
    groups = max(1, model.num_query_groups // world_size)
    per_token = model.num_layers * groups * 2 * model.kv_channels * model.dtype.itemsize
    return config.tokens_per_chunk * per_token


def _activations(config: MagiConfig, chunks: int, world_size: int) -> int:
    """An estimate of the most that is alive at once in one call, without gradients.

    Attention needs all tokens at a time; the rest of a layer goes chunk by chunk.
    """
    model = config.model_config
    chunk = math.ceil(config.tokens_per_chunk / world_size)
    tokens, narrow = chunks * chunk, model.dtype.itemsize
    hidden, inner = model.hidden_size, model.ffn_hidden_size
    heads = model.num_attention_heads * model.kv_channels
    groups = model.num_query_groups * model.kv_channels
    float32 = 4
    attention = tokens * (
        (2 * hidden + 2 * heads + 2 * groups) * narrow  # tokens, normed; q, qx; k, v
        + 3 * heads * float32  # q while it is normed and turned
    )
    first = (2 if model.gated_linear_unit else 1) * inner
    local = tokens * 2 * (hidden + heads) * narrow + chunk * (
        (2 * heads + first + inner) * narrow + 3 * hidden * float32
    )
    output = tokens * hidden * (narrow + 2 * float32)
    return max(attention, local, output)


CALL_BYTES = 2048
"""Of the description of one call, which is made twice."""


def host_of_video(config: MagiConfig, layout: VideoLayout, videos: int = 1) -> int:
    """Bytes in the host's memory that grow with the length of a video, at the least.

    Texts of all chunks, noise and latents, and the finished frames, which are joined when all are there.

    Args:
        config: What is generated.
        layout: How long it is.
        videos: How many are made at once.
    """
    runtime, model, float32 = config.runtime_config, config.model_config, 4
    text = 2 * layout.chunks * model.caption_max_length * model.caption_channels * float32
    latent = model.latent_channels * runtime.latent_height * runtime.latent_width * float32
    frames = layout.frames * runtime.temporal_downsample_factor
    picture = 3 * runtime.video_size_h * runtime.video_size_w
    stages = layout.chunks - layout.offset + runtime.window_size - 1
    calls = stages * (runtime.num_steps // runtime.window_size)
    return (
        2 * text  # as it is read, and as it is joined with "no text"
        + 3 * videos * layout.frames * latent  # noise, the state, and what is kept of it
        + (videos + 1) * frames * picture
        + 2 * calls * CALL_BYTES
    )
