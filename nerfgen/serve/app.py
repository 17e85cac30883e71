"""The service as an ASGI application: its endpoints behind the guard, its pages, and how errors become answers."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.formparsers import MultiPartParser

import nerfgen
from nerfgen.errors import InputError, MissingDependencyError, NerfgenError
from nerfgen.image import UnreadableImageError
from nerfgen.inversion import NoUsableImageError
from nerfgen.live import Access, BusyError, ClosedError, ExpiredError
from nerfgen.parallel import core_count
from nerfgen.serve.endpoints import router
from nerfgen.serve.guard import Guard
from nerfgen.serve.metrics import Metrics
from nerfgen.serve.owners import UnknownOwnerError
from nerfgen.serve.service import Service, UnknownModelError
from nerfgen.serve.wire import UNUSABLE

_STATUS: dict[type[NerfgenError], HTTPStatus] = {
    UnknownOwnerError: HTTPStatus.NOT_FOUND,
    UnknownModelError: HTTPStatus.NOT_FOUND,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    ClosedError: HTTPStatus.SERVICE_UNAVAILABLE,
    ExpiredError: HTTPStatus.GATEWAY_TIMEOUT,
    MissingDependencyError: HTTPStatus.NOT_IMPLEMENTED,
}
_RETRY_SECONDS = 5
_UNLIMITED = 1 << 40
_DESCRIPTION = """Renderings, new objects, meshes, and fits of images, by generative 3D models.

The media type of an answer follows `Accept`."""

_log = logging.getLogger(__name__)


def guarded_app(service: Service, access: Access, max_bytes: int) -> Guard:
    """The service as an ASGI application.

    Args:
        access: who may use it.
        max_bytes: of a request.
    """
    # Images stay in memory while they arrive; the guard limits their size.
    MultiPartParser.spool_max_size = _UNLIMITED
    app = FastAPIOffline(
        redoc_url=None,
        lifespan=_threads,
        title="nerfgen",
        version=nerfgen.__version__,
        description=_DESCRIPTION,
        # By default the page sends the description to a server of its makers.
        swagger_ui_parameters={"validatorUrl": None},
        dependencies=[Depends(HTTPBearer(auto_error=False, description="The token of the server."))],
    )
    app.state.service = service
    app.include_router(router)
    metrics = Metrics(service)
    _add_watching(app, service, metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NerfgenError, _failed)
    app.add_exception_handler(Exception, _fault)
    return Guard(
        app,
        access=access,
        max_bytes=max_bytes,
        seconds=service.capacity.deadline,
        is_ready=lambda: service.is_ready,
        watch=metrics.watch,
    )


@asynccontextmanager
async def _threads(app: FastAPI) -> AsyncIterator[None]:
    """Threads for encoding; more than cores would only take turns."""
    with ThreadPoolExecutor(core_count() + 1, "answers") as app.state.threads:
        yield


def _add_watching(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["watching"])
    async def healthz() -> Response:
        """Whether the program runs."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", tags=["watching"])
    async def readyz() -> Response:
        """Whether requests are served: 503 before rendering is compiled, and while the service ends."""
        if service.is_ready:
            return JSONResponse({"status": "ready"})
        headers = {"Retry-After": str(_RETRY_SECONDS)}
        return JSONResponse({"status": "not ready"}, HTTPStatus.SERVICE_UNAVAILABLE, headers)

    @app.get("/metrics", tags=["watching"])
    async def metrics_text() -> Response:
        """Metrics for Prometheus."""
        return Response(metrics.text(), media_type=metrics.MEDIA_TYPE)


async def _invalid(request: Request, error: Exception) -> Response:
    """Values of a wrong type: which field, and why. The values, which may be images, are not repeated."""
    assert isinstance(error, RequestValidationError)
    details = [{name: each[name] for name in ("loc", "msg", "type")} for each in error.errors()]
    return _refusal(details)


async def _failed(request: Request, error: Exception) -> Response:
    """An error of the library."""
    assert isinstance(error, NerfgenError)
    status = next(
        (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR
    )
    message = " ".join(str(error).split())
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        detail: dict[str, Any] = {
            "loc": _field(message),
            "msg": message.replace("`", ""),
            "type": "value_error",
        }
        if isinstance(error, NoUsableImageError | UnreadableImageError):
            status_of_images = error.status if isinstance(error.status, list) else [error.status]
            field = "images" if request.url.path.endswith("/personalise") else "image"
            detail |= {"loc": ["body", field], "type": UNUSABLE, "status": status_of_images}
        return _refusal([detail])
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(math.ceil(error.retry_seconds))
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return JSONResponse({"detail": message.replace("`", "")}, status, headers)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of the program; the traceback is in its log."""
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    detail = f"a fault in nerfgen: {type(error).__name__}; the log of the server has more"
    return JSONResponse({"detail": detail}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _refusal(details: list[dict[str, Any]]) -> Response:
    content = json.dumps({"detail": details}, default=str)
    return Response(content, HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")


def _field(message: str) -> list[str]:
    """Where a request has what an error of the library names in backticks."""
    found = re.search(r"`(\w+)`", message)
    return ["body", found[1]] if found else ["body"]
