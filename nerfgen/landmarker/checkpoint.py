"""An unfinished training of an estimator as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError

SCHEMA = "landmarker-checkpoint/1"


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of an estimator lies."""
    return output.with_name(f"{output.stem}.checkpoint.h5")


def save_checkpoint(path: Path, state: Any, step: int, seconds: float, about: artifact.About) -> None:
    """Write ``landmarker-checkpoint/1``, in place of the former one."""
    with artifact.create(path, SCHEMA, **about) as file:
        artifact.put(file, "step", step)
        file.attrs["seconds"] = seconds
        group = file.create_group("state")
        for place, value in jax.tree_util.tree_flatten_with_path(state)[0]:
            group.create_dataset(jax.tree_util.keystr(place), data=np.asarray(value))


def load_checkpoint(path: Path, like: Any) -> tuple[Any, int, float]:
    """State, step and seconds; ``like`` gives the state's structure.

    Raises:
        InputError: the file does not fit.
    """
    with artifact.reading(path, SCHEMA) as file:
        leaves, structure = jax.tree_util.tree_flatten_with_path(like)
        values = []
        for place, leaf in leaves:
            stored = file["state"].get(jax.tree_util.keystr(place))
            if stored is None or stored.shape != leaf.shape:
                raise InputError(f"{path} does not fit this training; delete it or start without --resume")
            values.append(stored[()])
        state = jax.tree_util.tree_unflatten(structure, values)
        return state, int(file["step"][()]), float(file.attrs["seconds"])
