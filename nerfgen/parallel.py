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
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from nerfgen.workers import Workers

if TYPE_CHECKING:
    from nerfgen.cluster import ClusterWorkers

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCH = 8
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
    batch: int | None = None,
    scheduler: str | None = None,
    name_of: Callable[[Item], str] = str,
    progress: Progress = silent,
) -> Iterator[Result]:
    """``map(function, items)`` over worker processes; an exception in ``function`` stops it.

    Args:
        function: importable by name, as are items and results (they are pickled).
        workers: processes; one per core by default. With 1, or for a single item, everything runs in this process.
        initializer: called once in each worker, for models that are costly to load.
        preload: modules that are imported once, before workers are forked.
        batch: items sent at a time, by default 8, or 100 on a cluster; each worker has a few batches in flight.
        scheduler: takes workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        name_of: how an error calls an item that ends its workers.

    Raises:
        WorkerError: a worker was killed or crashed.
        MissingDependencyError: Dask is not installed, and ``scheduler`` is given.
        InputError: no scheduler answers.
    """
    if scheduler and items:
        count = workers or core_count()
        from nerfgen.cluster import BATCH, ClusterWorkers

        with ClusterWorkers(scheduler, count, initializer, initializer_arguments, name_of) as cluster:
            yield from _map_batches(
                cluster, function, items, _batch_size(batch or BATCH, len(items), count), progress
            )
        return
    workers = min(workers or core_count(), max(len(items), 1))
    if workers == 1:
        if initializer:
            initializer(*initializer_arguments)
        for done, item in enumerate(items, start=1):
            yield function(item)
            progress(done, len(items))
        return
    with Workers(workers, initializer, initializer_arguments, [__name__, *preload]) as processes:
        yield from _map_batches(
            processes, function, items, _batch_size(batch or _BATCH, len(items), workers), progress
        )


def _batch_size(most: int, count: int, workers: int) -> int:
    """The number of items in a batch, so that each worker has two at least, where there are as many items."""
    return max(1, min(most, count // (2 * workers) or 1))


def _map_batches(
    workers: Workers | ClusterWorkers,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    batch: int,
    progress: Progress,
) -> Iterator[Result]:
    following = (items[start : start + batch] for start in range(0, len(items), batch))
    waiting: deque[Any] = deque()
    done = 0

    def submit() -> bool:
        room = workers.most_tasks - len(waiting)
        waiting.extend(workers.submit(function, chunk) for chunk in islice(following, max(0, room)))
        return bool(waiting)

    while submit():
        results = workers.result(waiting.popleft())
        submit()
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
