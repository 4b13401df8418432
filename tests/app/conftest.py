"""A small world model under the name of the embedded one: here it only matters that there are numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cli_fixtures import write_weights
from fakes import NANO

import vjepa2.config
import vjepa2.files.sources
from wmreward.surprise import models


@pytest.fixture(scope="module")
def nano_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Scores under the name of `tiny`, a hundred times faster and without knowing anything."""
    weights = write_weights(tmp_path_factory.mktemp("nano") / "nano.safetensors", NANO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vjepa2.config.MODELS, "tiny", replace(NANO, name="tiny"))
        patch.setitem(vjepa2.files.sources.EMBEDDED, "tiny", weights)
        models.load.cache_clear()
        yield
        models.load.cache_clear()
