"""``nerfgen view``: a viewer of a model in the browser."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from typing import Annotated

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages
from nerfgen.inversion import FitSettings
from nerfgen.live import Listening
from nerfgen.view import ViewerSettings

EPILOG = runtime.examples(
    "Examples",
    "nerfgen view photos/model.h5",
    "nerfgen view photos --port 9000 --no-browser",
    "nerfgen view photos/model.h5 --host 0.0.0.0",
)

_FITTING = ("landmarker", "models", "steps", "tune_steps", "workers")


def view(
    model: runtime.ModelFile,
    *,
    listening: Listening,
    settings: ViewerSettings,
    fitting: Annotated[dict[str, object], options.Fields(FitSettings, _FITTING, "Fitting of images")],
    messages: Messages,
) -> None:
    """Show a model in the browser: turn its objects, move along its axes, fit images, download files.

    Runs until Ctrl-C. Each visitor has objects, camera and settings of their own. Needs the extra `view`.
    """
    from nerfgen.cli.command_line import command_line
    from nerfgen.errors import extra_imports
    from nerfgen.live import LiveModel, model_name
    from nerfgen.model import model_file

    with extra_imports("the viewer", "view"):
        from nerfgen.view import Viewer, compile_programs
    # It logs every request, and with a traceback what is none.
    logging.getLogger("websockets").setLevel(logging.ERROR if messages.debug else logging.CRITICAL)
    runtime.require_known_token(listening, messages)
    reporter = messages.reporter()
    path = model_file(model)
    live = LiveModel(model_name(path), path)
    with Viewer(
        live,
        listening,
        settings,
        FitSettings(**fitting),  # type: ignore[arg-type]
        lambda call: command_line(call, options.commands()),
        warn=reporter.say,
        debug=messages.debug,
    ) as viewer:
        with reporter.progress("compiling", "programs") as progress:
            compile_programs(live, progress)
        # Other users of the machine see the address that a browser is started with.
        opened = settings.browser and not viewer.token and _open_browser(viewer.url)
        lines = [f"{path} at {viewer.url} (Ctrl-C ends it)"]
        if not opened:
            lines.append(_tunnel(viewer.port))
        reporter.result({"url": viewer.url, "port": viewer.port}, "\n".join(lines))
        sys.stdout.flush()
        while True:
            time.sleep(3600)


def _open_browser(url: str) -> bool:
    """Open a page in the user's browser; whether there is one."""
    import webbrowser

    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False  # others run in the terminal
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


def _tunnel(port: int) -> str:
    """How to see the page from another machine."""
    name = os.environ.get("SSH_CONNECTION", "").split()
    host = name[2] if len(name) == 4 else socket.gethostname()
    return f"from another machine: ssh -L {port}:localhost:{port} {host}"
