"""Timing of tasks in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Say = Callable[[str], None]


def seconds_of(task: Callable[[], object]) -> float:
    """How long one call takes. A task returns when its work is done."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def median_in_turns(
    tasks: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float, say: Say
) -> dict[str, float]:
    """The median time of each task, in seconds, over rounds in which every task has one turn.

    The shortest time would flatter short tasks: on a busy machine only they fit between what others do.
    Tasks are ready: what is done only once, such as compiling, is done before.

    Args:
        rounds: how many at most, at least one.
        seconds: no round begins after this time.
        say: told of every round.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    began = time.perf_counter()
    for turn in range(1, rounds + 1):
        for name, task in tasks.items():
            taken[name].append(seconds_of(task))
        say(f"round {turn}: " + ", ".join(f"{name} {times[-1]:.4g} s" for name, times in taken.items()))
        if time.perf_counter() - began > seconds:
            break
    return {name: statistics.median(times) for name, times in taken.items()}
