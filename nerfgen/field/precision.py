"""Layers whose matrix products are taken in a chosen precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PRECISIONS = ("float32", "bfloat16")


def dense(features: int, precision: str, **options: Any) -> nn.Dense:
    """A dense layer with float32 parameters, sums and results, and factors of ``precision``.

    ``bfloat16`` factors use the matrix units of GPUs and TPUs; their products are summed in float32.
    """
    if precision == "float32":
        return nn.Dense(features, **options)
    product = partial(_rounded_product, kind=jnp.dtype(precision))
    return nn.Dense(features, dot_general=product, **options)


def _rounded_product(left: jax.Array, right: jax.Array, dimensions: Any, *, kind: Any, **_: Any) -> jax.Array:
    return jax.lax.dot_general(
        left.astype(kind), right.astype(kind), dimensions, preferred_element_type=jnp.float32
    )
