"""Ctrl-C and SIGTERM as requests: the current step is finished and a checkpoint written before they take effect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM, raised where it takes effect so that ``finally`` blocks run."""


class Stop:
    """Whether the run was asked to stop, and by which signal."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Collect the first SIGINT or SIGTERM within the block; it takes effect at the end of the block.

    Nothing after the block runs then: where the program's own handler returns, ``KeyboardInterrupt`` or
    :class:`Terminated` is raised. A second signal takes effect at once. Signals that the program ignores stay ignored,
    as those of a shell script's background job are. Outside the main thread, where Python handles no signals, none is
    collected.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # None: a handler that Python did not install and could not restore.
    usual = {number: each for number, each in handlers.items() if each not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore()

    for number in usual:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()
    if stop.number is not None:
        signal.raise_signal(stop.number)
        raise KeyboardInterrupt if stop.number == signal.SIGINT else Terminated
