"""The web server under the viewer: viser's, with every request checked before viser sees it.

viser serves whoever reaches its port, keeps uploads of any size in memory, and opens a tunnel to a server of its makers
for any visitor that asks. Here requests pass :class:`nerfgen.live.Access`, visitors may send the messages of a viewer
only, uploads have a limit, and there is no tunnel. viser has no place for such checks, so that its call of
``websockets.asyncio.server.serve`` is replaced while it starts; that they are in force is tried before anybody is
let in.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import io
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import viser
import websockets.asyncio.server
import websockets.exceptions
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from nerfgen.errors import NerfgenError
from nerfgen.live import Access, listening_socket, local_name

# What the viewer's page sends; the types of viser's messages.
_ALLOWED = frozenset(
    {
        "CommandTriggerMessage",
        "FileTransferPart",
        "FileTransferPartAck",
        "FileTransferStartUpload",
        "GuiButtonHoldMessage",
        "GuiFormSubmitMessage",
        "GuiUpdateMessage",
        "SceneNodeClickMessage",
        "ScenePointerMessage",
        "ViewerCameraMessage",
    }
)
# The page sends files in parts of so many bytes, the last one shorter.
_PART = 1 << 19
_MAX_MESSAGE = 1 << 20
_MAX_NAME = 1024
_LARGEST = 1e9
_POLICY_VIOLATION, _TOO_BIG = 1008, 1009
_HEADERS = {
    # No page of another site may show the viewer inside of it, and the address with the token stays here.
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # viser's page is one file with its scripts in it. Whatever a name in a model's file says, the page loads and sends
    # nothing elsewhere.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; frame-ancestors 'none'; "
    "frame-src 'none'; form-action 'none'; base-uri 'none'",
}
_TRIAL_SECONDS = 10
# viser warns of each message to a visitor who has just left.
warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
_FORGED = "http://forged.invalid"


class ViewerServer(viser.ViserServer):
    """viser's server behind checks.

    Args:
        host, port: to listen at.
        access: whom to let in.
        max_upload: bytes of a file that a visitor sends.
        label: of the panel.

    Raises:
        InputError: the port is taken, or the address is none of this machine's.
        NerfgenError: the checks are not in force with this version of viser.
    """

    def __init__(self, host: str, port: int, access: Access, *, max_upload: int, label: str) -> None:
        listening_socket(host, port).close()  # viser would take another port than a taken one
        # viser would listen at the port that this variable names.
        os.environ.pop("_VISER_PORT_OVERRIDE", None)
        with _checked(access, max_upload), contextlib.redirect_stdout(io.StringIO()):
            super().__init__(host, port, label=label, verbose=False)
        try:
            _try_checks(host, self.get_port(), access)
        except BaseException:
            self.stop()
            raise

    def request_share_url(self, verbose: bool = True) -> str | None:
        """No tunnel: nothing leaves this machine."""
        return None

    def stop(self) -> None:
        """End the server and all connections."""
        with contextlib.redirect_stdout(io.StringIO()):
            super().stop()


@contextlib.contextmanager
def _checked(access: Access, max_upload: int) -> Iterator[None]:
    """Let servers that are started in the block check their requests and messages."""
    serve = websockets.asyncio.server.serve

    def checking(handler: Callable[..., Any], host: str, port: int, **options: Any) -> Any:
        answer = options.pop("process_request")

        def process_request(connection: ServerConnection, request: Request) -> Response | None:
            own_port = connection.local_address[1]
            headers = {name.lower(): value for name, value in request.headers.raw_items()}
            if refusal := access.refusal(headers, request.path, own_port):
                return _refused(refusal)
            response = answer(connection, request)
            if isinstance(response, Response):
                for name, value in _HEADERS.items():
                    response.headers[name] = value
                if cookie := access.cookie(request.path, own_port):
                    response.headers["Set-Cookie"] = cookie
            return response

        async def limited(connection: ServerConnection) -> None:
            await handler(_LimitedConnection(connection, max_upload))

        options["max_size"] = _MAX_MESSAGE
        return serve(limited, host, port, process_request=process_request, **options)

    websockets.asyncio.server.serve = checking  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve  # type: ignore[misc]


def _refused(why: str) -> Response:
    body = f"nerfgen: {why}\n".encode()
    headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
    return Response(http.HTTPStatus.FORBIDDEN, "Forbidden", headers, body)


class _LimitedConnection:
    """A visitor's connection that is closed at a message that the page would not send."""

    def __init__(self, connection: ServerConnection, max_upload: int) -> None:
        self._connection, self._max_upload = connection, max_upload
        self._transfer: _Transfer | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def recv(self) -> bytes:
        """The next message."""
        while True:
            raw = await self._connection.recv()
            message = _decoded(raw)
            code, why = self._problem(message)
            if code:
                await self._connection.close(code, why)
                raw = await self._connection.recv()  # raises that it is closed
            assert isinstance(raw, bytes)
            if not _is_hidden(message):
                return raw

    def _problem(self, message: dict[str, Any]) -> tuple[int, str]:
        """The code and reason to close the connection with; 0 if a message is right."""
        kind = message.get("type")
        if kind not in _ALLOWED:
            return _POLICY_VIOLATION, "not a message of the viewer"
        if not _is_finite(message):
            return _POLICY_VIOLATION, "a number that is not finite"
        if kind == "GuiUpdateMessage" and set(message.get("updates", ())) != {"value"}:
            return _POLICY_VIOLATION, "an update of other than a value"
        if kind == "FileTransferStartUpload":
            return self._start_transfer(message)
        if kind == "FileTransferPart":
            return self._continue_transfer(message)
        return 0, ""

    def _start_transfer(self, message: dict[str, Any]) -> tuple[int, str]:
        name, size = message.get("filename"), message.get("size_bytes")
        if not isinstance(size, int) or not 0 <= size <= self._max_upload:
            return _TOO_BIG, f"files of more than {self._max_upload} bytes are refused"
        if self._transfer:
            return _POLICY_VIOLATION, "one file at a time"
        if (
            not isinstance(name, str)
            or len(name) > _MAX_NAME
            or message.get("part_count") != -(-size // _PART)
        ):
            return _POLICY_VIOLATION, "not a file as the page sends it"
        # viser keeps nothing of a file without parts.
        self._transfer = _Transfer(message.get("transfer_uuid"), size) if size else None
        return 0, ""

    def _continue_transfer(self, message: dict[str, Any]) -> tuple[int, str]:
        transfer, content = self._transfer, message.get("content")
        due = transfer and (transfer.identity, transfer.number, min(_PART, transfer.left))
        given = message.get("transfer_uuid"), message.get("part_index")
        if transfer is None or not isinstance(content, bytes) or (*given, len(content)) != due:
            return _POLICY_VIOLATION, "a part of a file that was not announced"
        left = transfer.left - len(content)
        self._transfer = _Transfer(transfer.identity, left, transfer.number + 1) if left else None
        return 0, ""


class _Transfer(NamedTuple):
    """A file on its way: bytes that are still to come, and the number of the next part."""

    identity: Any
    left: int
    number: int = 0


def _decoded(raw: str | bytes) -> dict[str, Any]:
    """A message; empty for what is none."""
    try:
        message = msgspec.msgpack.decode(raw) if isinstance(raw, bytes) else None
    except (msgspec.DecodeError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {}


def _is_hidden(message: dict[str, Any]) -> bool:
    """Whether it is the camera of a page that shows nothing: viser divides by its height."""
    sizes = message.get("image_height"), message.get("image_width")
    return message.get("type") == "ViewerCameraMessage" and not all(
        isinstance(size, int) and size > 0 for size in sizes
    )


def _is_finite(value: Any) -> bool:
    """Whether all numbers in a message are finite and of a size that a viewer has."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    if isinstance(value, str):  # viser takes texts for numbers too
        try:
            value = float(value)
        except ValueError:
            return True
    return not isinstance(value, int | float) or abs(value) < _LARGEST


def _try_checks(host: str, port: int, access: Access) -> None:
    """Raise :class:`NerfgenError` unless the server refuses a forged page's requests and connections."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "bmVyZmdlbi1uZXJmZ2VuIQ==",
        "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}",
    }
    trials: list[dict[str, str]] = [
        {"Origin": _FORGED},
        {"Origin": _FORGED, **upgrade},
        {"Host": "forged.invalid", **upgrade},
    ]
    if access.token:
        trials += [{}, upgrade]
    for headers in trials:
        connection = http.client.HTTPConnection(local_name(host), port, timeout=_TRIAL_SECONDS)
        try:
            connection.request("GET", "/", headers=headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise NerfgenError(f"the viewer does not answer at port {port} ({error})") from error
        finally:
            connection.close()
        if status != http.HTTPStatus.FORBIDDEN:
            raise NerfgenError(
                f"viser {viser.__version__} lets requests of other sites through (it answered {status}); install the "
                "version that nerfgen was tested with: pip install 'nerfgen[view]'"
            )
