"""Arrays on the devices of a mesh: how they get there, and how rows of a divided table come back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from nerfgen.optimize.devices import AXIS
from nerfgen.optimize.sparse_adam import gather_rows

# Rows of a table that pass through a host at a time.
_BLOCK_BYTES = 64 << 20


def place(values: PyTree, mesh: Mesh, spec: PartitionSpec) -> PyTree:
    """Arrays on the devices of a mesh, divided among them as ``spec`` says.

    Args:
        values: the whole arrays; all hosts have the same, and transfer what their own devices hold.
    """
    sharding = NamedSharding(mesh, spec)
    if sharding.is_fully_addressable:
        return jax.device_put(values, sharding)

    def placed(array: Any) -> jax.Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(placed, values)


def place_parts(values: PyTree, mesh: Mesh) -> PyTree:
    """Arrays on the devices of a mesh, divided among them along their first axis.

    Args:
        values: this host's part of the arrays, which is as long on every host.
    """
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if sharding.is_fully_addressable:
        return jax.device_put(values, sharding)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), values)


def row_blocks(table: jax.Array, count: int) -> Iterator[np.ndarray]:
    """The first ``count`` rows of a table that is divided by rows, in blocks; all hosts take all blocks."""
    if table.is_fully_addressable:
        yield np.asarray(table)[:count]
        return
    length = max(1, min(count, _BLOCK_BYTES // (table.dtype.itemsize * int(np.prod(table.shape[1:])))))
    for start in range(0, count, length):
        rows = np.arange(start, start + length)
        yield fetch_rows(table, np.minimum(rows, count - 1))[: count - start]


def fetch_rows(table: jax.Array, rows: Int[np.ndarray, "some"]) -> np.ndarray:
    """Some rows of a table that is divided by rows; all hosts ask for the same."""
    if table.is_fully_addressable:
        return np.asarray(table)[rows]
    assert isinstance(table.sharding, NamedSharding)
    return np.asarray(_gather(table.sharding.mesh)(table, rows.astype(np.int32)))


@functools.cache
def _gather(mesh: Mesh) -> Callable[..., jax.Array]:
    # Without the map over devices, the compiler might put the whole table on each of them.
    specs = PartitionSpec(AXIS), PartitionSpec()
    gather = jax.shard_map(gather_rows, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)
    return jax.jit(gather)
