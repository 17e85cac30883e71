"""Worker processes that end with the process that started them, however that ends.

A server process imports what workers need, once, and forks them; each is connected by an unnamed socket. The server
waits for the end of this process, which closes its connection, and for the ends of the workers, which it reports.
Workers do not import the main script, so that it needs no ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import spawn
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from nerfgen.errors import InputError, NerfgenError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Time in which workers may remove what they have half written.
_GRACE_SECONDS = 5.0
# Time in which the server reports the end of a worker, or ends itself.
_REPORT_SECONDS = 10.0


class WorkerError(NerfgenError):
    """A worker process was killed or crashed."""


class Workers:
    """Worker processes; a context manager that ends them.

    Args:
        count: of processes.
        initializer: called once in each worker, with ``arguments``.
        preload: modules that are imported once, before workers are forked; absent ones are left out.
    """

    def __init__(
        self,
        count: int,
        initializer: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        preload: Sequence[str] = (),
    ) -> None:
        self._control, control = multiprocessing.Pipe()
        pairs = [multiprocessing.Pipe() for _ in range(count)]
        handles = [end.fileno() for _, end in pairs]
        call = f"serve({control.fileno()}, {handles}, {list(preload)})"
        code = f"import sys; sys.path[:] = {sys.path}; from nerfgen.workers import serve; {call}"
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self._server = subprocess.Popen(
            [os.fsdecode(spawn.get_executable()), *flags, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[control.fileno(), *handles],
        )
        for end in (control, *(end for _, end in pairs)):
            end.close()
        self._connections = [own for own, _ in pairs]
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        start = pickle.dumps((initializer, arguments))
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it ended already, which the first batch reports
                connection.send_bytes(start)
            self._idle.put(connection)
        # Each waits for the results of a worker.
        self._threads = ThreadPoolExecutor(count)

    @property
    def most_tasks(self) -> int:
        """Tasks to keep under way."""
        return 3 * len(self._connections)

    def submit(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Future[list[Result]]:
        """Let the next worker that is idle compute ``function`` of each item."""
        return self._threads.submit(self._run, function, items)

    def result(self, submitted: Future[list[Result]]) -> list[Result]:
        """Wait for the results of :meth:`submit`.

        Raises:
            WorkerError: the worker was killed or crashed.
            Exception: what the function or the initializer raised.
        """
        try:
            return submitted.result()
        except _DisconnectedError:
            raise self._failure() from None

    def _run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        connection = self._idle.get()
        try:
            connection.send_bytes(pickle.dumps((function, items)))
            is_done, value = connection.recv()
        except (EOFError, OSError) as error:
            raise _DisconnectedError from error
        finally:
            self._idle.put(connection)
        if not is_done:
            raise value
        return list(value)

    def _failure(self) -> WorkerError:
        reason: int | str = "without a reason"
        with contextlib.suppress(EOFError, OSError):
            if self._control.poll(_REPORT_SECONDS):
                reason = self._control.recv()
        if reason == -signal.SIGKILL:
            return WorkerError(
                "a worker process was killed, most likely because memory ran out; use fewer `workers`, or close other "
                "programs"
            )
        if isinstance(reason, int):
            is_signal = -reason in set(signal.Signals)
            reason = f"by {signal.Signals(-reason).name}" if is_signal else f"with exit code {reason}"
        return WorkerError(
            f"a worker process ended {reason}; try again with `workers` 1, and report it if that fails too"
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        # A garbage collection may have closed connections before it ends the block.
        with contextlib.suppress(OSError):
            self._control.close()
        self._server.wait()
        self._threads.shutdown(cancel_futures=True)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.close()


class _DisconnectedError(Exception):
    """A worker's connection is closed at its other end."""


def serve(control: int, connections: Sequence[int], preload: Sequence[str]) -> None:
    """Fork a worker for every connection and end them all when ``control`` is closed at its other end.

    Args:
        control: descriptor of a connection; receives the exit code of every worker that failed.
        connections: descriptors, of a connection each.
    """
    # Ctrl-C, and often SIGTERM, reach the whole process group; the process that started this one decides.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for module in preload:
        with contextlib.suppress(ImportError):  # a worker reports it where it is used
            importlib.import_module(module)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    parent = Connection(control)
    running: set[int] = set()
    try:
        for handle in connections:
            running.add(_fork(handle, {*connections, control, reading, writing} - {handle}))
    except OSError as error:
        parent.send(f"before it started ({error.strerror})")
    else:
        for handle in connections:
            os.close(handle)
        while running and control not in select.select([control, reading], [], [])[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 1024)
            for code in _reap(running):
                with contextlib.suppress(OSError):
                    parent.send(code)
    _end(running)
    # Modules that were imported here have nothing to finish.
    os._exit(0)


def _fork(handle: int, others: set[int]) -> int:
    """Start a worker and give its process number."""
    with warnings.catch_warnings():
        # Of threads that libraries started while they were imported; they hold no locks then.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _leave)
        for other in others:
            os.close(other)
        _work(Connection(handle))
        code = 0
    except SystemExit:
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _leave(number: int, frame: object) -> None:
    raise SystemExit


def _work(connection: Connection) -> None:
    """Answer batches until the connection is closed at its other end."""
    failure: Exception | None = None
    with contextlib.suppress(EOFError, ConnectionError):
        start = connection.recv_bytes()
        try:
            initializer, arguments = pickle.loads(start)
            if initializer:
                initializer(*arguments)
        except Exception as error:
            failure = error
        while True:
            connection.send_bytes(answer(connection.recv_bytes(), failure))


def answer(batch: bytes, failure: Exception | None) -> bytes:
    """The pickled results of a batch, or the error that it ended with."""
    try:
        if failure:
            raise failure
        function, items = _unpickled(batch)
        return pickle.dumps((True, [function(item) for item in items]))
    except Exception as error:
        return pickle.dumps((False, _portable(error)))


def _unpickled(batch: bytes) -> tuple[Callable[[Any], Any], Sequence[Any]]:
    try:
        function, items = pickle.loads(batch)
    except (AttributeError, ImportError) as error:
        raise InputError(
            f"worker processes cannot import what the main script defines ({error}); move it to a module, or use "
            "`workers` 1"
        ) from error
    return function, items


def _portable(error: Exception) -> Exception:
    """The error as another process can raise it, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _reap(running: set[int]) -> Iterator[int]:
    """Forget the processes that have ended, and give the exit codes of those that failed."""
    for process in list(running):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            running.remove(process)
            if code := os.waitstatus_to_exitcode(status):
                yield code


def _end(running: set[int]) -> None:
    """End processes: what they have half written is removed by them, if they take no longer than the grace time."""
    for process in running:
        os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while running and time.monotonic() < deadline:
        list(_reap(running))
        time.sleep(0.005)
    for process in running:
        os.kill(process, signal.SIGKILL)
