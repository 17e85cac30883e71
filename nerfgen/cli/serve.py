"""``nerfgen serve``: renderings of models for other programs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages
from nerfgen.inversion import FitSettings
from nerfgen.live import Listening
from nerfgen.serve import Capacity, Limits

EPILOG = runtime.examples(
    "Examples",
    "nerfgen serve photos/model.h5",
    "nerfgen serve faces/model.h5 cars/model.h5 --port 9000",
    "nerfgen serve photos/model.h5 --host 0.0.0.0 --allow-host renderer.example",
    "nerfgen serve photos/model.h5 --queue 256 --deadline 10",
)

_FITTING = ("landmarker", "models")
_POLL_SECONDS = 0.1


def serve(
    model: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL", help="Model files, or folders that hold model.h5.", show_default=False
        ),
    ],
    *,
    listening: Listening,
    capacity: Capacity,
    limits: Limits,
    fitting: Annotated[dict[str, object], options.Fields(FitSettings, _FITTING, "Fitting of images")],
    messages: Messages,
) -> None:
    """Serve renderings, fits and meshes of models over HTTP.

    Clients send JSON and images, and receive views, videos, arrays and meshes; /docs describes all requests.
    Requests are served when rendering is compiled. Runs until Ctrl-C or SIGTERM, then finishes what it has
    accepted. Needs the extra `serve`.
    """
    from nerfgen.errors import extra_imports
    from nerfgen.stopping import stop_signals

    with extra_imports("the service", "serve"):
        from nerfgen.serve import Server
    runtime.require_known_token(listening, messages)
    reporter = messages.reporter()
    given = FitSettings(**fitting)  # type: ignore[arg-type]
    with stop_signals() as stop, Server(model, listening, capacity, limits, fitting=given) as server:
        with reporter.progress("compiling", "models") as progress:
            server.service.warm_up(lambda: bool(stop), progress, reporter.say)
        if not stop:
            token = f", token {server.access.token}" if server.access.token else ""
            reporter.result(
                {
                    "url": server.url,
                    "token": server.access.token or None,
                    "models": server.service.host.names,
                },
                f"serving {', '.join(server.service.host.names)} at {server.url}{token} (Ctrl-C ends it)",
            )
            sys.stdout.flush()
        while not stop:
            server.check()
            time.sleep(_POLL_SECONDS)
        reporter.say("finishing the accepted requests")
