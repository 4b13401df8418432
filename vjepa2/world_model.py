"""Encoder + predictor as one world model: what it expects of the future, and what it then sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vjepa2.ac_predictor import ActionPredictor
from vjepa2.config import ModelConfig, VJEPA2Config
from vjepa2.encoder import Encoder
from vjepa2.layers import Block
from vjepa2.predictor import PARITY_MASK_TOKEN, Predictor
from vjepa2.preprocess import preprocess
from vjepa2.reading import Branches
from wmweights import keep_compiled


class FutureLatents(NamedTuple):
    """Raw latents of one batch of windows; t future time steps of n = g² tokens, D features.

    Attributes:
        predicted: What the predictor expects from the context frames alone, ``[B, t, n, D]``.
        observed: What the target encoder sees in the whole window, ``[B, t, n, D]``.
        last_context: The last context time step as the context encoder sees it, ``[B, n, D]``.
    """

    predicted: Tensor
    observed: Tensor
    last_context: Tensor


class WorldModel(nn.Module, ABC):
    """What the world models of both generations share.

    Attributes:
        config: Sizes.
        encoder: Context encoder.
        target_encoder: The encoder of the whole window; the same module as ``encoder`` where both would
            hold the same weights.
        predictor: Predicts unseen tokens.
        mask_token: Which mask token the predictor uses.
    """

    config: ModelConfig
    encoder: nn.Module
    target_encoder: nn.Module
    predictor: nn.Module
    mask_token: int

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        return self.get_parameter("encoder.patch_embed.proj.weight")

    def preprocess(self, video: Tensor) -> Tensor:
        """``[B, 3, T, H, W]`` in [−1, 1] → the pixels :meth:`future_latents` takes; differentiable."""
        return preprocess(video, self.config.crop)

    @abstractmethod
    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> FutureLatents:
        """Predict the frames after the context, and encode what they turn out to be.

        The context is encoded from its own frames alone, so nothing of the future leaks into the prediction.

        Args:
            pixels: Windows ``[B, 3, w, crop, crop]`` from :meth:`preprocess`.
            context_frames: How many leading frames are the context; rounded down to whole tubelets.
            context_grad: Let gradients flow through the prediction too. Off in the reference, where only the
                observed side is differentiated.
        """

    def tubelets(self, pixels: Tensor, context_frames: int) -> tuple[int, int]:
        """How many time steps of windows are seen before the prediction, and how many there are in all."""
        tubelet = self.config.tubelet
        total, seen = pixels.shape[2] // tubelet, context_frames // tubelet
        if not 0 < seen < total:
            raise ValueError(
                f"context_frames={context_frames} must leave at least one tubelet of {tubelet} frames "
                f"on both sides of a window of {pixels.shape[2]} frames"
            )
        return seen, total

    def compile_blocks(self) -> None:
        """Compile every transformer block in place.

        All blocks share one compiled kernel per shape, so this takes seconds where compiling the whole
        model takes minutes. The kernels are kept for the next run.
        """
        keep_compiled()
        # One code object serves encoder and predictor, context and window, scores and gradients, and
        # every batch size: more variants than the default limit, beyond which blocks would run eagerly.
        dynamo = torch._dynamo.config
        dynamo.cache_size_limit = max(dynamo.cache_size_limit, 64)
        for module in self.modules():
            if isinstance(module, Block):
                module.compile(dynamic=False)


class VJEPA2(WorldModel):
    """A V-JEPA 2 world model.

    One encoder serves both sides unless ``branches`` asks for two different ones: they would hold
    the same weights.

    Attributes:
        predictor: Mask-token or action-conditioned predictor.
    """

    config: VJEPA2Config
    encoder: Encoder
    target_encoder: Encoder
    predictor: Predictor | ActionPredictor

    def __init__(
        self,
        config: VJEPA2Config,
        *,
        branches: Branches | None = None,
        mask_token: int = PARITY_MASK_TOKEN,
    ) -> None:
        super().__init__()
        branches = branches or Branches()
        self.config = config
        self.mask_token = mask_token
        self.encoder = Encoder(config)
        self.target_encoder = (
            self.encoder if branches.context == branches.target else Encoder(config)
        )
        self.predictor = ActionPredictor(config) if config.action_conditioned else Predictor(config)

    def future_latents(
        self, pixels: Tensor, context_frames: int, *, context_grad: bool = False
    ) -> FutureLatents:
        """See :meth:`WorldModel.future_latents`."""
        if not isinstance(self.predictor, Predictor):
            raise TypeError(
                f"model {self.config.name!r} predicts from actions; it has no prediction without them"
            )
        tubelet, n = self.config.tubelet, self.config.tokens_per_tubelet
        seen, total = self.tubelets(pixels, context_frames)
        pixels = pixels.to(self.dtype)
        # no_grad, not inference_mode: the prediction meets a differentiated target in one expression.
        with nullcontext() if context_grad else torch.no_grad():
            context = self.encoder(pixels[:, :, : seen * tubelet])
            predicted = self.predictor.predict_future(context, total, mask_token=self.mask_token)
        observed = self.target_encoder(pixels)[:, seen * n :]
        return FutureLatents(
            predicted.unflatten(1, (-1, n)), observed.unflatten(1, (-1, n)), context[:, -n:]
        )
