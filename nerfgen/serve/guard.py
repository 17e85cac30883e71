"""What every request passes before the service sees it: who asks, how much it brings, whether it can be served now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nerfgen.live import Access

# What asks these comes from the machines that watch a service, and holds no token.
_OPEN = ("/healthz", "/readyz")
_SERVED = "/v1/"
# Answers are sent in parts of so many bytes; a client has so many seconds to take each.
_PART, _PART_SECONDS = 1 << 18, 30.0
# Of JSON, which takes many times its size while it is parsed, and the time of all other requests.
_MAX_JSON = 4 << 20
# Bodies that are received at a time may take this multiple of the largest one.
_BODIES = 8
# The pages of the documentation load nothing from other servers, and no other page shows them inside of it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

# Called with every answer: path of its route, method, status, seconds.
Watch = Callable[[str, str, int, float], None]


class Guard:
    """ASGI middleware around a service.

    Args:
        app: the service.
        access: who may ask.
        max_bytes: of a request's body.
        seconds: in which a body has to arrive.
        is_ready: whether requests can be served.
        watch: called with every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        max_bytes: int,
        seconds: float,
        is_ready: Callable[[], bool],
        watch: Watch,
    ) -> None:
        self._app, self._access = app, access
        self._max_bytes, self._seconds = max_bytes, seconds
        self._is_ready, self._watch = is_ready, watch
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":  # the start and the end of the program
            await self._app(scope, receive, send)
            return
        started, answered, is_taken = time.monotonic(), 0, True

        async def answer(message: Message) -> None:
            nonlocal answered, is_taken
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if cookie := self._cookie(scope):
                    headers["Set-Cookie"] = cookie
            for part in _parts(message):
                try:
                    if is_taken:
                        await asyncio.wait_for(send(part), _PART_SECONDS)
                except TimeoutError:  # uvicorn ends the connection of an answer that is not whole
                    is_taken = False

        body = _Body(self, receive, self._limit(scope))
        try:
            if refusal := self._refusal(scope):
                await refusal(scope, receive, answer)
            else:
                await self._app(scope, body.receive, answer)
        finally:
            body.release()
            route = getattr(scope.get("route"), "path", "other")
            self._watch(route, scope["method"], answered, time.monotonic() - started)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        path = scope["path"]
        if why := self._access.refusal_of_site(headers):
            return _refused(HTTPStatus.FORBIDDEN, why)
        if path not in _OPEN and not self._access.has_token(headers, _target(scope), _port(scope)):
            why = "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`"
            return _refused(HTTPStatus.UNAUTHORIZED, why, {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        limit = self._limit(scope)
        if length.isascii() and length.isdecimal() and int(length[:20]) > limit:
            return _refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit), {"Connection": "close"})
        if path.startswith(_SERVED) and not self._is_ready():
            why = "the service is starting or ending; try again shortly"
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, why, {"Retry-After": "5"})
        return None

    def _cookie(self, scope: Scope) -> str:
        return self._access.cookie(_target(scope), _port(scope))

    def _limit(self, scope: Scope) -> int:
        """Bytes of a request's body: images come in forms, and arrays by PUT."""
        is_large = scope["method"] == "PUT" or Headers(scope=scope).get("content-type", "").startswith(
            "multipart/"
        )
        return self._max_bytes if is_large else min(self._max_bytes, _MAX_JSON)

    def count(self, change: int) -> None:
        """Count bytes of bodies that arrive.

        Raises:
            HTTPException: all of them are too many at a time.
        """
        self._arriving += change
        if change > 0 and self._arriving > _BODIES * self._max_bytes:
            detail = "too many large requests at a time; try again later"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": "5"})

    @property
    def seconds(self) -> float:
        """In which a body has to arrive."""
        return self._seconds


class _Body:
    """The body of one request while it arrives: within the limits of bytes and time."""

    def __init__(self, guard: Guard, receive: Receive, limit: int) -> None:
        self._guard, self._receive, self._limit = guard, receive, limit
        self._due = time.monotonic() + guard.seconds
        self._length, self._is_whole = 0, False

    async def receive(self) -> Message:
        """The next part; what follows the last one is the end of the connection."""
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._due - time.monotonic())
        except TimeoutError:
            detail = "the request did not arrive in time; send it again"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"}) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._length += size
            self._guard.count(size)
            if self._length > self._limit:
                detail = _too_large(self._limit)
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"})
            self._is_whole = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """The body is no longer held."""
        self._guard.count(-self._length)


def _parts(message: Message) -> Iterator[Message]:
    """A body in parts, each of which waits until the client has taken enough of those before it."""
    body = message.get("body", b"")
    last = max(len(body) - 1, 0) // _PART * _PART
    for start in range(0, last, _PART):
        yield {**message, "body": body[start : start + _PART], "more_body": True}
    yield {**message, "body": body[last:]} if body else message


def _too_large(limit: int) -> str:
    return f"the request has more than {limit:,} bytes; send less"


def _refused(status: HTTPStatus, why: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": why}, status, headers)


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}"


def _port(scope: Scope) -> int:
    server: Any = scope.get("server") or ("", 0)
    return server[1] or 0
