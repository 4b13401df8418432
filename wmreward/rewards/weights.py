"""The weights of a world model that judges: found before it is loaded, and told in records."""

from __future__ import annotations

from vjepa2 import ModelConfig, VJEPA21Config
from vjepa2.files.sources import WeightsSource, find_teacher, find_weights, standing_files
from wmreward.errors import WMRewardError
from wmreward.surprise.models import LoadedModel, ModelChoice, load
from wmreward.surprise.models.own import OwnInfo
from wmweights import WeightsError, fingerprint_files


def loaded(choice: ModelChoice) -> LoadedModel:
    """The model; raises ``WMRewardError`` if its weights cannot be had."""
    try:
        return load(choice)
    except WeightsError as error:
        raise WMRewardError(str(error)) from error


def weights_of(choice: ModelChoice) -> dict[str, str]:
    """Fingerprints of the files of a model, and of its teacher's if it is compared with one.

    Of a model of a user's, which is made for it, the module and its hash and that of its weights.
    """
    if choice.is_own:
        info = loaded(choice).info
        assert isinstance(info, OwnInfo)
        return info.settings()
    return {
        name: fingerprint_files(standing_files(source, config))
        for name, (source, config) in find_sources(choice).items()
    }


def find_sources(choice: ModelChoice) -> dict[str, tuple[WeightsSource, ModelConfig]]:
    """Where the weights of a model are; downloads them where they are on the Hub.

    Raises:
        WMRewardError: they are nowhere; says how to get them.
    """
    if choice.is_own:
        return {}
    config, reading = choice.config, choice.reading
    try:
        own = find_weights(choice.name, choice.weights)
        found: dict[str, tuple[WeightsSource, ModelConfig]] = {"weights": (own, config)}
        if reading is not None and reading.observed == "teacher":
            assert isinstance(config, VJEPA21Config) and config.teacher is not None
            teacher = find_teacher(config, own, choice.teacher_weights)
            found["teacher_weights"] = teacher, config.teacher
    except WeightsError as error:
        raise WMRewardError(str(error)) from error
    return found
