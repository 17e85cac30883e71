"""Adam on the rows of a table that a batch touched: the work depends on the batch, not on the table.

On several devices every device holds a block of rows. All functions run inside :func:`jax.shard_map` over the
axis ``AXIS`` and see their own block; indices of rows are those of the whole table, the same on all devices.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from nerfgen.optimize.devices import AXIS

_EPSILON = 1e-8


class RowGradient(NamedTuple):
    """Gradient of a table that is zero outside the rows of a batch.

    Attributes:
        rows: row of each entry of the batch; entries of one row add up.
        values: gradient of each entry.
    """

    rows: Int[Array, "entries"]
    values: Float[Array, "entries dimensions"]


class RowUpdate(NamedTuple):
    """What an optimiser step adds to some rows of this device's block.

    Attributes:
        rows: indices into the block, each once; the block's length in unused places.
        values: added to each of them.
    """

    rows: Int[Array, "entries"]
    values: Float[Array, "entries dimensions"]


class RowSparseAdamState(NamedTuple):
    """Moments of every row.

    Attributes:
        first, second: moving averages of a row's gradient and of its square, over the steps that touched the row.
        steps: number of these steps.
    """

    first: Float[Array, "rows dimensions"]
    second: Float[Array, "rows dimensions"]
    steps: Int[Array, "rows"]


def row_sparse_adam(b1: float, b2: float) -> optax.GradientTransformationExtraArgs:
    """Adam (Kingma and Ba, 2015) for a table, with a bias correction for each row; untouched rows stay bit-identical.

    With g the sum of a row's gradients in the batch and n the number of steps that touched it, this one included,

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2,
        z <- z - learning_rate (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + 1e-8)

    Where every step touches every row this is Adam itself. ``update`` takes a :class:`RowGradient` and the keyword
    ``learning_rate``, one for all dimensions or one for each, and returns a :class:`RowUpdate` for
    :func:`apply_row_update`.
    """

    def init(values: Float[Array, "rows dimensions"]) -> RowSparseAdamState:
        zeros = jnp.zeros_like(values)
        return RowSparseAdamState(zeros, zeros, jnp.zeros(len(values), jnp.int32))

    def update(
        gradient: RowGradient,
        state: RowSparseAdamState,
        params: Float[Array, "rows dimensions"] | None = None,
        *,
        learning_rate: Float[Array, ""] | Float[Array, "dimensions"],
    ) -> tuple[RowUpdate, RowSparseAdamState]:
        rows, entry = _unique_rows(gradient.rows, block=len(state.steps))
        total = jnp.zeros_like(gradient.values).at[entry].add(gradient.values)
        first, second = (
            array.at[rows].get(mode="fill", fill_value=0.0) for array in (state.first, state.second)
        )
        count = state.steps.at[rows].get(mode="fill", fill_value=0) + 1
        first = b1 * first + (1 - b1) * total
        second = b2 * second + (1 - b2) * total**2
        exponent = count[:, None].astype(jnp.float32)
        corrected = jnp.sqrt(second / (1 - b2**exponent)) + _EPSILON
        values = -jnp.atleast_1d(learning_rate)[None] * (first / (1 - b1**exponent)) / corrected
        state = RowSparseAdamState(
            state.first.at[rows].set(first, mode="drop"),
            state.second.at[rows].set(second, mode="drop"),
            state.steps.at[rows].set(count, mode="drop"),
        )
        return RowUpdate(rows, values), state

    return optax.GradientTransformationExtraArgs(init, update)


def apply_row_update(
    table: Float[Array, "rows dimensions"], update: RowUpdate
) -> tuple[Float[Array, "rows dimensions"], Float[Array, "dimensions"]]:
    """The table after a step, and the change of the sum of all its rows."""
    rows, values = update
    before = table.at[rows].get(mode="fill", fill_value=0.0)
    held = (rows < len(table))[:, None]
    change = jax.lax.psum(jnp.sum(jnp.where(held, values, 0.0), axis=0), AXIS)
    return table.at[rows].set(before + values, mode="drop"), change


def gather_rows(
    table: Float[Array, "rows dimensions"], rows: Int[Array, "entries"]
) -> Float[Array, "entries dimensions"]:
    """Rows of the whole table, from whichever device holds them."""
    return jax.lax.psum(_held_rows(table, rows), AXIS)


def scatter_rows(
    table: Float[Array, "rows dimensions"], rows: Int[Array, "entries"]
) -> Float[Array, "own dimensions"]:
    """Rows of the whole table, of which each device is sent its own: an equal part of ``rows``, in their order."""
    return jax.lax.psum_scatter(_held_rows(table, rows), AXIS, tiled=True)


def _held_rows(
    table: Float[Array, "rows dimensions"], rows: Int[Array, "entries"]
) -> Float[Array, "entries dimensions"]:
    """The rows that this device holds; zeros for the others."""
    local, held = _local_rows(rows, block=len(table))
    return jnp.where(held[:, None], table[jnp.where(held, local, 0)], 0.0)


def _unique_rows(
    rows: Int[Array, "entries"], *, block: int
) -> tuple[Int[Array, "entries"], Int[Array, "entries"]]:
    """The distinct rows of a batch that this device holds, padded with ``block``; and the place of each entry's row
    among them."""
    local, held = _local_rows(rows, block=block)
    unique, entry = jnp.unique(
        jnp.where(held, local, block), size=len(rows), fill_value=block, return_inverse=True
    )
    return unique.astype(jnp.int32), entry.reshape(-1)


def _local_rows(
    rows: Int[Array, "entries"], *, block: int
) -> tuple[Int[Array, "entries"], Bool[Array, "entries"]]:
    """Indices into this device's block of ``block`` rows, and whether the block holds them."""
    local = rows - jax.lax.axis_index(AXIS) * block
    return local, (local >= 0) & (local < block)
