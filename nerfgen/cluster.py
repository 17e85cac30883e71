"""Workers on a cluster of Dask: the interface of :class:`nerfgen.workers.Workers`, on one machine or many.

The scheduler gives a lost worker's tasks to others. Workers compute what a worker process here would: they change to
this process's folder, take over its limits on what is read, and build their model once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import nerfgen
from nerfgen.errors import InputError, extra_imports
from nerfgen.untrusted import FOLLOW_LINKS, READ_LIMIT
from nerfgen.workers import WorkerError, answer

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"
# Images that one task computes: enough to make the scheduler's work for it negligible, few enough to be lost.
BATCH = 100
# Tasks that are under way for each worker, and at least in all, so that a cluster that grows with its tasks does so.
_TASKS_PER_WORKER, _LEAST_TASKS = 3, 8
_CONNECT_SECONDS = 10
_LOCALHOST = "127.0.0.1"
# Of local workers. What they log is reported here, in one line; nobody looks at their profiles and meters, which take
# time from the work.
_CONFIGURATION = {
    "logging": {"distributed": "critical"},
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
}


@dataclass(frozen=True)
class Task:
    """A batch under way."""

    function: Callable[[Any], Any]
    items: Sequence[Any]
    future: Any


class ClusterWorkers:
    """Workers of a Dask cluster; a context manager that leaves the cluster, or ends the one that it started.

    Args:
        scheduler: ``local`` starts workers on this machine; otherwise the address of a scheduler, such as
            ``tcp://10.0.0.1:8786``.
        count: of the local workers.
        initializer: called once in each worker, with ``arguments``.
        name_of: how an error calls an item.

    Raises:
        MissingDependencyError: Dask is not installed.
        InputError: no scheduler answers at the address.
    """

    def __init__(
        self,
        scheduler: str,
        count: int,
        initializer: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        name_of: Callable[[Any], str] = str,
    ) -> None:
        with extra_imports("`scheduler`", "cluster"):
            import dask
            import distributed
            from distributed.security import Security

            security = Security.temporary() if scheduler == LOCAL else None
        # Its importing sets up a log of its own.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._name_of = name_of
        self._start = pickle.dumps((_surroundings(), initializer, arguments))
        self._killed = distributed.KilledWorker
        self._ends = contextlib.ExitStack()
        self._ends.enter_context(dask.config.set(_CONFIGURATION))
        try:
            if scheduler == LOCAL:
                cluster = distributed.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    host=_LOCALHOST,
                    security=security,
                    # Pages about the cluster go to this machine too, at any port.
                    dashboard_address=f"{_LOCALHOST}:0",
                    worker_dashboard_address=f"{_LOCALHOST}:0",
                    scheduler_kwargs={"dashboard": False},
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
                self._ends.enter_context(cluster)
                self._client = self._ends.enter_context(distributed.Client(cluster))
            else:
                client = distributed.Client(scheduler, timeout=_CONNECT_SECONDS)
                self._client = self._ends.enter_context(client)
        except (OSError, ValueError) as error:
            self._ends.close()
            raise InputError(
                f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler`, or give `local`"
            ) from error
        except BaseException:
            self._ends.close()
            raise

    @property
    def most_tasks(self) -> int:
        """Tasks to keep under way."""
        return max(_LEAST_TASKS, _TASKS_PER_WORKER * len(self._client.nthreads()))

    def submit(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Task:
        """Let a worker compute ``function`` of each item."""
        batch = pickle.dumps((function, items))
        with warnings.catch_warnings():
            # Tuned networks are large, and are needed where they are sent.
            warnings.filterwarnings("ignore", "Sending large graph")
            future = self._client.submit(run_batch, self._start, batch, pure=False)
        return Task(function, items, future)

    def result(self, submitted: Task) -> list[Any]:
        """Wait for the results of :meth:`submit`.

        Raises:
            WorkerError: several workers in a row ended while they computed one item; the message names it.
            Exception: what the function or the initializer raised.
        """
        try:
            return self._results(submitted)
        except self._killed:
            pass
        # Singly, to find the item that ends its workers: those before and after it are computed.
        found = []
        for item in submitted.items:
            try:
                found += self._results(self.submit(submitted.function, [item]))
            except self._killed as error:
                raise WorkerError(
                    f"{self._name_of(item)} ended {error.allowed_failures + 1} workers in a row, which were killed or "
                    "crashed while they worked on it; leave it out, or give workers more memory if others do the same, "
                    "and run the command again"
                ) from None
        return found

    def _results(self, submitted: Task) -> list[Any]:
        is_done, value = pickle.loads(submitted.future.result())
        if not is_done:
            raise value
        return list(value)

    def __enter__(self) -> ClusterWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.close()


def _surroundings() -> dict[str, Any]:
    """What a worker has to have in common with this process, and takes over from it."""
    limits = {name: os.environ.get(name, "") for name in (READ_LIMIT, FOLLOW_LINKS)}
    return {"version": nerfgen.__version__, "folder": os.getcwd(), "limits": limits}


_lock = threading.Lock()
_started = b""
_failure: Exception | None = None


def run_batch(start: bytes, batch: bytes) -> bytes:
    """In a worker: the pickled results of a batch. A model that an earlier task built is kept.

    One task at a time computes in a process, whatever its number of threads: models are not made for threads.
    """
    global _started, _failure
    with _lock:
        if start != _started:
            _started, _failure = start, None
            try:
                _initialize(start)
            except Exception as error:
                _failure = error
        return answer(batch, _failure)


def _initialize(start: bytes) -> None:
    surroundings, initializer, arguments = pickle.loads(start)
    if surroundings["version"] != nerfgen.__version__:
        raise InputError(
            f"a worker runs nerfgen {nerfgen.__version__}, and this is {surroundings['version']}; install one version "
            "on all machines"
        )
    try:
        os.chdir(surroundings["folder"])
    except OSError as error:
        raise InputError(
            f"a worker cannot enter {surroundings['folder']} ({error.strerror}); run the command in a folder that all "
            "machines share"
        ) from error
    os.environ.update(surroundings["limits"])
    if initializer:
        initializer(*arguments)
