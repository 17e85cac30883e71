"""A checkpoint that all hosts of a run write together: a folder of Orbax, in which each array is stored in parts.

The folder appears when all parts are written. Any number of hosts reads it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from nerfgen.errors import InputError

# Items of the folder: the arrays, and what is JSON.
_STATE, _RUN = "state", "run"


def write_shared(path: Path, state: PyTree, run: Mapping[str, Any]) -> None:
    """Write a folder; all hosts call this.

    Args:
        state: arrays on the devices of all hosts.
        run: JSON; ``attributes`` are those of :meth:`nerfgen.storage.Stage.attributes`.
    """
    import orbax.checkpoint as ocp

    with closing(_checkpointer()) as checkpointer:
        items = {_STATE: ocp.args.PyTreeSave(state), _RUN: ocp.args.JsonSave(dict(run))}
        # What stands there is of a run that was begun anew.
        checkpointer.save(path.absolute(), ocp.args.Composite(**items), force=True)


def read_shared(path: Path, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """State and JSON of a folder; all hosts call this.

    Args:
        like: shapes, types and shardings of the state's arrays. A table may be padded with rows of zeros to another
            length than in the folder.

    Raises:
        InputError: the folder does not fit.
    """
    import orbax.checkpoint as ocp

    def argument(array: jax.ShapeDtypeStruct) -> Any:
        return ocp.ArrayRestoreArgs(
            sharding=array.sharding, global_shape=array.shape, dtype=array.dtype, strict=False
        )

    restored = ocp.args.PyTreeRestore(like, restore_args=jax.tree.map(argument, like))
    with closing(_checkpointer()) as checkpointer:
        try:
            found = checkpointer.restore(
                path.absolute(), ocp.args.Composite(**{_STATE: restored, _RUN: ocp.args.JsonRestore()})
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            cause = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path} does not fit this run ({cause}); delete the folder or do not `resume`"
            ) from error
    return found[_STATE], dict(found[_RUN])


def read_attributes(path: Path) -> dict[str, object]:
    """The provenance that a folder records.

    Raises:
        InputError: it is no checkpoint.
    """
    try:
        return dict(json.loads((path / _RUN / "metadata").read_text(encoding="utf-8"))["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no checkpoint; delete it, or do not `resume`") from error


def remove_unfinished(folder: Path, stem: str) -> None:
    """Remove what hosts that ended while they wrote left of folders whose names begin with ``stem``."""
    for path in folder.iterdir():
        if path.name.startswith(stem) and ".orbax-checkpoint-tmp" in path.name:
            shutil.rmtree(path, ignore_errors=True)


def _checkpointer() -> Any:
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())
