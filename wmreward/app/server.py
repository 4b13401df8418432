"""The page at 127.0.0.1: seen on this computer only, and asking nothing of any network."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from wmreward.app.limits import LARGEST_MB
from wmreward.errors import UsageError, WMRewardError
from wmreward.pictures.extra import check_pictures

HOST = "127.0.0.1"
_NAMES = [HOST, "localhost"]
"""A page elsewhere whose name was made to point here is refused."""

_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Read when Gradio is imported."""


def check_extra() -> None:
    """Raise ``UsageError`` unless the extra ``app`` is there."""
    if find_spec("gradio") is None:
        raise UsageError(
            "wmreward app needs gradio, which is not installed: pip install -e '.[app]' in the clone"
        )
    check_pictures("wmreward app")


def serve(port: int, models: Sequence[str], *, device: str = "auto", debug: bool = False) -> None:
    """Show the page until the process is interrupted.

    Args:
        port: 0: any that is free.
        models: World models to choose from, the first one chosen.
        device: Where they run.
        debug: Print the traceback of errors.

    Raises:
        WMRewardError: the port is taken.
    """
    with _listening(port) as listener, TemporaryDirectory(prefix="wmreward-app-") as folder:
        os.environ.update(_QUIET, GRADIO_TEMP_DIR=str(Path(folder, "uploads")))
        import uvicorn

        config = uvicorn.Config(
            _application(models, device, Path(folder), debug),
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=1,
        )
        print(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise WMRewardError(
            f"port {port} cannot be had ({error.strerror}): give another --port, or 0 for any that is free"
        ) from None
    return listener


def _application(models: Sequence[str], device: str, folder: Path, debug: bool) -> object:
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from wmreward.app.page import build_page, theme

    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    application.add_middleware(TrustedHostMiddleware, allowed_hosts=_NAMES)
    return gradio.mount_gradio_app(
        application,
        build_page(models, device, folder, debug),
        "/",
        server_name=HOST,
        max_file_size=LARGEST_MB * 10**6,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        css=Path(__file__).with_name("style.css").read_text(encoding="utf-8"),
    )
