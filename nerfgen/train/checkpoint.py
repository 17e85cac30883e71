"""An unfinished run as a file, so that it can be gone on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.train.step import State


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        state: parameters, table, moments, occupancy and step; the random numbers follow from the step.
        log: the model's log so far, rows of five numbers.
        seconds: training time so far.
    """

    state: State
    log: list[tuple[float, ...]]
    seconds: float


def save_checkpoint(path: Path, checkpoint: Checkpoint, about: artifact.About) -> None:
    """Write ``checkpoint/1``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(checkpoint.state)
    with artifact.create(path, "checkpoint/1", **about) as file:
        artifact.put(file, "step", np.asarray(checkpoint.state.step))
        artifact.put(file, "log", np.array(checkpoint.log).reshape(-1, 5))
        file.attrs["seconds"] = checkpoint.seconds
        group = file.create_group("state")
        for place, value in leaves:
            group.create_dataset(_name(place), data=np.asarray(value))


def load_checkpoint(path: Path, like: State) -> Checkpoint:
    """Read a checkpoint; ``like`` gives the structure and the shapes of its state.

    Raises:
        InputError: the file does not fit.
    """
    with artifact.reading(path, "checkpoint/1") as file:
        leaves, structure = jax.tree_util.tree_flatten_with_path(like)
        values = []
        for place, leaf in leaves:
            stored = file["state"].get(_name(place))
            if stored is None or stored.shape != leaf.shape:
                raise InputError(
                    f"{path}: {_name(place)} does not fit this run; delete it or give --overwrite"
                )
            values.append(jax.numpy.asarray(stored[()]))
        state = jax.tree_util.tree_unflatten(structure, values)
        log = [tuple(float(value) for value in row) for row in file["log"][:]]
        return Checkpoint(state, log, float(file.attrs["seconds"]))


def _name(place: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in place)
