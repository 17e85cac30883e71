"""The loop around every optimisation: training, the landmark estimator, latent fitting, tuning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nerfgen.errors import InputError

State = TypeVar("State")


@dataclass(frozen=True)
class Limits:
    """When an optimisation ends: after ``steps``, after ``minutes``, or at whichever comes first.

    Attributes:
        steps: None for no limit.
        minutes: training time, None for no limit. Learning rates that decay are fitted to it.
        checkpoint_minutes: time between checkpoints; None for none.
    """

    steps: int | None
    minutes: float | None = None
    checkpoint_minutes: float | None = None

    def require_one(self) -> None:
        """Check that the optimisation ends.

        Raises:
            InputError: it has neither limit.
        """
        if not self.steps and not self.minutes:
            raise InputError("no stopping criterion: give `steps` or `minutes`")


class Clock:
    """Steps and seconds of an optimisation, earlier sessions included.

    Attributes:
        done: steps done.
        first: steps that earlier sessions had done.
        now: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        done: int = 0,
        seconds: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.done, self.first, self.now = limits, done, done, now
        self._seconds_before = seconds
        self._started = now()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still within the block."""
        began = self.now()
        try:
            yield
        finally:
            self._started += self.now() - began

    @property
    def session_seconds(self) -> float:
        """Time since this session began, without pauses."""
        return self.now() - self._started

    @property
    def seconds(self) -> float:
        """Time of all sessions."""
        return self._seconds_before + self.session_seconds

    @property
    def fraction(self) -> float:
        """The fraction that is done, by steps or by time; 1 or more at the end."""
        steps, minutes = self.limits.steps, self.limits.minutes
        by_steps = self.done / steps if steps else 0.0
        by_time = self.seconds / (60.0 * minutes) if minutes else 0.0
        return max(by_steps, by_time)

    @property
    def expected_steps(self) -> int:
        """Steps in all, extrapolated where time is the limit."""
        return self.limits.steps or max(self.done, round(self.done / max(self.fraction, 1e-6)))

    @property
    def steps_per_second(self) -> float:
        """In this session."""
        return (self.done - self.first) / max(self.session_seconds, 1e-6)


class Advance(Protocol[State]):
    """Takes a state from ``step`` steps to ``until``; ``fraction`` in [0, 1] of the optimisation is done."""

    def __call__(self, state: State, step: int, until: int, fraction: float) -> State: ...


def run_loop(
    advance: Advance[State],
    state: State,
    clock: Clock,
    *,
    report_every: int,
    report: Callable[[State], State],
    steps_per_call: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    save: Callable[[State], None] = lambda state: None,
) -> State:
    """Advance a state until the clock's limits are reached, or a stop is requested.

    Args:
        advance: is given at most ``steps_per_call`` steps at a time.
        report: called after every ``report_every`` steps and after the last one, with results that are complete;
            returns the state to go on with. Time limits are looked at here only.
        should_stop: looked at after every call of ``advance``.
        save: called when a checkpoint is due, and when the loop stops before its end.
    """
    saved, limits = clock.now(), clock.limits
    while clock.fraction < 1.0 and not should_stop():
        target = clock.done - clock.done % report_every + report_every
        if limits.steps:
            target = min(target, limits.steps)
        while clock.done < target and not should_stop():
            until = min(clock.done + steps_per_call, target)
            state = advance(state, clock.done, until, min(clock.fraction, 1.0))
            clock.done = until
        if clock.done == target:
            state = report(state)
        due = limits.checkpoint_minutes is not None and clock.now() - saved > 60 * limits.checkpoint_minutes
        if due and clock.fraction < 1.0 and not should_stop():
            save(state)
            saved = clock.now()
    if should_stop():
        save(state)
    return state
