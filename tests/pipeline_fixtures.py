"""A tiny Wan and a nano world model in a folder, for what loads pipelines by name; needs diffusers."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fixtures import write_weights
from fakes import NANO
from tiny_pipelines import drawn, wan_with_text


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a pipeline (`wan`) and a world model (`world.safetensors`)."""
    folder = tmp_path_factory.mktemp("saved")
    drawn(wan_with_text).pipe.save_pretrained(folder / "wan")
    write_weights(folder / "world.safetensors", NANO)
    return folder
