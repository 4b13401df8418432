"""What defines each network: widths, depths and patch sizes, and the released sizes by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar


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
class ModelConfig:
    """One world model of either generation: a video encoder and the predictor that goes with it.

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
        generation: What the model is called in messages.
        default_branch: Which stored encoder is used unless asked otherwise: ``online`` or ``ema``.
        default_mask_token: Which mask token predicts unless asked otherwise.
    """

    generation: ClassVar[str]
    default_branch: ClassVar[str]
    default_mask_token: ClassVar[int]

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


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config(ModelConfig):
    """A V-JEPA 2: it predicts the last layer of its own encoder."""

    generation: ClassVar[str] = "V-JEPA 2"
    default_branch: ClassVar[str] = "online"  # as in every public loader
    default_mask_token: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class VJEPA21Config(ModelConfig):
    """A V-JEPA 2.1: it predicts several layers of its own encoder, or the last one of a teacher's.

    Attributes:
        levels: Blocks whose output is normed and, in a model without a teacher, predicted; the last
            is the last block.
        teacher: The model whose last level a distilled model predicts; ``None`` if it predicts its own.
    """

    generation: ClassVar[str] = "V-JEPA 2.1"
    default_branch: ClassVar[str] = "ema"
    default_mask_token: ClassVar[int] = 0  # the trained one

    crop: int = 384
    predictor: PredictorConfig = field(
        default_factory=lambda: PredictorConfig(depth=24, mask_tokens=8)
    )
    levels: tuple[int, ...]
    teacher: VJEPA21Config | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 2 * self.patch:  # rows and columns are stretched over g − 1 steps
            raise ValueError(f"crop={self.crop} must be at least {2 * self.patch}: two patches")
        if sorted(set(self.levels)) != list(self.levels) or self.levels[-1:] != (self.depth - 1,):
            raise ValueError(
                f"levels={self.levels} must rise to the last of the {self.depth} blocks, {self.depth - 1}"
            )

    @property
    def levels_width(self) -> int:
        """Width of all levels side by side."""
        return len(self.levels) * self.width

    @property
    def context_width(self) -> int:
        """What the predictor takes of a visible token: all levels, or the last if distilled."""
        return self.width if self.teacher else self.levels_width

    @property
    def predicted_width(self) -> int:
        """What the predictor gives: all levels of its own encoder, or the teacher's last."""
        return self.teacher.width if self.teacher else self.levels_width


_VITG = VJEPA2Config(name="vitg", width=1408, depth=40, heads=22, mlp_width=6144)

_TEACHER = VJEPA21Config(
    name="vitG21", width=1664, depth=48, heads=26, mlp_width=8192, levels=(11, 23, 37, 47)
)
_DISTILLED = PredictorConfig(depth=12, mask_tokens=8)

MODELS: dict[str, ModelConfig] = {
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
        VJEPA2Config(
            name="referee",
            width=128,
            depth=5,
            heads=4,
            mlp_width=512,
            crop=64,
            patch=8,
            predictor=PredictorConfig(width=128, depth=4, heads=4, mask_tokens=1),
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
        VJEPA21Config(
            name="vitb21",
            width=768,
            depth=12,
            heads=12,
            mlp_width=3072,
            levels=(2, 5, 8, 11),
            predictor=_DISTILLED,
            teacher=_TEACHER,
        ),
        VJEPA21Config(
            name="vitl21",
            width=1024,
            depth=24,
            heads=16,
            mlp_width=4096,
            levels=(5, 11, 17, 23),
            predictor=_DISTILLED,
            teacher=_TEACHER,
        ),
        VJEPA21Config(
            name="vitg21",
            width=1408,
            depth=40,
            heads=22,
            mlp_width=6144,
            levels=(9, 19, 29, 39),
        ),
        _TEACHER,
    )
}
"""The models by name. ``tiny`` and ``referee`` are trained by this project; all other weights are Meta's."""


def get_config(name: str, crop: int | None = None) -> ModelConfig:
    """The configuration called ``name``.

    Args:
        name: One of :data:`MODELS`.
        crop: Another side of the picture than the model's own; V-JEPA 2.1 only, whose positions stretch.

    Raises:
        ValueError: no such model, lists those there are; or a crop that the model cannot see.
    """
    try:
        config = MODELS[name]
    except KeyError:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}") from None
    if crop is None or crop == config.crop:
        return config
    if not isinstance(config, VJEPA21Config):
        raise ValueError(
            f"crop={crop}: model {name!r} sees {config.crop} pixels; only V-JEPA 2.1 models take another"
        )
    return replace(config, crop=crop)
