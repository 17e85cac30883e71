"""Timing of tasks in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Say = Callable[[str], None]


def seconds_of(task: Callable[[], object]) -> float:
    """How long one call takes. A task returns when its work is done."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def best_in_turns(
    tasks: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float, say: Say
) -> dict[str, float]:
    """The shortest time of each task, in seconds, over rounds in which every task has one turn.

    Tasks are ready: what is done only once, such as compiling, is done before.

    Args:
        rounds: how many at most, at least one.
        seconds: no round begins after this time.
        say: told of every round.
    """
    best = dict.fromkeys(tasks, float("inf"))
    began = time.perf_counter()
    for turn in range(1, rounds + 1):
        taken = {name: seconds_of(task) for name, task in tasks.items()}
        best = {name: min(best[name], value) for name, value in taken.items()}
        say(f"round {turn}: " + ", ".join(f"{name} {value:.4g} s" for name, value in taken.items()))
        if time.perf_counter() - began > seconds:
            break
    return best
