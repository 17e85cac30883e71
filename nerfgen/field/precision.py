"""Layers whose matrix products are taken in a chosen precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PRECISIONS = ("float32", "bfloat16")


class _Rows(nn.Dense):
    """A dense layer that sees one matrix of rows: XLA's gradient of a product over several axes is slow on a CPU."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return rows.reshape(*inputs.shape[:-1], -1)


def dense(features: int, precision: str, **options: Any) -> nn.Dense:
    """A dense layer with float32 parameters, sums and results, and factors of ``precision``.

    ``bfloat16`` factors use the matrix units of GPUs and TPUs; their products are summed in float32.
    """
    if precision == "float32":
        return _Rows(features, **options)
    product = partial(_rounded_product, kind=jnp.dtype(precision))
    return _Rows(features, dot_general=product, **options)


def _rounded_product(left: jax.Array, right: jax.Array, dimensions: Any, *, kind: Any, **_: Any) -> jax.Array:
    return jax.lax.dot_general(
        left.astype(kind), right.astype(kind), dimensions, preferred_element_type=jnp.float32
    )
