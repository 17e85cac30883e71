"""What a step costs as the table of codes grows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from nerfgen.bench.stepper import Stepper
from nerfgen.bench.turns import Say, median_in_turns
from nerfgen.train.preset import FAST

_STEPS = 10


def measure_latents(*, rows: Sequence[int], rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Seconds of the fast step by the number of rows of its table; batches are of random rows and all alike in size.

    Args:
        seconds: no round begins after this time; compiling comes before the rounds.
    """
    steppers = {}
    for count in rows:
        say(f"compiling the step for {count} rows")
        steppers[str(count)] = Stepper(FAST, count)
    tasks = {name: functools.partial(stepper.run, _STEPS) for name, stepper in steppers.items()}
    taken = median_in_turns(tasks, rounds=rounds, seconds=seconds, say=say)
    least, most = min(rows), max(rows)
    return {
        "seconds_per_step": {name: value / _STEPS for name, value in taken.items()},
        f"ratio_k_{short(most)}_over_{short(least)}": taken[str(most)] / taken[str(least)],
        "in_place": all(stepper.in_place for stepper in steppers.values()),
    }


def short(count: int) -> str:
    """1000000 as 1e6."""
    digits = str(count).rstrip("0")
    return f"{digits}e{len(str(count)) - len(digits)}"
