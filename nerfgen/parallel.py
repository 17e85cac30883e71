"""Maps over images on all cores, with results in order and bounded memory."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """Called with the progress of a long task; ``note`` is a short state such as a loss."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """The :class:`Progress` that shows nothing."""


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """
    workers = min(workers or core_count(), max(len(items), 1))
    if workers == 1:
        if initializer:
            initializer(*initializer_arguments)
        for done, item in enumerate(items, start=1):
            yield function(item)
            progress(done, len(items))
        return
    # Forking this process itself could deadlock in libraries that started threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["nerfgen.parallel", *preload])
    batch = max(1, min(batch, len(items) // (2 * workers) or 1))
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(initializer, initializer_arguments)
    )
    try:
        waiting: deque[Future[list[Result]]] = deque()
        done, following = 0, iter(batches)
        for _ in range(3 * workers):
            if (chunk := next(following, None)) is not None:
                waiting.append(pool.submit(_run_batch, function, chunk))
        while waiting:
            results = waiting.popleft().result()
            if (chunk := next(following, None)) is not None:
                waiting.append(pool.submit(_run_batch, function, chunk))
            for result in results:
                yield result
                done += 1
                progress(done, len(items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import signal

    # Ctrl-C reaches the whole process group; the parent alone decides how to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer:
        initializer(*arguments)


def _run_batch(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
