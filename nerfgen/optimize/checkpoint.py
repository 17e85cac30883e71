"""Unfinished optimisations as files, so that resuming gives the same numbers as never stopping.

One host writes a file; several write a folder together (:mod:`nerfgen.optimize.shared_checkpoint`).
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import jax
import numpy as np
from jaxtyping import PyTree

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.optimize.hosts import Hosts
from nerfgen.optimize.shared_checkpoint import (
    read_attributes,
    remove_unfinished,
    write_shared,
)

SCHEMA = "checkpoint/1"
_REMEDY = "delete it, or do not `resume`"


@dataclass(frozen=True)
class Checkpoint:
    """What an optimisation needs to go on as if it had never stopped.

    Attributes:
        state: a tree of arrays: parameters, moments, and whatever else a step changes. Random numbers follow from
            the step.
        step: steps done.
        seconds: time so far.
        log: entries so far: the step, then values.
    """

    state: PyTree
    step: int
    seconds: float
    log: list[tuple[float, ...]] = field(default_factory=list)


class CheckpointSeries:
    """The checkpoints of one optimisation beside its output: ``OUTPUT.checkpoint-STEP.h5``, or the folder
    ``OUTPUT.checkpoint-STEP`` where several hosts wrote it.

    Args:
        output: file that the finished optimisation writes.
        keep: how many of the newest to keep, also after the end; 0 keeps the last until then.
    """

    def __init__(self, output: Path, keep: int = 0) -> None:
        self.output, self.keep = output, keep
        self._previous: list[Path] = []

    def paths(self) -> list[Path]:
        """Existing checkpoints, oldest first."""
        steps: dict[Path, int] = {}
        for path in self.output.parent.glob(f"{glob.escape(self.output.stem)}.checkpoint-*"):
            name = re.fullmatch(r"\.checkpoint-(\d+)(\.h5)?", path.name[len(self.output.stem) :])
            if name:
                steps[path] = int(name[1])
        return sorted(steps, key=lambda path: (steps[path], path.name))

    def newest(self) -> Path | None:
        """The checkpoint to resume from."""
        paths = self.paths()
        return paths[-1] if paths else None

    def discard_previous(self) -> None:
        """Mark the existing checkpoints as those of another run: they are removed with the first :meth:`save`."""
        self._previous = self.paths()

    def save(self, checkpoint: Checkpoint, stage: storage.Stage) -> Path:
        """Write ``checkpoint/1`` of the optimisation whose output ``stage`` is, then remove those that are too old.

        The claim on the output includes its checkpoints.
        """
        path = self.output.with_name(f"{self.output.stem}.checkpoint-{checkpoint.step:09d}.h5")
        storage.remove_abandoned(path.parent, f"{glob.escape(self.output.stem)}.checkpoint-*", path.suffix)
        with storage.create_file(path, replace(stage, output=path, schema=SCHEMA).attributes()) as file:
            storage.put(file, "step", checkpoint.step)
            if checkpoint.log:
                storage.put(file, "log", np.array(checkpoint.log))
            file.attrs["seconds"] = checkpoint.seconds
            write_tree(file.create_group("state"), checkpoint.state)
        self._remove_old(path)
        return path

    def save_shared(self, checkpoint: Checkpoint, stage: storage.Stage, hosts: Hosts) -> Path:
        """As :meth:`save`, by all hosts: each writes what its own devices hold of the state."""
        path = self.output.with_name(f"{self.output.stem}.checkpoint-{checkpoint.step:09d}")
        if hosts.is_first:
            remove_unfinished(path.parent, f"{self.output.stem}.checkpoint-")
        hosts.meet("a checkpoint")
        run = {
            "attributes": replace(stage, output=path, schema=SCHEMA).attributes(),
            "step": checkpoint.step,
            "seconds": checkpoint.seconds,
            "log": [list(map(float, entry)) for entry in checkpoint.log],
        }
        write_shared(path, checkpoint.state, run)
        if hosts.is_first:
            self._remove_old(path)
        return path

    def _remove_old(self, newest: Path) -> None:
        previous, self._previous = set(self._previous) - {newest}, []
        own = [found for found in self.paths() if found not in previous]
        for old in [*previous, *own[: -max(1, self.keep)]]:
            _remove(old)

    def finish(self) -> None:
        """Remove the checkpoints that are not to be kept after the end."""
        for path in self._previous if self.keep else self.paths():
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        storage.remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def load_checkpoint(path: Path, stage: storage.Stage, like: PyTree) -> Checkpoint:
    """Read a checkpoint of the optimisation whose output ``stage`` is. All arrays are numpy's.

    Args:
        like: gives structure and shapes of the state.

    Raises:
        OutputExistsError: it is of another optimisation; the message names the difference.
        InputError: the file does not fit.
    """
    require_same_run(path, stage)
    with storage.reading(path, SCHEMA) as file:
        log = [tuple(float(value) for value in row) for row in file["log"][:]] if "log" in file else []
        state = read_tree(file["state"], like, path)
        return Checkpoint(state, int(file["step"][()]), float(file.attrs["seconds"]), log)


def require_same_run(path: Path, stage: storage.Stage) -> None:
    """Check that a checkpoint is of the optimisation whose output ``stage`` is.

    Raises:
        OutputExistsError: it is of another one; the message names the difference.
    """
    recorded = replace(stage, output=path, schema=SCHEMA)
    if path.is_dir():
        recorded.require_equal(read_attributes(path), remedy=_REMEDY)
    else:
        recorded.is_current(remedy=_REMEDY)


def write_tree(group: h5py.Group, tree: PyTree) -> None:
    """The arrays of a tree as datasets, named by their places in it."""
    for place, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        group.create_dataset(_name(place), data=np.asarray(value))


def read_tree(group: h5py.Group, like: PyTree, path: Path) -> PyTree:
    """A tree of the structure of ``like`` from what :func:`write_tree` wrote.

    Raises:
        InputError: an array is missing or has another shape; ``path`` is named.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    values = []
    for place, leaf in leaves:
        stored = group.get(_name(place))
        # Types of other kinds would fail in the first step.
        if (
            not isinstance(stored, h5py.Dataset)
            or stored.shape != leaf.shape
            or stored.dtype.kind != np.dtype(leaf.dtype).kind
        ):
            raise InputError(
                f"{path}: {_name(place)} does not fit this run; delete the file or do not `resume`"
            )
        values.append(stored[()])
    return jax.tree_util.tree_unflatten(structure, values)


def _name(place: tuple[object, ...]) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in place)
