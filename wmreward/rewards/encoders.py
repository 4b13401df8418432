"""Encoders whose features describe videos: those of V-JEPA, and image encoders of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vjepa2 import MODELS, VJEPA21Config, WorldModel
from vjepa2.preprocess import IMAGENET_MEAN, IMAGENET_STD, resize
from wmfiles import read_json
from wmreward.errors import UsageError, WMRewardError, named
from wmreward.rewards.features import FrameEncoder
from wmreward.rewards.hub import check_transformers, frozen, model_fingerprint, model_folder
from wmreward.rewards.weights import loaded, weights_of
from wmreward.surprise.models import ModelChoice

IMAGE_SIDE = 224
"""Side in pixels of what image encoders see, unless their own settings say another."""


class WorldModelEncoder:
    """The encoder of a V-JEPA. A token speaks of two frames, so a feature does, too.

    Each pair of frames is seen in the middle of a window of its own, so that every feature was made in the
    same place: features from different places of a window, or of a longer video than the encoder was trained
    with, may differ by that alone.

    Args:
        model: Either generation. Of a distilled model it is the small encoder, which needs no teacher.
        frames: Of a window; V-JEPA's own windows have 16 and more.
    """

    def __init__(self, model: WorldModel, frames: int = 16) -> None:
        self.model = model
        self.step = model.config.tubelet
        self.frames = frames // self.step * self.step
        if not self.frames:
            raise UsageError(
                f"{named('window_size', frames)} is too small: a token of {self.name} spans {self.step} "
                "frames"
            )
        self._place = (self.frames // self.step - 1) // 2

    @property
    def name(self) -> str:
        return self.model.config.name

    @property
    def middle(self) -> float:
        return (self._place + 0.5) * self.step - 0.5

    def preprocess(self, video: Tensor) -> Tensor:
        return self.model.preprocess(video)

    def tokens(self, pieces: Tensor) -> Tensor:
        tokens = self.model.encoder(pieces.to(self.model.dtype))
        n = self.model.config.tokens_per_tubelet
        middle = tokens[:, self._place * n : (self._place + 1) * n]
        return middle if middle.dtype == torch.float64 else middle.float()


class ImageEncoder:
    """A vision transformer of `transformers` that sees single frames, such as DINOv2 or DINOv3.

    Args:
        name: For people.
        model: Its ``last_hidden_state`` ends with the patches.
        side: Of the square that it sees, in pixels.
        mean, std: That it expects pixels in [0, 1] to be normalised by.
    """

    frames = step = 1
    middle = 0.0

    def __init__(
        self,
        name: str,
        model: nn.Module,
        side: int = IMAGE_SIDE,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        self.name, self.model = name, model
        patch = _patch_of(name, model)
        self.side = side // patch * patch
        self.patches = (self.side // patch) ** 2
        self.mean, self.std = mean, std

    def preprocess(self, video: Tensor) -> Tensor:
        seen = resize((video + 1) / 2, self.side)
        mean, std = (seen.new_tensor(values).view(-1, 1, 1, 1) for values in (self.mean, self.std))
        return (seen - mean) / std

    def tokens(self, pieces: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        out = self.model(pixel_values=pieces[:, :, 0].to(dtype)).last_hidden_state
        tokens = out[:, -self.patches :]  # after what stands for the whole image
        return tokens if tokens.dtype == torch.float64 else tokens.float()


def of_world_model(model: object, frames: int) -> WorldModelEncoder:
    """The encoder of the world model that judges, ``frames`` being those of a window.

    Raises:
        UsageError: the world model is somebody else's.
    """
    if not isinstance(model, WorldModel):
        raise UsageError(
            f"a {type(model).__name__} has no encoder that geometry knows: pass one (FrameEncoder)"
        )
    return WorldModelEncoder(model, frames)


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """An encoder by name.

    Attributes:
        name: A V-JEPA of ours, or a folder or a name on the Hub of a vision transformer.
        device: Where it runs, as in :class:`.ModelChoice`.
    """

    name: str
    device: str = "auto"

    def check(self) -> None:
        """What can be known without weights; raises ``UsageError``."""
        if self.world_model is None:
            check_transformers(_FLAG)

    @property
    def world_model(self) -> ModelChoice | None:
        """How a V-JEPA is loaded: without a teacher; None for an image encoder."""
        config = MODELS.get(self.name)
        if config is None:
            return None
        distilled = isinstance(config, VJEPA21Config) and config.teacher is not None
        return ModelChoice(
            name=self.name, observed="student" if distilled else None, device=self.device
        )

    def settings(self) -> dict[str, Any]:
        """What decides its features; finds the weights, and downloads them where they are on the Hub.

        Raises:
            WMRewardError: they are nowhere.
        """
        if (model := self.world_model) is not None:
            return {"encoder": self.name, "encoder_weights": weights_of(model)["weights"]}
        folder = model_folder(self.name, _FLAG)
        return {"encoder": self.name, "encoder_weights": model_fingerprint(folder)}

    def load(self, device: torch.device, frames: int) -> FrameEncoder:
        """The encoder, ``frames`` being those of a V-JEPA's window.

        Raises:
            WMRewardError: weights that are damaged, or of no vision transformer.
        """
        if (model := self.world_model) is not None:
            return of_world_model(loaded(replace(model, device=str(device))).model, frames)
        folder = model_folder(self.name, _FLAG)
        network = frozen("AutoModel", folder, device, _FLAG)
        return ImageEncoder(self.name, network, **_as_expected(folder))


_FLAG = "encoder"


def _patch_of(name: str, model: nn.Module) -> int:
    """Side of a patch in pixels; raises ``WMRewardError`` for a network that is no vision transformer."""
    config: Any = model.config
    patch = getattr(config, "patch_size", None)
    if not isinstance(patch, int) or getattr(config, "hidden_size", None) is None:
        raise WMRewardError(
            f"--{_FLAG} {name} is a {type(model).__name__}, no vision transformer such as DINOv2 or DINOv3"
        )
    return patch


def _as_expected(folder: Path) -> dict[str, Any]:
    """Side, mean and standard deviation by the settings that lie beside the weights."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return {}
    told = read_json(file, refuse=_refused)
    if not isinstance(told, Mapping):
        raise _refused(file, "is no object")
    out: dict[str, Any] = {}
    size = told.get("crop_size") or told.get("size")
    side = size.get("height", size.get("shortest_edge")) if isinstance(size, Mapping) else size
    if isinstance(side, int) and side > 0:
        out["side"] = side
    for name, key in (("mean", "image_mean"), ("std", "image_std")):
        values = told.get(key)
        if isinstance(values, list) and len(values) == 3 and all(map(_positive, values)):
            out[name] = tuple(map(float, values))
    return out


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _refused(path: Path, reason: str) -> WMRewardError:
    return WMRewardError(f"{path}: not the settings of an encoder ({reason})")
