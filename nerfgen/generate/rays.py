"""Rays of one object, followed only where its own densities say that there is something to see.

The object's densities are taken once on a grid. By it, rays that meet nothing are left to the background, and the
others are asked about where they meet the surface, before what is opaque stops them. All shapes are fixed, whatever
the pictures' size and number: a few programs are compiled in all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nerfgen.field import FieldConfig, Model
from nerfgen.scene import background_of, condition_of, conditioned
from nerfgen.volume import cell_centers, composite, estimated_weights, surface_samples

GRID = 48
# Rays whose estimated opacity is below this are background.
_NOTHING = 1e-3
# Rays that the grid is asked for at a time, and points that the network is, at most: they bound the memory.
_MOST_RAYS = 1 << 15
_POINTS_ON_CPU, _POINTS = 1 << 15, 1 << 20
# A network's memory for a point, in layers of its width, and the share of the free memory that points may take, or the
# bytes where it isn't known.
_LAYERS, _SHARE, _BYTES = 8, 0.25, 1 << 28
_LEAST = 256
# Step of the density's central differences, as a share of the box.
_STEP = 0.02


class RayValues(NamedTuple):
    """What rays see.

    Attributes:
        color: with background, in [0, 1].
        foreground: of the object alone, multiplied by its opacity.
        opacity: accumulated, in [0, 1].
        distance: expected distance of the surface, world units; 0 where nothing is met.
        normals: unit normals of the surface there, in the world; 0 where opacity is below 0.5 and, everywhere, if they
            were not asked for.
    """

    color: Float[np.ndarray, "rays 3"]
    foreground: Float[np.ndarray, "rays 3"]
    opacity: Float[np.ndarray, "rays"]
    distance: Float[np.ndarray, "rays"]
    normals: Float[np.ndarray, "rays 3"]


class ObjectRays:
    """One object of a model, ready to be looked at."""

    def __init__(self, model: Model, latent: Float[np.ndarray, "latent"]) -> None:
        self._config = model.config
        self._field = jax.tree.map(jnp.asarray, model.parameters)
        self._latent = jnp.asarray(latent, jnp.float32)
        self._points = _points_at_a_time(model.config)
        self._condition, self._grid = _prepared(self._config, self._field, self._latent)

    def look(
        self,
        origins: Float[np.ndarray, "rays 3"],
        directions: Float[np.ndarray, "rays 3"],
        *,
        samples: int,
        with_normals: bool = False,
    ) -> RayValues:
        """Follow rays of unit direction, with ``samples`` samples each where they meet the object."""
        values = RayValues(
            *(np.zeros((len(origins), *shape), np.float32) for shape in ((3,), (3,), (), (), (3,)))
        )
        chunk = _padded_length(len(origins), _MOST_RAYS)
        for start in range(0, len(origins), chunk):
            stop = min(start + chunk, len(origins))
            chosen = np.resize(np.arange(start, stop), chunk)
            part = _Rays(
                jnp.asarray(origins[chosen], jnp.float32), jnp.asarray(directions[chosen], jnp.float32)
            )
            weights, opacity, background = _probed(self._config, self._field, self._latent, self._grid, part)
            values.color[start:stop] = np.asarray(background)[: stop - start]
            met = np.flatnonzero(np.asarray(opacity)[: stop - start] > _NOTHING)
            self._shade(values, start, part, weights, met, samples)
            if with_normals:
                solid = met[values.opacity[start + met] >= 0.5]
                self._find_normals(values, start, part, solid)
        return values

    def _shade(
        self,
        values: RayValues,
        start: int,
        rays: _Rays,
        weights: Array,
        met: Int[np.ndarray, "met"],
        samples: int,
    ) -> None:
        pending = [
            (some, _shaded(self._config, samples, self._field, self._condition, rays, weights, places))
            for some, places in _in_parts(met, self._points // samples)
        ]
        for some, found in pending:
            color, opacity, distance = (np.asarray(array)[: len(some)] for array in found)
            own = start + some
            values.color[own] = color + (1 - opacity[:, None]) * values.color[own]
            values.foreground[own], values.opacity[own], values.distance[own] = color, opacity, distance

    def _find_normals(
        self, values: RayValues, start: int, rays: _Rays, solid: Int[np.ndarray, "solid"]
    ) -> None:
        pending = []
        for some, places in _in_parts(solid, self._points // 6):
            distances = jnp.asarray(values.distance[start + np.asarray(places)])
            pending.append(
                (
                    some,
                    _normals(
                        self._config, self._field, self._condition, rays, jnp.asarray(places), distances
                    ),
                )
            )
        for some, normals in pending:
            values.normals[start + some] = np.asarray(normals)[: len(some)]


class _Rays(NamedTuple):
    origins: Float[Array, "rays 3"]
    directions: Float[Array, "rays 3"]

    def at(self, places: Array) -> _Rays:
        return _Rays(self.origins[places], self.directions[places])


def _padded_length(count: int, most: int) -> int:
    """A power of two, so that few shapes are compiled: enough for ``count``, but not above ``most``."""
    return min(most, max(_LEAST, 1 << (max(count, 1) - 1).bit_length()))


def _in_parts(
    places: Int[np.ndarray, "places"], most: int
) -> list[tuple[Int[np.ndarray, "some"], Int[np.ndarray, "length"]]]:
    """The places in parts of one length, each as it is and filled up by repetition."""
    length = _padded_length(len(places), 1 << (most.bit_length() - 1))
    parts = [places[start : start + length] for start in range(0, len(places), length)]
    return [(part, np.resize(part, length)) for part in parts]


def _points_at_a_time(config: FieldConfig) -> int:
    """Few on a CPU, whose caches are small; many elsewhere, as the memory of the device allows."""
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    stats = None if on_cpu else device.memory_stats()
    room = _SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]) if stats else _BYTES
    return min(_POINTS_ON_CPU if on_cpu else _POINTS, int(room) // (4 * _LAYERS * config.width))


@partial(jax.jit, static_argnums=0)
def _prepared(config: FieldConfig, field: dict[str, Any], latent: Array) -> tuple[Any, Array]:
    """What hangs on the code alone, and the densities at the middles of the grid's cells."""
    condition = condition_of(config, field, latent[None])
    slices = cell_centers(GRID, config.bounds).reshape(GRID, 1, GRID * GRID, 3)
    # Slice by slice: a wide network's activations of the whole grid would not fit into a small device.
    density = jax.lax.map(lambda points: conditioned(config, field, condition)(points)[0], slices)
    return condition, density.reshape(GRID, GRID, GRID)


@partial(jax.jit, static_argnums=0)
def _probed(
    config: FieldConfig, field: dict[str, Any], latent: Array, grid: Array, rays: _Rays
) -> tuple[Array, Array, Array]:
    weights = estimated_weights(grid, *rays, config.bounds)
    background = background_of(config, field, latent[None], rays.directions[None])[0]
    return weights, jnp.sum(weights, axis=-1), background


@partial(jax.jit, static_argnums=(0, 1))
def _shaded(
    config: FieldConfig,
    count: int,
    field: dict[str, Any],
    condition: Any,
    rays: _Rays,
    weights: Array,
    places: Array,
) -> tuple[Array, Array, Array]:
    origins, directions = rays.at(places)
    samples = surface_samples(origins, directions, weights[places], config.bounds, count)
    points = origins[:, None] + samples.distances[..., None] * directions[:, None]
    density, color = conditioned(config, field, condition)(points.reshape(1, -1, 3))
    shape = samples.distances.shape
    seen = composite(density.reshape(shape), color.reshape(*shape, 3), samples.distances, samples.spacings)
    return seen.color, seen.opacity, seen.distance


@partial(jax.jit, static_argnums=0)
def _normals(
    config: FieldConfig, field: dict[str, Any], condition: Any, rays: _Rays, places: Array, distances: Array
) -> Array:
    """Against the density's gradient, by central differences, at points on rays."""
    origins, directions = rays.at(places)
    points = origins + distances[:, None] * directions
    steps = _STEP * jnp.asarray(config.bounds)
    moves = jnp.concatenate([jnp.diag(steps), -jnp.diag(steps)])
    around = conditioned(config, field, condition)((points[:, None] + moves).reshape(1, -1, 3))[0]
    ahead, behind = jnp.moveaxis(around.reshape(-1, 2, 3), 1, 0)
    slope = (behind - ahead) / steps
    return slope / jnp.maximum(jnp.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)
