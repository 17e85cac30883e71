"""Tables with a row an image, of which a step reads and updates only the rows in its batch.

With many devices every device holds a block of rows. All functions run inside :func:`jax.shard_map` over the
axis ``AXIS`` and see their own block; what they are given and give back is the same on all devices.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

AXIS = "device"
_EPSILON = 1e-8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Table:
    """Values of all rows with Adam's moments of their own.

    Attributes:
        values: the rows.
        first, second: moving averages of their gradient and of its square, over the steps that touched the row.
        touched: number of these steps.
    """

    values: Float[Array, "rows numbers"]
    first: Float[Array, "rows numbers"]
    second: Float[Array, "rows numbers"]
    touched: Int[Array, "rows"]


class Touched(NamedTuple):
    """The different rows of a batch.

    Attributes:
        rows: places in this device's block, each once; the block's length where there is nothing.
        entry: which of ``rows`` each entry of the batch is.
    """

    rows: Int[Array, "entries"]
    entry: Int[Array, "entries"]


def new_table(values: Float[Array, "rows numbers"]) -> Table:
    """A table that no step has touched."""
    zeros = jnp.zeros_like(values)
    return Table(values, zeros, zeros, jnp.zeros(len(values), jnp.int32))


def looked_up(table: Table, rows: Int[Array, "entries"]) -> Float[Array, "entries numbers"]:
    """Values of rows of the whole table, from whichever device holds them."""
    local, held = _local(table, rows)
    found = jnp.where(held[:, None], table.values[jnp.where(held, local, 0)], 0.0)
    return jax.lax.psum(found, AXIS)


def touched_rows(table: Table, rows: Int[Array, "entries"]) -> Touched:
    """The rows of a batch that this device holds."""
    local, held = _local(table, rows)
    none = len(table.values)
    unique, entry = jnp.unique(
        jnp.where(held, local, none), size=len(rows), fill_value=none, return_inverse=True
    )
    return Touched(unique.astype(jnp.int32), entry.reshape(-1))


def stepped(
    table: Table,
    touched: Touched,
    gradient: Float[Array, "entries numbers"],
    rate: Float[Array, ""],
    b1: float,
    b2: float,
) -> tuple[Table, Float[Array, "numbers"]]:
    """One step of Adam (Kingma and Ba, 2015) on the touched rows; all others stay to the bit, moments included.

    With g the sum of a row's gradients in the batch and n the number of steps that touched it, with this one,

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2,
        z <- z - rate (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + 1e-8)

    The work depends on the batch, not on the number of rows. Where every step touches every row this is Adam itself.

    Args:
        gradient: of every entry of the batch.

    Returns:
        The table, and how far the sum of all its rows has moved.
    """
    rows, entry = touched
    total = jnp.zeros_like(gradient).at[entry].add(gradient)
    values, first, second = (
        array.at[rows].get(mode="fill", fill_value=0.0) for array in (table.values, table.first, table.second)
    )
    count = table.touched.at[rows].get(mode="fill", fill_value=0) + 1
    first = b1 * first + (1 - b1) * total
    second = b2 * second + (1 - b2) * total**2
    exponent = count[:, None].astype(jnp.float32)
    corrected = jnp.sqrt(second / (1 - b2**exponent)) + _EPSILON
    move = -rate * (first / (1 - b1**exponent)) / corrected
    held = (rows < len(table.values))[:, None]
    return (
        Table(
            table.values.at[rows].set(values + move, mode="drop"),
            table.first.at[rows].set(first, mode="drop"),
            table.second.at[rows].set(second, mode="drop"),
            table.touched.at[rows].set(count, mode="drop"),
        ),
        jax.lax.psum(jnp.sum(jnp.where(held, move, 0.0), axis=0), AXIS),
    )


def _local(table: Table, rows: Int[Array, "entries"]) -> tuple[Int[Array, "entries"], Array]:
    """Places in this device's block, and whether it holds them."""
    block = len(table.values)
    local = rows - jax.lax.axis_index(AXIS) * block
    return local, (local >= 0) & (local < block)
