"""An unfinished run as a file, so that it can be gone on with."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.train.step import TERMS, State

# Columns of a run's log: the step, means of the step's terms since the entry before, and PSNR.
LOG = ("step", *TERMS, "psnr_db")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        state: parameters, tables, moments, occupancy and step; the random numbers follow from the step.
        totals: sums of ``TERMS`` since the last entry of the log.
        log: the entries so far, with columns ``LOG``.
        seconds: training time so far.
    """

    state: State
    totals: Float[np.ndarray, "terms"]
    log: list[tuple[float, ...]]
    seconds: float


class Checkpoints:
    """The checkpoints of a run: ``MODEL.checkpoint-STEP.h5`` beside its model.

    Args:
        model: file of the model.
        keep: how many to leave, the newest ones; 0 leaves the last until the run is finished.
    """

    def __init__(self, model: Path, keep: int) -> None:
        self.model, self.keep = model, keep
        self._others: list[Path] = []

    def paths(self) -> list[Path]:
        """Those that are there, oldest first."""
        found = self.model.parent.glob(f"{glob.escape(self.model.stem)}.checkpoint-*.h5")
        return sorted(found, key=lambda path: (len(path.name), path.name))

    def newest(self) -> Path | None:
        """The one to go on from."""
        return (self.paths() or [None])[-1]  # type: ignore[list-item]

    def begin_anew(self) -> None:
        """Those that are there are of another run, and go when this one has its first."""
        self._others = self.paths()

    def save(self, checkpoint: Checkpoint, sizes: Mapping[str, int], about: artifact.About) -> Path:
        """Write ``checkpoint/1``, then remove what is too old.

        Args:
            sizes: rows of the state's tables, which many devices pad.
        """
        step = int(checkpoint.state.step)
        path = self.model.with_name(f"{self.model.stem}.checkpoint-{step:09d}.h5")
        artifact.remove_abandoned(path.parent, f"{glob.escape(self.model.stem)}.checkpoint-*", path.suffix)
        leaves, _ = jax.tree_util.tree_flatten_with_path(_without_padding(checkpoint.state, sizes))
        with artifact.create(path, "checkpoint/1", **about) as file:
            artifact.put(file, "step", step)
            artifact.put(file, "log", np.array(checkpoint.log).reshape(-1, len(LOG)))
            artifact.put(file, "totals", checkpoint.totals)
            file.attrs["seconds"] = checkpoint.seconds
            group = file.create_group("state")
            for place, value in leaves:
                group.create_dataset(_name(place), data=np.asarray(value))
        others, self._others = set(self._others) - {path}, []
        own = [found for found in self.paths() if found not in others]
        for old in [*others, *own[: -max(1, self.keep)]]:
            old.unlink(missing_ok=True)
        return path

    def finish(self) -> None:
        """Remove them, but for those of this run that are to be kept."""
        for path in self._others if self.keep else self.paths():
            path.unlink(missing_ok=True)


def load_checkpoint(path: Path, like: State) -> Checkpoint:
    """Read a checkpoint; ``like`` gives the structure and the shapes of its state. All arrays are of numpy.

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
                    f"{path}: {_name(place)} does not fit this run; delete it or start without --resume"
                )
            values.append(stored[()])
        state = jax.tree_util.tree_unflatten(structure, values)
        log = [tuple(float(value) for value in row) for row in file["log"][:]]
        return Checkpoint(state, file["totals"][:], log, float(file.attrs["seconds"]))


def _without_padding(state: State, sizes: Mapping[str, int]) -> State:
    tables = {
        name: jax.tree.map(lambda array, rows=rows: np.asarray(array)[:rows], getattr(state, name))
        for name, rows in sizes.items()
    }
    return dataclasses.replace(state, **tables)


def _name(place: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in place)
