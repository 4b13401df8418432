"""Parameter names: from each published layout to ours, which is upstream's without its wrapper prefixes.

Ours: ``encoder.blocks.0.attn.qkv.weight``, ``predictor.mask_tokens.1``, … (the attribute names of
the modules).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

POSITION_TABLES = ("pos_embed", "predictor_pos_embed")
"""Stored in some checkpoints, unused by the rotary models."""

_WRAPPERS = re.compile(r"^(?:module\.|backbone\.)+")

_HF_RENAMES = (
    ("encoder.embeddings.patch_embeddings.proj.", "encoder.patch_embed.proj."),
    ("encoder.layernorm.", "encoder.norm."),
    ("encoder.layer.", "encoder.blocks."),
    ("predictor.embeddings.predictor_embeddings.", "predictor.predictor_embed."),
    ("predictor.layernorm.", "predictor.predictor_norm."),
    ("predictor.proj.", "predictor.predictor_proj."),
    ("predictor.layer.", "predictor.predictor_blocks."),
)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One sub-dict of an official ``.pt`` file: wrapper prefixes off, unused position tables dropped."""
    named = {_WRAPPERS.sub("", key): value for key, value in state.items()}
    return {key: value for key, value in named.items() if key not in POSITION_TABLES}


def is_transformers(keys: set[str]) -> bool:
    """Whether the names are those of ``transformers``' VJEPA2Model (with or without its
    ``vjepa2.`` prefix).
    """
    return any("encoder.embeddings.patch_embeddings" in key for key in keys)


def from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``transformers`` layout → ours: separate q, k, v rows joined, the stacked mask tokens split."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("vjepa2.")
        if name == "predictor.embeddings.mask_tokens":
            for i, token in enumerate(value):
                out[f"predictor.mask_tokens.{i}"] = token
            continue
        for theirs, ours in _HF_RENAMES:
            if name.startswith(theirs):
                name = ours + name[len(theirs) :]
                break
        out[name.replace(".attention.", ".attn.")] = value
    for key in [key for key in out if ".attn.query." in key]:
        thirds = [key.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(third in out and out[third].shape == out[key].shape for third in thirds):
            out[key.replace(".query.", ".qkv.")] = torch.cat([out.pop(third) for third in thirds])
    return out


def is_vjepa21(keys: set[str]) -> bool:
    """Whether these are V-JEPA 2.1 names: another model whose keys partly match."""
    marks = ("norms_block", "patch_embed_img", "img_mod_embed", "video_mod_embed", "modality_embed")
    return any(mark in key for key in keys for mark in marks)
