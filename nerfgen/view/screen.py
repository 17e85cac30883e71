"""The frame of one visitor: quick while something moves, then sharper tile by tile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.geometry import intrinsic_matrix
from nerfgen.image import composite_over_white
from nerfgen.live import ClosedError, LiveObject, RenderQueue, Urgency, View
from nerfgen.render import Kind, Part, Views, samples_of, show

Pixels = UInt8[np.ndarray, "height width 3"]

# Shorter sides of a frame while it moves, pixels: as large as the machine renders in time.
MOVING_SIZES = (48, 64, 96, 128)
# Of tiles, and of the sharper frames that they make up.
TILE = 128
SHARP_SIZES = (256, 512, 1024)
# A frame is at most this many times as wide as high, or as high as wide.
_MOST_ASPECT = 3.0
# Of a frame or tile.
MOST_RAYS = round(MOVING_SIZES[-1] ** 2 * _MOST_ASPECT)
# A moving frame that takes longer than the first is made smaller, one that takes less than the second larger.
_SLOW_SECONDS, _FAST_SECONDS = 0.08, 0.03
_NEWEST = 0.3
# Between two frames that show more tiles of the same view.
_TILES_SECONDS = 0.15


@dataclass(frozen=True)
class Look:
    """How an object is shown.

    Attributes:
        kind: what is shown.
        second: shown in the right part of the frame; None where there is one part.
        split: where that part begins, a fraction of the width.
        background: whether colours include the background; white otherwise.
    """

    kind: Kind = "rgb"
    second: Kind | None = None
    split: float = 0.5
    background: bool = True

    @property
    def with_normals(self) -> bool:
        """Whether normals are shown."""
        return "normals" in (self.kind, self.second)


@dataclass(frozen=True)
class ViewerCamera:
    """A visitor's camera.

    Attributes:
        cam_to_world: its pose.
        fov: vertical field of view, radians.
        aspect: width of the window over its height.
    """

    cam_to_world: Float[np.ndarray, "4 4"]
    fov: float
    aspect: float

    def raster(self, shorter: int) -> tuple[int, int]:
        """Height and width in pixels of a frame with a given shorter side."""
        aspect = min(max(self.aspect, 1 / _MOST_ASPECT), _MOST_ASPECT)
        return (shorter, round(shorter * aspect)) if aspect >= 1 else (round(shorter / aspect), shorter)

    def intrinsics(self, height: int, width: int) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix of a frame, in its pixels; the window is stretched where its aspect is extreme."""
        focal = 0.5 * height / np.tan(self.fov / 2)
        matrix = intrinsic_matrix(focal, [width / 2, height / 2])
        matrix[0, 0] = 0.5 * width / (np.tan(self.fov / 2) * self.aspect)
        return matrix

    @property
    def square_fov(self) -> float:
        """Field of view in degrees of the square in the middle of the window, as :mod:`nerfgen.render` has it."""
        return float(np.degrees(2 * np.arctan(np.tan(self.fov / 2) * min(self.aspect, 1.0))))


@dataclass(frozen=True)
class Shot:
    """What a frame shows."""

    shown: LiveObject
    camera: ViewerCamera
    look: Look

    def view(self, height: int, width: int, part: Part) -> View:
        """A part of the frame, to be rendered."""
        return View(
            self.shown,
            self.camera.intrinsics(height, width),
            self.camera.cam_to_world,
            part,
            samples_of(self.shown.model),
            with_normals=self.look.with_normals,
        )


@dataclass(frozen=True)
class Frame:
    """A frame to be sent.

    Attributes:
        pixels: of the window.
        depth: along the optical axis, 0 where there is no surface; None while tiles are missing.
        is_sharp: whether it is the last of its view.
    """

    pixels: Pixels
    depth: Float[np.ndarray, "height width"] | None
    is_sharp: bool


def compose(views: Views, shot: Shot, left: int, width: int) -> Pixels:
    """A part of a frame as it looks.

    Args:
        left: column of the frame where the part begins.
        width: of the frame.
    """
    look = shot.look
    first = _looks(views, look.kind, shot)
    if look.second is None:
        return first
    border = min(max(round(look.split * width) - left, 0), first.shape[1])
    return np.concatenate([first[:, :border], _looks(views, look.second, shot)[:, border:]], axis=1)


def _looks(views: Views, kind: Kind, shot: Shot) -> Pixels:
    if kind == "rgb" and not shot.look.background:
        return composite_over_white(views.rgba)
    distance = float(np.linalg.norm(shot.camera.cam_to_world[:3, 3]))
    return show(kind, views.of_kind(kind), (max(distance - 1, 0.0), distance + 1))


def tiles(height: int, width: int) -> Iterator[Part]:
    """Parts of a frame, those in the middle first."""
    found = [
        Part(top, left, min(TILE, height - top), min(TILE, width - left))
        for top in range(0, height, TILE)
        for left in range(0, width, TILE)
    ]
    middle = np.array([height, width]) / 2
    yield from sorted(
        found,
        key=lambda part: float(
            np.linalg.norm(np.array([part.top + part.height / 2, part.left + part.width / 2]) - middle)
        ),
    )


class Screen:
    """What one visitor sees.

    Each change is rendered as a whole at a small size: one at a time, the newest first. When nothing has changed since,
    the same view is rendered at larger sizes by tiles; the next change interrupts that between two tiles.

    Args:
        queue: that renders.
        pool: threads that prepare and send frames.
        send: called with each frame, one at a time.
        fail: called with an error that ended a rendering.
        sharp_sizes: shorter sides of the sharper frames, ascending.
    """

    def __init__(
        self,
        queue: RenderQueue,
        pool: Executor,
        send: Callable[[Frame], None],
        fail: Callable[[BaseException], None],
        sharp_sizes: Sequence[int] = SHARP_SIZES,
    ) -> None:
        self._queue, self._pool, self._send, self._fail = queue, pool, send, fail
        self._sharp_sizes = tuple(sharp_sizes)
        self._lock = threading.RLock()
        self._sending = threading.Lock()
        self._wanted: Shot | None = None
        self._pending: Future[list[Views]] | None = None
        self._is_moving = False
        self._is_open = True
        self._size = len(MOVING_SIZES) - 1
        self._seconds = _FAST_SECONDS
        self._number = self._sent = 0

    def show(self, shot: Shot) -> None:
        """Show something else, from now on."""
        with self._lock:
            self._wanted = shot
            if self._is_moving or not self._is_open:
                return  # it follows the one that is being rendered
            is_sharpening = self._pending is not None and self._pending.cancel()
            # A tile that is being rendered delays this frame, not those that follow.
            self._move(adapts=not is_sharpening)

    def close(self) -> None:
        """Show nothing more."""
        with self._lock:
            self._is_open = False
            if self._pending:
                self._pending.cancel()

    def _move(self, *, adapts: bool = True) -> None:
        """Render the wanted view at a small size, which may adapt to the time that it takes."""
        shot, started = self._wanted, time.monotonic()
        assert shot is not None
        height, width = shot.camera.raster(MOVING_SIZES[self._size])
        self._is_moving = True

        def done(rendered: Future[list[Views]]) -> None:
            with self._lock:
                self._is_moving = False
                if not self._is_usable(rendered):
                    return
                if adapts:
                    self._adapt(time.monotonic() - started)
                views = rendered.result()[0]
                if self._wanted is not shot:
                    self._move()
                    self._deliver(lambda: Frame(compose(views, shot, 0, width), views.depth, False))
                else:
                    canvas = compose(views, shot, 0, width)
                    self._deliver(lambda: Frame(canvas, views.depth, False))
                    self._sharpen(shot, canvas, list(self._sharp_sizes))

        self._submit(shot.view(height, width, Part(0, 0, height, width)), Urgency.MOVING, done)

    def _sharpen(self, shot: Shot, canvas: Pixels, sizes: list[int]) -> None:
        """Render the view at the next larger sizes."""
        if not sizes:
            return
        height, width = shot.camera.raster(sizes[0])
        whole = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR)
        depth = np.zeros((height, width), np.float32)
        remaining = list(tiles(height, width))
        shown = time.monotonic()

        def done(rendered: Future[list[Views]]) -> None:
            nonlocal shown
            with self._lock:
                if not self._is_usable(rendered) or self._wanted is not shot:
                    return
                part = remaining.pop(0)
                views = rendered.result()[0]
                rows, columns = (
                    slice(part.top, part.top + part.height),
                    slice(part.left, part.left + part.width),
                )
                whole[rows, columns] = compose(views, shot, part.left, width)
                depth[rows, columns] = views.depth
                if remaining:
                    following()
                    if time.monotonic() - shown > _TILES_SECONDS:
                        shown = time.monotonic()
                        snapshot = whole.copy()
                        self._deliver(lambda: Frame(snapshot, None, False))
                else:
                    self._deliver(lambda: Frame(whole, depth, len(sizes) == 1))
                    self._sharpen(shot, whole, sizes[1:])

        def following() -> None:
            self._submit(shot.view(height, width, remaining[0]), Urgency.SHARPENING, done)

        following()

    def _is_usable(self, rendered: Future[list[Views]]) -> bool:
        """Whether a rendering is still of use; its error is reported."""
        if not self._is_open or rendered.cancelled():
            return False
        if error := rendered.exception():
            self._pool.submit(self._fail, error)
            return False
        return True

    def _submit(self, view: View, urgency: Urgency, done: Callable[[Future[list[Views]]], None]) -> None:
        try:
            self._pending = self._queue.submit([view], urgency=urgency)
        except ClosedError:
            self._is_open = False
        else:
            self._pending.add_done_callback(partial(self._reported, done))

    def _reported(self, done: Callable[[Future[list[Views]]], None], rendered: Future[list[Views]]) -> None:
        try:
            done(rendered)
        except Exception as error:
            self._pool.submit(self._fail, error)

    def _adapt(self, seconds: float) -> None:
        """Choose the size of moving frames by the time that they take; a single slow one does not change it."""
        self._seconds += _NEWEST * (min(seconds, 2 * _SLOW_SECONDS) - self._seconds)
        if self._seconds > _SLOW_SECONDS and self._size:
            self._size -= 1
            self._seconds = (_SLOW_SECONDS + _FAST_SECONDS) / 2
        elif self._seconds < _FAST_SECONDS and self._size < len(MOVING_SIZES) - 1:
            self._size += 1
            self._seconds = (_SLOW_SECONDS + _FAST_SECONDS) / 2

    def _deliver(self, make: Callable[[], Frame]) -> None:
        self._number += 1
        number = self._number

        def send() -> None:
            frame = make()
            with self._sending:
                if number > self._sent:  # later ones may be ready first
                    self._sent = number
                    self._send(frame)

        self._pool.submit(send)
