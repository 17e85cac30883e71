"""Maps over images on all cores, and tasks that take turns, with results in order and bounded memory."""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from nerfgen.workers import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")
# A task that yields wherever it would wait for the device.
Steps: TypeAlias = Generator[None, None, Result]


class Progress(Protocol):
    """Called with the progress of a long task; ``note`` is a short state such as a loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """The :class:`Progress` that shows nothing."""


@functools.cache
def core_count() -> int:
    """The cores that this process may use: those that it may run on, within the quota of its containers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota_cores())))


def quota_cores(root: Path = Path("/")) -> float:
    """The CPU time per time that Linux control groups (either version) grant this process; infinite without a quota.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # Within a container the group's path may be that of the host, while its files are at the top.
        path = Path(group.lstrip("/"))
        quotas += [_quota(mounted / each) for each in (path, *path.parents)]
    return min(quotas)


def _quota(group: Path) -> float:
    """The quota of one control group, in cores."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def map_ordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    initializer: Callable[..., None] | None = None,
    initializer_arguments: tuple[Any, ...] = (),
    preload: Iterable[str] = (),
    batch: int = 8,
    progress: Progress = silent,
) -> Iterator[Result]:
    """``map(function, items)`` over worker processes; an exception in ``function`` stops it.

    Args:
        function: importable by name, as are items and results (they are pickled).
        workers: processes; one per core by default. With 1, or for a single item, everything runs in this process.
        initializer: called once in each worker, for models that are costly to load.
        preload: modules that are imported once, before workers are forked.
        batch: items sent at a time; each worker has a few batches in flight.

    Raises:
        WorkerError: a worker was killed or crashed.
    """
    workers = min(workers or core_count(), max(len(items), 1))
    if workers == 1:
        if initializer:
            initializer(*initializer_arguments)
        for done, item in enumerate(items, start=1):
            yield function(item)
            progress(done, len(items))
        return
    batch = max(1, min(batch, len(items) // (2 * workers) or 1))
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    done, following = 0, iter(batches)
    with Workers(workers, initializer, initializer_arguments, [__name__, *preload]) as processes:
        waiting = deque(processes.submit(function, chunk) for chunk in islice(following, 3 * workers))
        while waiting:
            results = processes.result(waiting.popleft())
            waiting.extend(processes.submit(function, chunk) for chunk in islice(following, 1))
            for result in results:
                yield result
                done += 1
                progress(done, len(items))


def map_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, progress: Progress = silent
) -> Iterator[Result]:
    """``map(function, items)`` over threads, for work that releases the interpreter lock; an exception stops it."""
    threads = ThreadPoolExecutor(core_count())
    try:
        following = iter(items)
        waiting = deque(threads.submit(function, item) for item in islice(following, 4 * core_count()))
        done = 0
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(threads.submit(function, item) for item in islice(following, 1))
            yield result
            done += 1
            progress(done, len(items))
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def in_turns(tasks: Iterable[Steps[Result]], most: int) -> Iterator[Result]:
    """The results of tasks in order; up to ``most`` are under way and take turns, a step each.

    While the device works for one of them, this process prepares the next.
    """
    following = iter(tasks)
    running: deque[_Running[Result]] = deque()
    while True:
        running.extend(_Running(task) for task in islice(following, most - len(running)))
        if not running:
            return
        for each in running:
            each.advance()
        while running and running[0].results:
            yield running.popleft().results[0]


class _Running(Generic[Result]):
    """A task under way; ``results`` holds its result when it has ended."""

    def __init__(self, task: Steps[Result]) -> None:
        self._task = task
        self.results: list[Result] = []

    def advance(self) -> None:
        if not self.results:
            try:
                next(self._task)
            except StopIteration as end:
                self.results.append(end.value)
