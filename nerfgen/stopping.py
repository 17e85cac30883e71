"""Ctrl-C and SIGTERM: the end of the program, or a request that a loop meets at its next checkpoint.

Imported before everything else, so that a signal during other imports ends the program as later ones do.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# What a shell reports for a program that a signal ended, and the word for it.
_ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
# Until a signal that could not take effect is sent again.
_RETRY_SECONDS = 0.05


class Terminated(BaseException):
    """SIGTERM, raised where it takes effect so that ``finally`` blocks run."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. A plain ``KeyboardInterrupt`` that leaves ``exec`` ends Python by the signal, without an exit code."""


class _Received:
    """The signals of this program so far."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.number: int | None = None
        self.is_repeating = False
        # An entry for each repetition; appending is safe in threads and handlers.
        self.repeated: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise what stands for the signal; the handler of the program."""
        if self.number is not None and not self.is_repeating:
            return  # the watch ends the program
        self.number, self.is_repeating = number, False
        if _is_importing(frame):  # extension modules may crash on an exception while they are initialised
            self.repeat(number)
        else:
            raise Interrupted if number == signal.SIGINT else Terminated

    def watch(self, reading: int) -> None:
        """End the program at the second signal, also while the main thread computes outside Python."""
        count = 0
        while received := os.read(reading, 1):
            number = received[0]
            count += number in _ENDS
            if count > 1 + len(self.repeated):
                code, word = _ENDS[signal.Signals(number)]
                os.write(2, f"nerfgen: {word} twice; the next run removes what is left\n".encode())
                os._exit(code)
        os.close(reading)

    def repeat(self, number: int) -> None:
        """Send a signal again, shortly."""
        self.repeated.append(number)
        self.is_repeating = True

        def send() -> None:
            time.sleep(_RETRY_SECONDS)
            os.kill(os.getpid(), number)

        threading.Thread(target=send, daemon=True).start()

    def repeat_if_dropped(self, dropped: Any) -> None:
        """Send the signal again if its exception was raised where Python drops exceptions, such as a destructor."""
        if self.number is not None and isinstance(dropped.exc_value, (KeyboardInterrupt, Terminated)):
            self.repeat(self.number)
        else:
            sys.__unraisablehook__(dropped)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _usual_handlers() -> dict[signal.Signals, Any]:
    """The handlers of SIGINT and SIGTERM, without those of signals that the program ignores."""
    handlers = {number: signal.getsignal(number) for number in _ENDS}
    # None: a handler that Python did not install and could not restore.
    return {number: each for number, each in handlers.items() if each not in (signal.SIG_IGN, None)}


_received = _Received()


@contextmanager
def ending_signals(*, until_exit: bool = False) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the block, and the program with exit code 130 or 143 and one line.

    The first raises ``KeyboardInterrupt`` or :class:`Terminated`; a second ends the program at once. Signals that the
    program ignores stay ignored. Within another such block this one does nothing.

    Args:
        until_exit: the program ends with the block: its exit code is decided, and later signals do not change it.
    """
    usual = _usual_handlers()
    if _received.handle in usual.values() or threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.forget()
    _open_standard_streams()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_received.watch, args=[reading], daemon=True).start()
    hook, sys.unraisablehook = sys.unraisablehook, _received.repeat_if_dropped
    for number in usual:
        signal.signal(number, _received.handle)
    try:
        yield
    except BaseException:
        if _received.number is None:
            raise
        # Also where a library has made another exception of it.
        code, word = _ENDS[signal.Signals(_received.number)]
        print(f"nerfgen: {word}; no partial output is left", file=sys.stderr, flush=True)
        _cancel_timers()
        sys.exit(code)
    finally:
        for number, handler in usual.items():
            signal.signal(number, signal.SIG_IGN if until_exit else handler)
        signal.set_wakeup_fd(-1)
        os.close(writing)
        sys.unraisablehook = hook


def _cancel_timers() -> None:
    """Stop timers that the signal kept their owners from stopping (JAX: 60 seconds): Python waits for them at exit."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def _open_standard_streams() -> None:
    """Connect closed standard streams to nothing: a file that took their descriptors would get what libraries print."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def is_ending() -> bool:
    """Whether a signal has ended the block of :func:`ending_signals`."""
    return _received.number is not None


def send_again(interruption: BaseException) -> None:
    """Repeat the signal of a ``KeyboardInterrupt`` or :class:`Terminated` that must not be raised where it arrived."""
    _received.repeat(signal.SIGINT if isinstance(interruption, KeyboardInterrupt) else signal.SIGTERM)


class Stop:
    """Whether the run was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._usual = _usual_handlers()

    def __bool__(self) -> bool:
        return self.number is not None

    def begin(self) -> None:
        """Collect the next signal."""
        if threading.current_thread() is threading.main_thread():
            for number in self._usual:
                signal.signal(number, self.request)

    def request(self, number: int, frame: FrameType | None) -> None:
        """The handler: note the signal, and let the next one take effect."""
        self.number = number
        self.end()

    def end(self) -> None:
        """Handle signals as before."""
        if threading.current_thread() is threading.main_thread():
            for number in self._usual:
                signal.signal(number, self._handler(number))

    def take_effect(self) -> None:
        """Do what the signal would have done, if there was one."""
        number, self.number = self.number, None
        if number is None:
            return
        handler = self._handler(number)
        if callable(handler):  # not by the signal, which would count as a second one
            handler(number, None)
            if _stop_of(handler) is not None:
                return  # a block around this one has collected it
        else:
            signal.raise_signal(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within the block of :func:`stop_signals`, let signals take effect, also one that was collected before."""
        self.end()
        self.take_effect()
        try:
            yield
        finally:
            self.begin()

    def _handler(self, number: int) -> Any:
        """The handler outside the block; a block around it that has collected a signal lets the next one through."""
        handler = self._usual[signal.Signals(number)]
        outer = _stop_of(handler)
        return outer._handler(number) if outer is not None and outer else handler


def _stop_of(handler: Any) -> Stop | None:
    """The block whose handler this is."""
    stop = getattr(handler, "__self__", None)
    return stop if isinstance(stop, Stop) else None


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Collect the first SIGINT or SIGTERM within the block; it takes effect at the end of the block.

    Nothing after the block runs then: where the program's own handler returns, ``KeyboardInterrupt`` or
    :class:`Terminated` is raised. Within another such block it takes effect at the end of that one. A second signal
    takes effect at once. Signals that the program ignores stay ignored, as those of a shell script's background job
    are. Outside the main thread, where Python handles no signals, none is collected.
    """
    stop = Stop()
    stop.begin()
    try:
        yield stop
    finally:
        stop.end()
    stop.take_effect()
