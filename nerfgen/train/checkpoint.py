"""An unfinished run as a file, so that it can be gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.train.step import State


def save_checkpoint(path: Path, state: State, seconds: float, about: artifact.About) -> None:
    """Write ``checkpoint/1``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    with artifact.create(path, "checkpoint/1", **about) as file:
        artifact.put(file, "step", np.asarray(state.step))
        file.attrs["seconds"] = seconds
        group = file.create_group("state")
        for place, value in leaves:
            group.create_dataset(_name(place), data=np.asarray(value))


def load_checkpoint(path: Path, like: State) -> tuple[State, float]:
    """The state and the training seconds of a checkpoint; ``like`` gives the tree's structure and shapes.

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
        return jax.tree_util.tree_unflatten(structure, values), float(file.attrs["seconds"])


def _name(place: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in place)
