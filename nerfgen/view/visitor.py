"""One visitor of the viewer: what they look at, how, and from where."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import viser
from jaxtyping import Float
from viser import transforms

from nerfgen.errors import NerfgenError
from nerfgen.geometry import Cameras, field_of_view
from nerfgen.inversion import FitSettings
from nerfgen.live import Job, Jobs, LiveModel, RenderQueue, Uploads
from nerfgen.parallel import Progress
from nerfgen.provenance import Call
from nerfgen.view.chosen import Chosen, mean
from nerfgen.view.screen import Frame, Look, Screen, Shot, ViewerCamera

Result = TypeVar("Result")

# Of JPEGs. Only the last frame of a view has the second.
_MOVING_QUALITY, SHARP_QUALITY = 80, 93
_NOTICE_SECONDS = 8.0
# Least distance of the point that a visitor turns about, and depth of what has none, world units.
_NEAR, _FAR = 1.05, 40.0
_BACK = 2.2


@dataclass(frozen=True)
class Studio:
    """What all visitors share.

    Attributes:
        live: the model.
        queue: renders.
        jobs: long tasks.
        uploads: decodes images.
        pool: threads for short work.
        fitting: how images are fitted.
        lacking: why images can't be fitted; empty where they can.
        as_line: a command as the words of a command line.
        sharp_sizes: shorter sides of frames at rest, pixels.
        stored: objects of a file that visitors may choose; the first is shown to who comes.
        debug: whether errors that are no user's are printed with their traceback.
    """

    live: LiveModel
    queue: RenderQueue
    jobs: Jobs
    uploads: Uploads
    pool: Executor
    fitting: FitSettings
    lacking: str
    as_line: Callable[[Call], str]
    sharp_sizes: tuple[int, ...]
    stored: Sequence[Chosen] = ()
    debug: bool = False


class Visitor:
    """One visitor. Panels change what is shown by its methods, and hear of changes by ``on_choice``.

    Attributes:
        studio: what all visitors share.
        client: viser's handle of their page.
        chosen: the object.
        look: how it is shown.
        on_choice: called when another object was chosen.
        on_leaving: called when they leave.
        has_left: whether they have left.
    """

    def __init__(self, studio: Studio, client: viser.ClientHandle) -> None:
        self.studio, self.client = studio, client
        self.chosen = studio.stored[0] if studio.stored else mean(studio.live)
        self.look = Look()
        self.shows_depth = False
        self.on_choice: list[Callable[[], None]] = []
        self.on_leaving: list[Callable[[], None]] = []
        self.has_left = False
        self._lock = threading.RLock()
        self._calls = ThreadPoolExecutor(1)
        self._screen = Screen(studio.queue, studio.pool, self._send, self.report, studio.sharp_sizes)
        self._camera: ViewerCamera | None = None

        async def moved(handle: viser.CameraHandle) -> None:
            self._camera = _camera_of(handle)
            self.refresh()

        client.camera.on_update(moved)

    @property
    def camera(self) -> ViewerCamera:
        """Where they look from."""
        return self._camera or _camera_of(self.client.camera)

    def choose(self, chosen: Chosen, *, with_camera: bool = False) -> None:
        """Show another object.

        Args:
            with_camera: from the camera of its image, if it has one.
        """
        with self._lock:
            self.chosen = chosen
            if with_camera and chosen.camera is not None:
                self.look_through(chosen.camera)
            for call in self.on_choice:
                call()
        self.refresh()

    def move(self, axis: int, value: float) -> None:
        """Move the object along a principal axis."""
        with self._lock:
            self.chosen = self.chosen.moved(axis, value)
        self.refresh()

    def set_look(self, **changes: Any) -> None:
        """Show it in another way."""
        with self._lock:
            self.look = replace(self.look, **changes)
        self.refresh()

    def look_through(self, cameras: Cameras) -> None:
        """Look from the first of some cameras at the origin's side of the scene; the window shows all of its square."""
        pose = np.asarray(cameras.cam_to_world[0], float)
        vertical = np.radians(float(field_of_view(cameras.intrinsics)[0]))
        camera = self.client.camera
        with self.client.atomic():
            camera.up_direction = (0.0, 1.0, 0.0)
            camera.position = pose[:3, 3]
            camera.look_at = _closest_to_origin(pose)
            narrow = min(self.camera.aspect, 1.0)
            camera.fov = float(2 * np.arctan(np.tan(vertical / 2) / narrow))
        self._camera = _camera_of(camera)

    def step_back(self) -> None:
        """Look from farther away, in the same direction."""
        camera = self.client.camera
        target, position = np.array(camera.look_at), np.array(camera.position)
        with self.client.atomic():
            camera.position = target + _BACK * (position - target)
            camera.look_at = target
        self._camera = _camera_of(camera)

    def refresh(self) -> None:
        """Render what is chosen from where they look."""
        if self._camera is None:
            return
        with self._lock:
            shot = Shot(self.chosen.live(self.studio.live), self._camera, self.look)
        self._screen.show(shot)

    def leave(self) -> None:
        """Free what the visitor holds."""
        self.has_left = True
        self._screen.close()
        self._calls.shutdown(wait=False, cancel_futures=True)
        for call in list(self.on_leaving):
            call()

    def run(
        self, work: Callable[[Progress], Result], watch: Progress, seconds: float = np.inf
    ) -> Job[Result]:
        """Ask for a long task, which ends when they leave.

        Args:
            watch: receives its progress, in another thread.
            seconds: until its deadline.

        Raises:
            BusyError: too many tasks wait.
        """
        job = self.studio.jobs.submit(work, watch=watch, seconds=seconds)
        self.on_leaving.append(job.cancel)
        job.future.add_done_callback(lambda future: self.on_leaving.remove(job.cancel))
        if self.has_left:
            job.cancel()
        return job

    def notify(self, title: str, body: str, *, failed: bool = False) -> None:
        """Tell the visitor something in a few words."""
        self.client.add_notification(
            title, body, color="red" if failed else None, auto_close_seconds=_NOTICE_SECONDS
        )

    def report(self, error: BaseException) -> None:
        """Tell the visitor of an error; a fault in nerfgen is also printed."""
        if isinstance(error, NerfgenError | OSError):
            self.notify("That did not work", str(error), failed=True)
        elif not isinstance(error, CancelledError):
            self.notify("A fault in nerfgen", f"{type(error).__name__}: {error}", failed=True)
            if self.studio.debug:
                traceback.print_exception(error)

    def in_order(self, call: Callable[[], None]) -> Callable[[Any], Any]:
        """A callback of viser that runs ``call`` when the visitor, not the program, changes something.

        Calls run one after the other, in the order of what the visitor did.
        """
        return self.follow(lambda value: call())

    def follow(self, call: Callable[[Any], None]) -> Callable[[Any], Any]:
        """The same with the value that an input was given, which later calls may have changed since."""

        async def run(event: Any) -> None:
            if event.client is not None:
                value = getattr(event.target, "value", None)
                with contextlib.suppress(RuntimeError):  # they have just left
                    self._calls.submit(self._reported, partial(call, value))

        return run

    def beside(self, call: Callable[[], None]) -> Callable[[Any], Any]:
        """The same for a call that waits for something: what else the visitor does goes on."""

        def run(event: Any) -> None:
            if event.client is not None:
                self._reported(call)

        return run

    def _reported(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.report(error)

    def _send(self, frame: Frame) -> None:
        with contextlib.suppress(RuntimeError):  # they have just left
            self.client.scene.set_background_image(
                frame.pixels,
                format="jpeg",
                jpeg_quality=SHARP_QUALITY if frame.is_sharp else _MOVING_QUALITY,
                depth=_far_where_empty(frame.depth) if self.shows_depth else None,
            )
            self.client.flush()


def set_value(handle: Any, value: object) -> None:
    """Set the value of an input of the page; the types of viser have it as read-only."""
    handle.value = value


def escaped(words: str) -> str:
    """Words as Markdown shows them. They may come from a stranger's file, and viser's page takes HTML in Markdown."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]()<>#+-.!|~&:" else sign for sign in words)


def _far_where_empty(
    depth: Float[np.ndarray, "height width"] | None,
) -> Float[np.ndarray, "height width"] | None:
    """Depth for viser, in whose scene other things stand behind what has none."""
    return None if depth is None else np.where(depth > 0, depth, _FAR)


def _camera_of(handle: viser.CameraHandle) -> ViewerCamera:
    pose = np.eye(4)
    pose[:3, :3] = transforms.SO3(handle.wxyz).as_matrix()
    pose[:3, 3] = handle.position
    return ViewerCamera(pose, float(handle.fov), float(handle.aspect))


def _closest_to_origin(pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    """The point on a camera's optical axis that is closest to the origin; what the visitor turns about."""
    position, forward = pose[:3, 3], pose[:3, 2]
    return position + max(-float(position @ forward), _NEAR) * forward
