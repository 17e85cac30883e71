"""Ctrl-C and SIGTERM taken as wishes: the step at hand is finished and a checkpoint written before they act."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the run was asked to stop, and by which signal."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Collect the first SIGINT or SIGTERM within the block and send it again after it.

    A second one acts at once. Outside the main thread, where Python handles no signals, nothing is collected.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore()

    for number in usual:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
    if stop.number is not None:
        signal.raise_signal(stop.number)
