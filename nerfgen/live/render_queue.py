"""One queue before one device: views of all visitors and requests, the most urgent first, equal shapes together."""

from __future__ import annotations

import enum
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.errors import NerfgenError
from nerfgen.live.model_host import LiveObject
from nerfgen.memory import return_free_memory, share_free_memory
from nerfgen.parallel import Steps, in_turns
from nerfgen.render import ObjectRenderer, Part, Views, part_steps, together

# Weight of the newest view in the average time of a ray.
_NEWEST = 0.2
# Until a view has been rendered.
_SECONDS_PER_RAY = 1e-6
_MIN_SECONDS = 1.0
# Between two returns of free memory to the system, each of which takes some milliseconds.
_RETURN_SECONDS = 10.0


class BusyError(NerfgenError):
    """The queue is full, or a request could not be answered before its deadline.

    Attributes:
        retry_seconds: after which a new request is likely to be accepted.
    """

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = max(retry_seconds, _MIN_SECONDS)


class ExpiredError(NerfgenError):
    """The deadline of a request passed before it was answered."""


class ClosedError(NerfgenError):
    """The program is ending and takes no more requests."""


class Urgency(enum.IntEnum):
    """The order in which views are rendered."""

    MOVING = 0
    ANSWER = 1
    SHARPENING = 2


class Shape(NamedTuple):
    """What views of one batch have in common."""

    model: str
    height: int
    width: int
    samples: int
    antialias: int
    with_normals: bool

    @property
    def rays(self) -> int:
        """The number of rays of a view."""
        return self.height * self.width * self.antialias**2


@dataclass(frozen=True)
class View:
    """A part of a view of an object.

    Attributes:
        shown: the object.
        intrinsics: of the whole view, in its pixels.
        cam_to_world: of its camera.
        part: the pixels to render.
        samples, antialias, with_normals: as of :func:`nerfgen.render.render_views`.
    """

    shown: LiveObject
    intrinsics: Float[np.ndarray, "3 3"]
    cam_to_world: Float[np.ndarray, "4 4"]
    part: Part
    samples: int
    antialias: int = 1
    with_normals: bool = False

    @property
    def shape(self) -> Shape:
        """What has to be equal for views to be rendered together."""
        _, _, height, width = self.part
        return Shape(self.shown.model_name, height, width, self.samples, self.antialias, self.with_normals)


@dataclass(eq=False)
class _Request:
    """Views that were asked for together. Its future holds a list of :class:`Views`."""

    views: Sequence[View]
    urgency: Urgency
    deadline: float
    turn: int
    arrived: float = field(default_factory=time.monotonic)
    future: Future[list[Views]] = field(default_factory=Future)
    taken: int = 0
    rendered: dict[int, Views] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.future.done()

    def receive(self, place: int, views: Views) -> None:
        self.rendered[place] = views
        if len(self.rendered) == len(self.views) and self.future.set_running_or_notify_cancel():
            self.future.set_result([self.rendered[each] for each in range(len(self.views))])

    def fail(self, error: BaseException) -> None:
        if not self.is_over and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass
class Statistics:
    """What a queue has done since it began."""

    views: int = 0
    batches: int = 0
    rays: int = 0
    busy_seconds: float = 0.0
    refused: int = 0
    expired: int = 0


class RenderQueue:
    """Renders views for many in one thread; a context manager that ends it.

    A request takes turns with others of its urgency, a batch at a time: a long one does not hold up short ones.

    Args:
        limit: most requests that wait.
        max_batch: most views that are rendered together.
        batch_seconds: how long an answer waits for others of its shape.
        cache_bytes: memory for what is computed once per object (planes, occupancy); the least recently shown objects
            leave first.
    """

    def __init__(
        self,
        *,
        limit: int = 64,
        max_batch: int = 8,
        batch_seconds: float = 0.0,
        cache_bytes: int = 1 << 29,
    ) -> None:
        self.statistics = Statistics()
        self._limit, self._max_batch, self._batch_seconds = limit, max_batch, batch_seconds
        self._waiting: list[_Request] = []
        self._turns = itertools.count()
        self._changed = threading.Condition()
        self._is_open = True
        self._seconds_per_ray = _SECONDS_PER_RAY
        self._cache = _RendererCache(cache_bytes)
        share_free_memory()
        self._thread = threading.Thread(target=self._run, name="rendering", daemon=True)
        self._thread.start()

    def __enter__(self) -> RenderQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of requests that wait."""
        return len(self._waiting)

    def submit(
        self,
        views: Sequence[View],
        *,
        urgency: Urgency = Urgency.ANSWER,
        seconds: float = float("inf"),
    ) -> Future[list[Views]]:
        """Ask for views; the future holds them in order. Cancelling it gives up what is not yet rendered.

        Args:
            seconds: until the deadline.

        Raises:
            BusyError: the queue is full, or would not answer before the deadline.
            ClosedError: the queue was closed.
        """
        with self._changed:
            if not self._is_open:
                raise ClosedError("the program is ending; try again when it is back")
            self._drop_finished()
            wait = self._expected_wait(urgency)
            own = self._seconds_per_ray * sum(view.shape.rays for view in views)
            if urgency is Urgency.ANSWER and (len(self._waiting) >= self._limit or wait + own > seconds):
                self.statistics.refused += 1
                raise BusyError(f"{len(self._waiting)} requests are waiting; try again later", wait)
            request = _Request(views, urgency, time.monotonic() + seconds, next(self._turns))
            self._waiting.append(request)
            self._changed.notify_all()
        return request.future

    def is_wanted(self, urgency: Urgency) -> bool:
        """Whether a request of an urgency waits."""
        return any(request.urgency is urgency and not request.is_over for request in list(self._waiting))

    def close(self, seconds: float = 0.0) -> None:
        """Take no more requests, and end when those that wait are answered, or after some seconds."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            for request in self._waiting:
                request.fail(ClosedError("the program is ending; try again when it is back"))
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _expected_wait(self, urgency: Urgency) -> float:
        rays = sum(
            view.shape.rays
            for request in self._waiting
            if request.urgency <= urgency
            for view in request.views[request.taken :]
        )
        return rays * self._seconds_per_ray

    def _drop_finished(self) -> None:
        """Forget requests that were cancelled or whose deadline has passed."""
        now = time.monotonic()
        for request in self._waiting:
            if request.deadline < now and not request.is_over:
                self.statistics.expired += 1
                request.fail(
                    ExpiredError("the deadline passed while the request was waiting; try again later")
                )
        self._waiting = [request for request in self._waiting if not request.is_over]

    def _run(self) -> None:
        returned = time.monotonic()
        while batch := self._next_batch():
            started = time.monotonic()
            if started - returned > _RETURN_SECONDS:
                return_free_memory()
                returned = started
            views = [request.views[place] for request, place in batch]
            rays = views[0].shape.rays
            rendered = in_turns(map(self._steps, views), together(rays))
            for (request, place), result in zip(batch, rendered, strict=True):
                if isinstance(result, Exception):
                    request.fail(result)
                else:
                    request.receive(place, result)
            self._count(len(batch), len(batch) * rays, time.monotonic() - started)

    def _count(self, views: int, rays: int, seconds: float) -> None:
        self._seconds_per_ray += _NEWEST * (seconds / rays - self._seconds_per_ray)
        statistics = self.statistics
        statistics.views += views
        statistics.batches += 1
        statistics.rays += rays
        statistics.busy_seconds += seconds

    def _steps(self, view: View) -> Steps[Views | Exception]:
        """Render a view in steps; what goes wrong is its result, and does not concern the others."""
        try:
            return (
                yield from part_steps(
                    self._cache.get(view.shown),
                    view.intrinsics,
                    view.cam_to_world,
                    view.part,
                    samples=view.samples,
                    antialias=view.antialias,
                    with_normals=view.with_normals,
                )
            )
        except Exception as error:
            return error

    def _next_batch(self) -> list[tuple[_Request, int]]:
        """Views of one shape, those of the most urgent request first, each with its place there; none at the end."""
        with self._changed:
            while True:
                self._drop_finished()
                if not self._waiting:
                    if not self._is_open:
                        return []
                    self._changed.wait()
                    continue
                first = min(self._waiting, key=_order)
                batch = self._matching(first)
                due = first.arrived + self._batch_seconds - time.monotonic()
                if first.urgency is Urgency.ANSWER and len(batch) < self._max_batch and due > 0:
                    self._changed.wait(due)
                    continue
                for request, _ in batch:
                    request.taken += 1
                    request.turn = next(self._turns)
                self._waiting = [each for each in self._waiting if each.taken < len(each.views)]
                return batch

    def _matching(self, first: _Request) -> list[tuple[_Request, int]]:
        shape = first.views[first.taken].shape
        found: list[tuple[_Request, int]] = []
        for request in sorted(self._waiting, key=_order):
            for place in range(request.taken, len(request.views)):
                if request.urgency is not first.urgency or request.views[place].shape != shape:
                    break
                if len(found) == self._max_batch:
                    return found
                found.append((request, place))
        return found


def _order(request: _Request) -> tuple[int, int]:
    return request.urgency, request.turn


class _RendererCache:
    """Renderers of objects, the most recently used last."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._renderers: OrderedDict[str, ObjectRenderer] = OrderedDict()

    def get(self, shown: LiveObject) -> ObjectRenderer:
        if shown.key not in self._renderers:
            renderer = ObjectRenderer(shown.model, shown.latent)
            self._renderers[shown.key] = renderer
            self._used += renderer.nbytes
            while self._used > self._limit and len(self._renderers) > 1:
                _, oldest = self._renderers.popitem(last=False)
                self._used -= oldest.nbytes
        self._renderers.move_to_end(shown.key)
        return self._renderers[shown.key]
