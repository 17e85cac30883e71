"""The running server: a socket, threads for HTTP and for compiling, and an end that loses no accepted request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import uvicorn

from nerfgen.errors import NerfgenError
from nerfgen.inversion import FitSettings
from nerfgen.live import Access, Listening, listening_socket, local_url
from nerfgen.serve.app import guarded_app
from nerfgen.serve.service import Service
from nerfgen.serve.settings import Capacity, Limits

# Connections at a time: each takes a file descriptor, of which programs have 1024.
_CONNECTIONS = 800
# Of a connection without requests: longer than programs wait between two of them.
_IDLE_SECONDS = 75
_BACKLOG = 2048
# After the grace time, for answers on their way.
_CLOSING_SECONDS = 5


class Server:
    """A service that listens; a context manager, whose block ends it after the grace time.

    Attributes:
        service: what it serves.
        access: who may use it.
        port: that it listens at.

    Args:
        paths: of model files, or of folders that hold ``model.h5``.
        fitting: where landmark estimators and MediaPipe's files are.

    Raises:
        InputError: a model can't be read, or the address can't be used.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        listening: Listening = Listening(),
        capacity: Capacity = Capacity(),
        limits: Limits = Limits(),
        *,
        fitting: FitSettings = FitSettings(),
    ) -> None:
        self.access = Access.of(listening.host, listening.allow_host, listening.given_token)
        self._socket = listening_socket(listening.host, listening.port, _BACKLOG)
        self._listening, self._grace = listening, capacity.grace
        self._failure: BaseException | None = None
        with contextlib.ExitStack() as failed:
            failed.callback(self._socket.close)
            self.service = Service(paths, capacity, limits, fitting=fitting, max_bytes=listening.max_bytes)
            failed.pop_all()
        self._server = uvicorn.Server(
            uvicorn.Config(
                guarded_app(self.service, self.access, listening.max_bytes),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                backlog=_BACKLOG,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=max(1, round(self._grace)),
            )
        )
        self._http = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """The address by which programs of this machine reach it."""
        return local_url(self._listening.host, self.port)

    def __enter__(self) -> Server:
        self._http.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.service.is_ready = False
        self._server.should_exit = True
        self._http.join(self._grace + _CLOSING_SECONDS)
        self.service.__exit__(kind, error, trace)

    def check(self) -> None:
        """Raise what ended the server, if something did."""
        if self._failure is not None:
            raise self._failure
        if not self._http.is_alive():
            raise NerfgenError("the server has ended; see its log, and start it again")

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:
            self._failure = error
