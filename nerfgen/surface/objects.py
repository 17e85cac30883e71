"""Surfaces of a model's objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nerfgen import artifact
from nerfgen.field import FieldConfig, Model
from nerfgen.generate import Objects, table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.scene import condition_of, conditioned
from nerfgen.surface.extract import Meshing, NoSurfaceError, Surface, extract_surface
from nerfgen.surface.grid import Field
from nerfgen.surface.write import write_surface

# Points at a time: one shape is compiled, and it bounds the memory.
_POINTS = 1 << 16
_CAMERAS = 9


def object_surface(
    model: Model, latent: Float[np.ndarray, "latent"], meshing: Meshing = Meshing()
) -> Surface:
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


def write_objects(
    model: Model,
    objects: Objects,
    wanted: Mapping[int, tuple[Path, artifact.About]],
    meshing: Meshing = Meshing(),
    *,
    progress: Progress = silent,
) -> list[str]:
    """Mesh some objects, each into a file of its own.

    Args:
        wanted: by the number of an object, where its mesh goes and how it was made.

    Returns:
        The status of all objects: theirs, or ``no_surface`` and why. Without a usable one nothing is written.
    """
    status = list(objects.status)
    for done, (number, (path, about)) in enumerate(wanted.items()):
        if status[number] in artifact.USABLE:
            own = model.tuned(objects.tuned.get(number))
            try:
                write_surface(path, object_surface(own, objects.latents[number], meshing), about)
            except NoSurfaceError as error:
                status[number] = f"no_surface, {error}"
        progress(done + 1, len(wanted))
    return status


def object_field(model: Model, latent: Float[np.ndarray, "latent"]) -> Field:
    """Density and colour of a code as a function of world points."""
    parameters = jax.tree.map(jnp.asarray, model.parameters)
    condition = _condition(model.config, parameters, jnp.asarray(latent, jnp.float32))

    def field(points: Float[np.ndarray, "points 3"]) -> tuple[np.ndarray, np.ndarray]:
        density, color = np.zeros(len(points), np.float32), np.zeros((len(points), 3), np.float32)
        for start in range(0, len(points), _POINTS):
            some = points[start : start + _POINTS]
            asked = np.zeros((_POINTS, 3), np.float32)
            asked[: len(some)] = some
            found = _foreground(model.config, parameters, condition, asked)
            here = slice(start, start + len(some))
            density[here], color[here] = (np.asarray(values)[: len(some)] for values in found)
        return density, color

    return field


@partial(jax.jit, static_argnums=0)
def _condition(config: FieldConfig, parameters: dict[str, Any], code: Array) -> Any:
    return condition_of(config, parameters, code[None])


@partial(jax.jit, static_argnums=0)
def _foreground(
    config: FieldConfig, parameters: dict[str, Any], condition: Any, points: Array
) -> tuple[Array, Array]:
    density, color = conditioned(config, parameters, condition)(points[None])
    return density[0], color[0]
