"""A page of the viewer without a browser: speaks the messages of viser's page over its websocket."""

from __future__ import annotations

import io
import queue
import re
import threading
import time
import uuid
from typing import Any, NamedTuple

import msgspec
import numpy as np
import viser
import zstandard
from jaxtyping import Float, UInt8
from PIL import Image
from viser import transforms
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from nerfgen.view import SHARP_QUALITY

_PART = 512 * 1024
_MOST_BYTES = 1 << 26


def _quantization_tables(quality: int) -> dict[int, list[int]]:
    """The tables that JPEGs of a quality have."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return image.quantization  # type: ignore[attr-defined]


_SHARP_TABLES = _quantization_tables(SHARP_QUALITY)


class Received(NamedTuple):
    """A frame that arrived.

    Attributes:
        pixels: of the whole window.
        at: when, on the monotonic clock.
        is_sharp: whether it is the last of its view, by the quality of its JPEG.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    at: float
    is_sharp: bool


class Page:
    """A visitor's page; a context manager that leaves.

    Args:
        url: of the viewer, with its token.
        size: width and height of the window, pixels.
        headers: further ones of the request that connects.

    Attributes:
        inputs: messages that made the inputs of the page, by the identifier of each.
        downloads: files that were sent to the page, by name.
        nodes: things in the scene, and the scope that each belongs to.
        said: title and body of notifications.
        closed: why the server ended the connection; empty if it did not.
    """

    def __init__(
        self, url: str, size: tuple[int, int] = (512, 512), headers: dict[str, str] | None = None
    ) -> None:
        self.size = size
        self.inputs: dict[str, dict[str, Any]] = {}
        self.downloads: dict[str, bytes] = {}
        self.nodes: dict[str, str] = {}
        self.said: list[tuple[str, str]] = []
        self.closed = ""
        self.frames: queue.Queue[Received] = queue.Queue()
        self._transfers: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._connection = connect(
            url.replace("http", "ws", 1),
            subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
            additional_headers=headers or {},
            max_size=_MOST_BYTES,
            compression=None,
        )
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._thread.join()

    def send(self, kind: str, **content: Any) -> None:
        """Send one message."""
        self._connection.send(msgspec.msgpack.encode({"type": kind, **content}))

    def send_raw(self, message: bytes | str) -> None:
        """Send anything."""
        self._connection.send(message)

    def look(self, cam_to_world: Float[np.ndarray, "4 4"], fov: float) -> None:
        """Look from a camera.

        Args:
            fov: vertical field of view, radians.
        """
        width, height = self.size
        self.send(
            "ViewerCameraMessage",
            wxyz=transforms.SO3.from_matrix(cam_to_world[:3, :3]).wxyz.tolist(),
            position=cam_to_world[:3, 3].tolist(),
            fov=fov,
            near=0.01,
            far=1000.0,
            image_height=height,
            image_width=width,
            look_at=[0.0, 0.0, 0.0],
            up_direction=[0.0, 1.0, 0.0],
        )

    def input(self, label: str, seconds: float = 30.0) -> str:
        """The identifier of the input with a label, when the page has it.

        Raises:
            TimeoutError: it has none.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._found(label), seconds):
                raise TimeoutError(f"the page has no input {label!r}: {self.labels}")
            return self._found(label)

    @property
    def labels(self) -> list[str]:
        """Labels of all inputs."""
        return [str(each["props"].get("label")) for each in self.inputs.values()]

    def _found(self, label: str) -> str:
        return next(
            (
                name
                for name, each in self.inputs.items()
                if str(each["props"].get("label", "")).startswith(label)
            ),
            "",
        )

    def set(self, label: str, value: object) -> None:
        """Change the input with a label."""
        self.send("GuiUpdateMessage", uuid=self.input(label), updates={"value": value})

    def press(self, label: str) -> None:
        """Press the button with a label."""
        self.set(label, True)

    def click(self, node: str) -> None:
        """Click on a thing in the scene, by its name."""
        self.send(
            "SceneNodeClickMessage",
            name=node,
            instance_index=None,
            ray_origin=[0.0, 0.0, 4.0],
            ray_direction=[0.0, 0.0, -1.0],
            screen_pos=[0.5, 0.5],
            modifier=None,
            owner=self.nodes[node],
        )

    def value(self, label: str) -> Any:
        """The value of the input with a label."""
        return self.inputs[self.input(label)]["value"]

    def words(self) -> str:
        """All texts of the page, as a person reads them."""
        texts = (str(each["props"].get("_markdown", "")) for each in self.inputs.values())
        return "\n".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text) for text in texts if text)

    def upload(self, label: str, name: str, content: bytes) -> None:
        """Send a file by the upload button with a label."""
        transfer, button = str(uuid.uuid4()), self.input(label)
        parts = [content[start : start + _PART] for start in range(0, len(content), _PART)]
        self.send(
            "FileTransferStartUpload",
            source_component_uuid=button,
            transfer_uuid=transfer,
            filename=name,
            mime_type="image/jpeg",
            part_count=len(parts),
            size_bytes=len(content),
        )
        for number, part in enumerate(parts):
            self.send(
                "FileTransferPart",
                source_component_uuid=button,
                transfer_uuid=transfer,
                part_index=number,
                content=part,
            )

    def wait(self, condition: Any, seconds: float = 60.0) -> bool:
        """Wait until the page fulfils a condition; whether it does in time."""
        with self._changed:
            return bool(self._changed.wait_for(condition, seconds))

    def _receive(self) -> None:
        try:
            for raw in self._connection:
                if isinstance(raw, bytes):
                    for message in _messages(raw):
                        self._take(message)
                    with self._changed:
                        self._changed.notify_all()
        except ConnectionClosed as error:
            self.closed = str(error)
        with self._changed:
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "BackgroundImageMessage" and message["rgb_data"]:
            at = time.monotonic()
            with Image.open(io.BytesIO(message["rgb_data"])) as image:
                is_sharp = image.quantization == _SHARP_TABLES  # type: ignore[attr-defined]
                self.frames.put(Received(np.asarray(image.convert("RGB")), at, is_sharp))
        elif kind == "GuiUpdateMessage" and message["uuid"] in self.inputs:
            own = self.inputs[message["uuid"]]
            for name, value in message["updates"].items():
                (own if name == "value" else own["props"])[name] = value
        elif kind.startswith("Gui") and "props" in message and "uuid" in message:
            self.inputs[message["uuid"]] = message
        elif kind == "CameraFrustumMessage":
            self.nodes[message["name"]] = message["owner"]
        elif kind == "NotificationShowMessage":
            self.said.append((message["props"]["title"], message["props"]["body"]))
        elif kind == "FileTransferStartDownload":
            self._transfers[message["transfer_uuid"]] = {**message, "parts": {}}
        elif kind == "FileTransferPart":
            transfer = self._transfers[message["transfer_uuid"]]
            transfer["parts"][message["part_index"]] = bytes(message["content"])
            if len(transfer["parts"]) == transfer["part_count"]:
                parts = [transfer["parts"][number] for number in range(transfer["part_count"])]
                self.downloads[transfer["filename"]] = b"".join(parts)


def _messages(raw: bytes) -> list[dict[str, Any]]:
    """The messages of one packet: a compressed part, then arrays, which the viewer's page does not need."""
    size = int.from_bytes(raw[:8], "little")
    stored = int.from_bytes(raw[8:16], "little")
    plain = zstandard.ZstdDecompressor().decompress(raw[16 : 16 + stored], max_output_size=size)
    return list(msgspec.msgpack.decode(plain)["messages"])
