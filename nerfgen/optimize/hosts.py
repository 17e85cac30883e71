"""The hosts of a run: how they find each other, and what they tell each other beside their arrays.

A host is one process of the run. JAX's coordination service, which the first host runs, carries short messages in JSON:
all hosts meet at the same points of the program, in the same order.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from nerfgen.errors import InputError, NerfgenError
from nerfgen.stopping import Stop, Terminated

Value = TypeVar("Value")

# The first host frames all images while the others wait.
_MEETING_SECONDS = 24 * 3600.0
# Waits are cut into parts, between which signals take effect.
_PART_SECONDS = 1.0
# For a host that fails: until it has heard whether the first one fails of the same cause.
_SAME_CAUSE_SECONDS = 2.0
# JAX's own timeout ends the process; ours comes first, and says which host is missing.
_JAX_LATER_SECONDS = 60
_LOST = re.compile(
    r"gloo|nccl|connection (reset|closed|refused)|unavailable|heartbeat|aborted", re.IGNORECASE
)


class HostError(NerfgenError):
    """Another host is missing, has failed, or was started otherwise."""


@dataclass(eq=False)
class Hosts:
    """The hosts of a run, as one of them sees them. Of a single host, nothing waits.

    Attributes:
        index: of this host.
        count: number of hosts.
    """

    index: int = 0
    count: int = 1
    _meetings: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this host writes files and messages."""
        return self.index == 0

    def meet(self, what: str, value: Any = None) -> list[Any]:
        """What each host gives, in their order, when all have come here.

        Args:
            what: the point of the program, for messages.
            value: JSON.

        Raises:
            HostError: a host has failed, or has not come in a day.
        """
        if self.count == 1:
            return [value]
        self._meetings += 1
        self._send(str(self.index), {"at": what, "value": value})
        if self.is_first:
            found = [self._receive(str(host), what) for host in range(self.count)]
            failed = [
                f"host {host} failed: {each['failed']}" for host, each in enumerate(found) if "failed" in each
            ]
            self._send(
                "all", {"failed": failed[0]} if failed else {"values": [each["value"] for each in found]}
            )
            # All have come here, and thus have read the messages of the meeting before.
            _client().key_value_delete(_key(self._meetings - 1, ""))
        told = self._receive("all", what)
        if "failed" in told:
            raise HostError(told["failed"])
        return list(told["values"])

    def first(self, what: str, make: Callable[[], Value]) -> Value:
        """What the first host makes (JSON), on all hosts."""
        value: Value = self.meet(what, make() if self.is_first else None)[0]
        return value

    def first_arrays(self, what: str, make: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The arrays that the first host makes, on all hosts: computed by each, they could differ by rounding."""
        own = list(make()) if self.is_first else []
        if self.count == 1:
            return own
        from jax.experimental.multihost_utils import broadcast_one_to_all

        arrays = []
        for place, (shape, kind) in enumerate(
            self.first(what, lambda: [(each.shape, str(each.dtype)) for each in own])
        ):
            size = math.prod(shape) * np.dtype(kind).itemsize
            # As bytes: JAX would round double precision.
            given = np.frombuffer(own[place].tobytes(), np.uint8) if own else np.zeros(size, np.uint8)
            sent = np.asarray(broadcast_one_to_all(given))
            arrays.append(np.frombuffer(sent.tobytes(), kind).reshape(shape))
        return arrays

    def fail(self, cause: str) -> None:
        """Tell the hosts that meet next that this one does not come."""
        self._meetings += 1
        with contextlib.suppress(RuntimeError):
            self._send(str(self.index), {"failed": cause})
            if self.is_first:
                self._send("all", {"failed": cause})

    def first_fails(self) -> bool:
        """Whether the first host fails too, after :meth:`fail`."""
        try:
            return "failed" in self._receive("all", "", _SAME_CAUSE_SECONDS)
        except (HostError, RuntimeError):
            return False

    def _send(self, name: str, message: dict[str, Any]) -> None:
        _client().key_value_set(_key(self._meetings, name), json.dumps(message))

    def _receive(self, name: str, what: str, seconds: float = _MEETING_SECONDS) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                part = int(1000 * min(_PART_SECONDS, seconds))
                return dict(json.loads(_client().blocking_key_value_get(_key(self._meetings, name), part)))
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
        raise HostError(
            f"a host of {self.count} has not come to {what} in time; end all hosts and start them again"
        )


ONE_HOST = Hosts()


class Agreement:
    """The time and the requests to stop, as all hosts see them: several decide alike.

    Of a single host, both are those of this moment; of several, those of the last :meth:`meet`.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._now = hosts.first("the start", time.monotonic)
        self._number: int | None = None

    def now(self) -> float:
        """Seconds of a clock that only goes forward: the first host's."""
        return time.monotonic() if self._hosts.count == 1 else self._now

    def should_stop(self, stop: Stop) -> bool:
        """Whether a host was asked to stop."""
        return bool(stop) if self._hosts.count == 1 else self._number is not None

    def meet(self, stop: Stop) -> None:
        """Learn the first host's time and all signals; a signal that another host received is one of this host."""
        if self._hosts.count == 1:
            return
        told = self._hosts.meet("the next report", {"time": time.monotonic(), "signal": stop.number})
        self._now = told[0]["time"]
        numbers = [each["signal"] for each in told if each["signal"] is not None]
        if numbers:
            self._number = numbers[0]
            if not stop:
                stop.request(numbers[0], None)


@contextlib.contextmanager
def connected(
    coordinator: str | None, num_hosts: int | None, host_index: int | None, minutes: float
) -> Iterator[Hosts]:
    """Connect this process with the other hosts of the run, before JAX computes anything; the block is the run.

    A host that fails within the block tells the others, and its process then ends without waiting for them.

    Args:
        coordinator: address and port of the first host; None where JAX detects the cluster.
        num_hosts, host_index: None where JAX detects the cluster.
        minutes: to wait for hosts that start late.

    Raises:
        InputError: no cluster is detected.
        HostError: a host is missing.
    """
    try:
        _initialise(coordinator, num_hosts, host_index, minutes)
        hosts = Hosts(jax.process_index(), jax.process_count())
    except BaseException as error:
        atexit.register(_leave, error)
        raise
    try:
        yield hosts
        hosts.meet("the end")
    except BaseException as error:
        found = _translated(error, hosts)
        atexit.register(_leave, found)
        if found is error:
            raise
        raise found from error
    jax.distributed.shutdown()


def _initialise(
    coordinator: str | None, num_hosts: int | None, host_index: int | None, minutes: float
) -> None:
    """``jax.distributed.initialize``, in a thread: signals take effect meanwhile, and its timeout would end Python."""
    failures: list[BaseException] = []

    def initialise() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                num_hosts,
                host_index,
                initialization_timeout=round(60 * minutes) + _JAX_LATER_SECONDS,
            )
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=initialise, daemon=True)
    thread.start()
    thread.join(60 * minutes)
    if thread.is_alive():
        raise HostError(_missing(minutes))
    # JAX has replaced the handler of SIGTERM.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None:
                signal.signal(number, handler)
    if failures:
        cause = " ".join(f"{type(failures[0]).__name__}: {failures[0]}".split())
        if coordinator:
            raise HostError(f"host {host_index} does not connect to {coordinator}: {cause}") from failures[0]
        raise InputError(
            f"JAX detects no cluster (SLURM, Open MPI, Cloud TPU, GKE, Kubernetes; {cause}); start the command with "
            "the cluster's launcher, or give `coordinator`, `num_hosts` and `host_index`"
        ) from failures[0]


def _missing(minutes: float) -> str:
    """Who waits for whom, in a line."""
    state = _state()
    waited = f"{minutes:g} minutes"
    if not state.coordinator_address:
        return (
            f"the cluster did not answer within {waited}; see that its hosts run, or give more `wait_minutes`"
        )
    address, _, port = state.coordinator_address.rpartition(":")
    index, count = state.process_id, state.num_processes
    remedy = "start all hosts with the same options, or give more `wait_minutes`"
    if index == 0:
        came = _connections(int(port))
        which = f"only {came} of {count} hosts" if came else f"not all of {count} hosts"
        return f"host 0 waited {waited} at {state.coordinator_address}, but {which} came (itself included); {remedy}"
    try:
        with socket.create_connection((address.strip("[]"), int(port)), timeout=5):
            pass
    except OSError:
        return f"host {index} waited {waited}, but host 0 does not answer at {state.coordinator_address}; {remedy}"
    return f"host {index} waited {waited}, but not all of {count} hosts came; host 0 says how many; {remedy}"


def _connections(port: int) -> int:
    """Connections to a port of this machine, this process's own included; 0 where the system does not tell."""
    established, found = "01", 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                found += state == established and int(local.rpartition(":")[2], 16) == port
    return found


def _translated(error: BaseException, hosts: Hosts) -> BaseException:
    """An error as this host reports it: other hosts are told, and one of several that fail alike speaks."""
    code = _exit_code(error)
    if isinstance(error, HostError):  # of a meeting: the first host speaks
        return error if hosts.is_first else SystemExit(code)
    if isinstance(error, NerfgenError | OSError | KeyboardInterrupt | Terminated | SystemExit):
        hosts.fail(str(error) or type(error).__name__)
        return SystemExit(code) if not hosts.is_first and hosts.first_fails() else error
    if isinstance(error, RuntimeError | ValueError) and _LOST.search(str(error)):
        return HostError(
            "a host has ended during the run, and its own messages say why; start all hosts again, with `resume`"
        )
    hosts.fail(f"{type(error).__name__}: {error}")
    return error


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, Terminated):
        return 128 + signal.SIGTERM
    return getattr(error, "exit_code", 2 if isinstance(error, OSError) else 1)


def _leave(error: BaseException) -> None:
    """End the process at once: JAX would wait for hosts that do not end."""
    if _state().service is not None:
        # The messages of this host are gone with it.
        time.sleep(_SAME_CAUSE_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(_exit_code(error))


def _state() -> Any:
    """What JAX knows of the hosts; it has no public name."""
    from jax._src.distributed import global_state

    return global_state


def _client() -> Any:
    """JAX's coordination service; it has no public name, but Orbax and others use it as this module does."""
    return _state().client


def _key(meeting: int, name: str) -> str:
    return f"nerfgen/{meeting}/{name}"
