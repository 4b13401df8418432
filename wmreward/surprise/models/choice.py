"""Which world model, by name, and how it runs. Nothing heavy is imported before that is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any

from vjepa2.config import EMBEDDED_MODELS, MODELS, ModelConfig, VJEPA21Config, get_config
from vjepa2.reading import Branches, Levels, Observed, Positions, Reading
from vjepa2.refusal import SettingError
from wmreward.errors import UsageError, did_you_mean, named
from wmreward.factories import find_factory, is_import_path
from wmreward.surprise.config import SurpriseConfig

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which network scores, and how it runs.

    Attributes:
        name: ``vitg`` (the paper's), ``vitl``, ``vith``, ``vitg384``, ``vitgac``, the embedded ``tiny`` and
            ``referee``, of V-JEPA 2.1 ``vitb21``, ``vitl21``, ``vitg21``, ``vitG21``, or
            ``package.module:factory``: a world model of your own, which takes none of what follows but
            ``device``.
        weights: A file or folder to load instead of searching for the model's own.
        context_encoder, target_encoder: ``online`` or ``ema``. ``None``: online as in the reference, ema for
            V-JEPA 2.1.
        mask_token: Which mask token predicts. ``None``: 1 as in the reference, 0 for V-JEPA 2.1.
        crop: Side of the picture; ``None`` is the model's own. Like the following for V-JEPA 2.1 only.
        positions, levels, observed: See :class:`vjepa2.Reading`; ``None`` is the model's own way.
        teacher_weights: Where the teacher of a distilled model is, instead of searching.
        device: ``auto`` takes a GPU where there is one.
        dtype: ``auto`` is bfloat16 on a GPU (scores within 2e-4) and float32 on a CPU.
        compile: Compile the transformer blocks; pays off from some hundred windows on.
    """

    name: str = "vitg"
    weights: str | None = None
    context_encoder: str | None = None
    target_encoder: str | None = None
    mask_token: int | None = None
    crop: int | None = None
    positions: Positions | None = None
    levels: Levels | None = None
    observed: Observed | None = None
    teacher_weights: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.is_own:
            self._check_own()
            return
        for name in ("mask_token", "crop"):
            if not isinstance(getattr(self, name), Integral | None):
                raise UsageError(f"{named(name, getattr(self, name))} must be a whole number")
        try:
            reading = self.reading
            _ = self.branches
        except SettingError as error:
            raise UsageError(f"{named(error.name, error.value)}{error.why}") from None
        except ValueError as error:
            near = "" if self.name in MODELS else did_you_mean(self.name, tuple(MODELS))
            raise UsageError(f"{error}{near}") from None
        if self.teacher_weights is not None and (reading is None or reading.observed != "teacher"):
            raise UsageError(
                f"{named('teacher_weights')}: model {self.name!r} is not compared with a teacher"
            )
        if self.dtype not in ("auto", *DTYPES):
            raise UsageError(
                f"{named('dtype', self.dtype)} must be one of auto, {', '.join(DTYPES)}"
            )

    def _check_own(self) -> None:
        """A user's model is as its factory makes it; that is imported now, and called on loading."""
        find_factory(self.name, "world model")
        free = ("name", "device")
        for option in fields(self):
            if option.name not in free and getattr(self, option.name) != option.default:
                raise UsageError(
                    f"{named(option.name, getattr(self, option.name))} has no meaning for a model of your "
                    f"own ({self.name}): let its factory decide"
                )

    @property
    def is_own(self) -> bool:
        """Whether it is a user's, of which nothing is known before it is loaded."""
        return is_import_path(self.name)

    @property
    def is_embedded(self) -> bool:
        """Whether it comes along, and so knows simulated scenes only; not with given weights."""
        return self.name in EMBEDDED_MODELS and self.weights is None

    @property
    def acts(self) -> bool:
        """Whether it predicts from what a robot did."""
        return not self.is_own and self.config.action_conditioned

    @property
    def config(self) -> ModelConfig:
        """The sizes of a model of ours; raises ``ValueError`` for a name or a crop that there is not."""
        return get_config(self.name, self.crop)

    @property
    def branches(self) -> Branches:
        own = self.config.default_branch
        return Branches(self.context_encoder or own, self.target_encoder or own)

    @property
    def reading(self) -> Reading | None:
        """How a V-JEPA 2.1 is read, settled; raises ``ValueError`` if the model cannot be read so."""
        if self.is_own:
            return None
        names = ("positions", "levels", "observed")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if isinstance(self.config, VJEPA21Config):
            return Reading(**given).of(self.config)
        if given:
            raise ValueError(
                f"{named(next(iter(given)))} is a choice of V-JEPA 2.1; model {self.name!r} is "
                f"{self.config.generation}"
            )
        return None

    def read_as(self) -> dict[str, Any]:
        """What decides a score of a V-JEPA 2.1 besides the weights, for records; empty for others."""
        return {} if self.reading is None else {"crop": self.config.crop, **asdict(self.reading)}

    def check(self, config: SurpriseConfig) -> None:
        """Raise ``UsageError`` if it cannot be used as ``config`` says, as far as is known before loading."""
        if self.levels == "all" and config.similarity == "token":
            raise UsageError(
                f"{named('levels', 'all')} compares the features of every level: it needs "
                f"{named('similarity', 'feature')}"
            )
        if not self.is_own and not self.acts:
            config.check_whole(self.config.tubelet, self.name)

    def check_released(self) -> None:
        """Raise ``UsageError`` unless it is of the models whose scores were published."""
        if self.is_own:
            what = "is your own"
        elif self.reading is not None:
            what = "is 2.1"
        elif self.acts:
            what = "needs actions"
        else:
            return
        raise UsageError(
            f"{named('compat', 'released')} computes what was published with V-JEPA 2; model "
            f"{self.name} {what}"
        )

    def torch_device(self) -> torch.device:
        """The device to run on; raises ``UsageError`` if it is not there."""
        from wmreward.devices import find_device

        return find_device(self.device)

    def torch_dtype(self) -> torch.dtype:
        import torch

        if self.dtype != "auto":
            return getattr(torch, self.dtype)
        return torch.bfloat16 if self.torch_device().type == "cuda" else torch.float32


def embedded_besides(models: Collection[ModelChoice]) -> str | None:
    """The embedded model that is not among ``models``, if one of them is: it knows the same scenes."""
    if not any(model.is_embedded for model in models):
        return None
    names = {model.name for model in models}
    return next((name for name in EMBEDDED_MODELS if name not in names), None)


def reading_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of all flags, those of a V-JEPA 2.1 model, named as in :class:`ModelChoice`."""
    names = ("crop", "positions", "levels", "observed", "teacher_weights")
    return {name: values[name] for name in names}
