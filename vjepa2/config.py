"""What defines each V-JEPA 2 network: widths, depths and patch sizes, and the released sizes by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """The network that predicts the latents of unseen tokens.

    Attributes:
        width: Embedding width inside the predictor.
        depth: Number of transformer blocks.
        heads: Attention heads; ``width / heads`` channels each.
        mask_tokens: How many learned mask tokens the checkpoint holds (0 for the action-conditioned one).
        action_dim: Length of an action and of a state vector, or ``None`` for the mask-token predictor.
        extrinsics_dim: Length of a camera-extrinsics vector (action-conditioned predictor only).
    """

    width: int = 384
    depth: int = 12
    heads: int = 12
    mask_tokens: int = 10
    action_dim: int | None = None
    extrinsics_dim: int = 6

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"predictor width={self.width} is not divisible by heads={self.heads}")


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config:
    """One world model: a video encoder and the predictor that goes with it.

    Attributes:
        name: The name users type (``vitl`` … ``tiny``).
        width: Token width D of the encoder.
        depth: Number of encoder blocks.
        heads: Attention heads of the encoder.
        mlp_width: Hidden width of the encoder's MLPs.
        crop: Frames are resized to ``crop × crop`` pixels.
        patch: Side of a square patch in pixels.
        tubelet: Frames per token in time.
        predictor: The predictor's shape.
    """

    name: str
    width: int
    depth: int
    heads: int
    mlp_width: int
    crop: int = 256
    patch: int = 16
    tubelet: int = 2
    predictor: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"encoder width={self.width} is not divisible by heads={self.heads}")
        if self.crop % self.patch:
            raise ValueError(f"crop={self.crop} is not divisible by patch={self.patch}")

    @property
    def grid(self) -> int:
        """Patches per side, g."""
        return self.crop // self.patch

    @property
    def tokens_per_tubelet(self) -> int:
        """Tokens of one time step, n = g²."""
        return self.grid**2

    @property
    def action_conditioned(self) -> bool:
        return self.predictor.action_dim is not None


_VITG = VJEPA2Config(name="vitg", width=1408, depth=40, heads=22, mlp_width=6144)

MODELS: dict[str, VJEPA2Config] = {
    config.name: config
    for config in (
        VJEPA2Config(
            name="tiny",
            width=256,
            depth=6,
            heads=4,
            mlp_width=1024,
            crop=64,
            patch=8,
            predictor=PredictorConfig(width=256, depth=6, heads=4, mask_tokens=1),
        ),
        VJEPA2Config(name="vitl", width=1024, depth=24, heads=16, mlp_width=4096),
        VJEPA2Config(name="vith", width=1280, depth=32, heads=16, mlp_width=5120),
        _VITG,
        replace(_VITG, name="vitg384", crop=384),
        replace(
            _VITG,
            name="vitgac",
            predictor=PredictorConfig(width=1024, depth=24, heads=16, mask_tokens=0, action_dim=7),
        ),
    )
}
"""The models by name. The weights of all but ``tiny`` are Meta's; ``tiny`` is trained by this project."""


def get_config(name: str) -> VJEPA2Config:
    """The configuration called ``name``; raises ``ValueError`` listing the names there are."""
    try:
        return MODELS[name]
    except KeyError:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}") from None
