"""Long tasks beside the rendering of views: fits, tuning, meshes, videos; one at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nerfgen.live.render_queue import BusyError, ClosedError, ExpiredError, RenderQueue, Urgency
from nerfgen.parallel import Progress, silent

Result = TypeVar("Result")

# How long a step of a task waits for moving frames at most.
_COURTESY_SECONDS = 1.0
_POLL_SECONDS = 0.01
# Of a task, before one has been done.
_EXPECTED_SECONDS = 10.0


class CancelledError(Exception):
    """The task was cancelled."""


@dataclass(eq=False)
class Job(Generic[Result]):
    """A long task.

    Attributes:
        work: the task; called with what reports its progress.
        watch: receives its progress.
        deadline: on the monotonic clock.
        future: its result.
    """

    work: Callable[[Progress], Result]
    watch: Progress = silent
    deadline: float = float("inf")
    future: Future[Result] = field(default_factory=Future)
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Give it up: at once where it waits, at its next progress where it runs."""
        self._cancelled.set()
        self.future.cancel()

    def check(self) -> None:
        """Raise what ends the task early: :class:`CancelledError` or :class:`ExpiredError`."""
        if self._cancelled.is_set():
            raise CancelledError
        if time.monotonic() > self.deadline:
            raise ExpiredError(
                "the deadline passed before the task was done; allow more time, or fewer steps"
            )


class Jobs:
    """Runs long tasks one after the other; a context manager that ends it.

    Between its steps, a task lets views of moving frames go first.

    Args:
        queue: that renders.
        limit: most tasks that wait.
    """

    def __init__(self, queue: RenderQueue, *, limit: int = 8) -> None:
        self._queue, self._limit = queue, limit
        self._waiting: deque[Job[Any]] = deque()
        self._running: Job[Any] | None = None
        self._seconds = _EXPECTED_SECONDS
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of tasks that wait or run."""
        return len(self._waiting) + (self._running is not None)

    def submit(
        self, work: Callable[[Progress], Result], *, watch: Progress = silent, seconds: float = float("inf")
    ) -> Job[Result]:
        """Ask for a task.

        Args:
            watch: receives its progress, in another thread.
            seconds: until the deadline.

        Raises:
            BusyError: too many tasks wait.
            ClosedError: it was closed.
        """
        with self._changed:
            if not self._is_open:
                raise ClosedError("the program is ending; try again when it is back")
            self._waiting = deque(job for job in self._waiting if not job.future.done())
            if len(self._waiting) >= self._limit:
                raise BusyError(
                    f"{len(self._waiting)} tasks are waiting; try again later", len(self) * self._seconds
                )
            job = Job(work, watch, time.monotonic() + seconds)
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def close(self, seconds: float = 0.0) -> None:
        """Take no more tasks, and end when those that wait are done; after some seconds give them up."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            given_up = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._changed.notify_all()
        for job in given_up:
            job.cancel()
        self._thread.join()

    def _run(self) -> None:
        while job := self._next():
            started = time.monotonic()
            try:
                job.check()
                result = job.work(self._progress_of(job))
            except CancelledError:
                job.future.cancel()
                job.future.set_running_or_notify_cancel()
            except BaseException as error:
                _settle(job.future, error=error)
            else:
                self._seconds = time.monotonic() - started
                _settle(job.future, result)
            finally:
                self._running = None

    def _next(self) -> Job[Any] | None:
        with self._changed:
            while not self._waiting:
                if not self._is_open:
                    return None
                self._changed.wait()
            self._running = self._waiting.popleft()
            return self._running

    def _progress_of(self, job: Job[Any]) -> Progress:
        def progress(done: int, total: int, note: str = "") -> None:
            job.check()
            job.watch(done, total, note)
            patience = time.monotonic() + _COURTESY_SECONDS
            while self._queue.is_wanted(Urgency.MOVING) and time.monotonic() < patience:
                time.sleep(_POLL_SECONDS)

        return progress


def _settle(future: Future[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Give a future its result or error, unless it was cancelled."""
    if future.set_running_or_notify_cancel():
        future.set_result(result) if error is None else future.set_exception(error)
