"""The surface of a model's object."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nerfgen.field import FieldConfig, Model
from nerfgen.generate import table_objects
from nerfgen.scene import foreground_of
from nerfgen.surface.extract import Meshing, Surface, extract_surface
from nerfgen.surface.grid import Field

# Points at a time: one shape is compiled, and it bounds the memory.
_POINTS = 1 << 16
_CAMERAS = 9


def object_surface(model: Model, latent: Float[np.ndarray, "latent"], meshing: Meshing = Meshing()) -> Surface:
    """The mesh of a code. Its level is that which some of the training cameras see.

    Raises:
        NoSurfaceError: there is none.
    """
    rows = np.unique(np.linspace(0, len(model.images) - 1, _CAMERAS).astype(int))
    cameras = table_objects(model, rows.tolist()).cameras
    assert cameras is not None
    config = model.config
    texel = 2 * max(config.bounds) / config.plane_size if config.kind == "planes" else 0.0
    return extract_surface(object_field(model, latent), config.bounds, cameras, meshing, grain=texel)


def object_field(model: Model, latent: Float[np.ndarray, "latent"]) -> Field:
    """Density and colour of a code as a function of world points."""
    parameters = jax.tree.map(jnp.asarray, model.parameters)
    code = jnp.asarray(latent, jnp.float32)

    def field(points: Float[np.ndarray, "points 3"]) -> tuple[np.ndarray, np.ndarray]:
        density, color = np.zeros(len(points), np.float32), np.zeros((len(points), 3), np.float32)
        for start in range(0, len(points), _POINTS):
            some = points[start : start + _POINTS]
            asked = np.zeros((_POINTS, 3), np.float32)
            asked[: len(some)] = some
            found = _foreground(model.config, parameters, code, asked)
            here = slice(start, start + len(some))
            density[here], color[here] = (np.asarray(values)[: len(some)] for values in found)
        return density, color

    return field


@partial(jax.jit, static_argnums=0)
def _foreground(
    config: FieldConfig, parameters: dict[str, Any], code: Array, points: Array
) -> tuple[Array, Array]:
    density, color = foreground_of(config, parameters, code[None])(points[None])
    return density[0], color[0]
