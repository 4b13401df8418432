"""What PyTorch compiles, kept for the next run."""

from __future__ import annotations

import os
from contextlib import suppress

from wmfiles import user_cache


def keep_compiled() -> None:
    """From now on; before anything is compiled. PyTorch's own place is a folder for temporary files.

    ``TORCHINDUCTOR_CACHE_DIR`` names another one. Where nothing can be written, PyTorch's own stays.
    """
    folder = user_cache("compiled")
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
