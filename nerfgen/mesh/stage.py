"""Surfaces of a model's objects, each into a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from nerfgen import storage
from nerfgen.field import FieldConfig, conditioned_field, latent_condition
from nerfgen.mesh.density_grid import Field
from nerfgen.mesh.isosurface import MeshSettings, NoSurfaceError, Surface, extract_surface
from nerfgen.mesh.mesh_file import write_surface
from nerfgen.model import Model, Objects, table_objects
from nerfgen.parallel import Progress, silent

# Points evaluated at a time: one shape is compiled, and the memory is bounded.
_POINTS = 1 << 16
_CAMERAS = 9


def object_surface(
    model: Model, latent: Float[np.ndarray, "latent"], meshing: MeshSettings = MeshSettings()
) -> Surface:
    """The surface of a latent code, at the level that some of the training cameras see.

    Raises:
        NoSurfaceError: no density reaches the level.
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
    stages: Mapping[int, storage.Stage],
    meshing: MeshSettings = MeshSettings(),
    *,
    progress: Progress = silent,
) -> list[str]:
    """Write the surfaces of some objects, each into a file of its own.

    Args:
        stages: the output of each object, by its number.

    Returns:
        The status of all objects: their own, or ``no_surface`` with the reason.
    """
    status = list(objects.status)
    for done, (number, stage) in enumerate(stages.items()):
        if status[number] in storage.USABLE:
            own = model.tuned(objects.tuned.get(number))
            try:
                write_surface(stage, object_surface(own, objects.latents[number], meshing))
            except NoSurfaceError as error:
                status[number] = f"no_surface, {error}"
        progress(done + 1, len(stages))
    return status


def object_field(model: Model, latent: Float[np.ndarray, "latent"]) -> Field:
    """Density and colour of a latent code as a function of world points."""
    parameters = model.device_parameters
    condition = _condition(model.config, parameters, jnp.asarray(latent, jnp.float32))

    def field(points: Float[np.ndarray, "points 3"]) -> tuple[np.ndarray, np.ndarray]:
        density, color = np.zeros(len(points), np.float32), np.zeros((len(points), 3), np.float32)
        for start in range(0, len(points), _POINTS):
            chosen = points[start : start + _POINTS]
            padded = np.zeros((_POINTS, 3), np.float32)
            padded[: len(chosen)] = chosen
            found = _foreground(model.config, parameters, condition, padded)
            here = slice(start, start + len(chosen))
            density[here], color[here] = (np.asarray(values)[: len(chosen)] for values in found)
        return density, color

    return field


@partial(jax.jit, static_argnums=0)
def _condition(config: FieldConfig, parameters: dict[str, PyTree], code: Array) -> Any:
    return latent_condition(config, parameters, code[None])


@partial(jax.jit, static_argnums=0)
def _foreground(
    config: FieldConfig, parameters: dict[str, PyTree], condition: PyTree, points: Array
) -> tuple[Array, Array]:
    density, color = conditioned_field(config, parameters, condition)(points[None])
    return density[0], color[0]
