"""What every test starts from: no network, few threads, the same random numbers."""

from __future__ import annotations

import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.pop("VJEPA_CHECKPOINT_DIR", None)

import pytest
import torch
from hypothesis import settings

# Started in the background by a shell, this process ignores Ctrl-C, and so would those that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the tests are small, and the cores are shared
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("tests")


LONG = ("test_example_notebook.py", "test_demo.py", "test_commands.py")
"""Files that come first: begun last, they would keep one of two cores from ending together with the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What may be kept for a later run is kept for no other test, and not in anybody's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
