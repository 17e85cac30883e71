"""Rays of one object, sampled only where its own density says that there is something to see.

The object's density is evaluated once on a grid. By that grid, rays that meet nothing show the background alone, and
the samples of the others lie about the surface that they meet first. All array shapes are fixed, whatever the size and
number of the views, so that few programs are compiled.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.errors import InputError
from nerfgen.field import FieldConfig, background_color, conditioned_field, latent_condition
from nerfgen.model import Model
from nerfgen.parallel import Steps, in_turns
from nerfgen.render.settings import MAX_SAMPLES
from nerfgen.volume import cell_centers, composite, estimated_weights, surface_samples

GRID = 48
# Rays whose estimated opacity is below this show the background alone.
_MIN_OPACITY = 1e-3
# Rays compared with the grid in one pass, and points that the network evaluates in one pass; both bound the memory.
_MAX_RAYS = 1 << 15
_MAX_POINTS_ON_CPU, _MAX_POINTS = 1 << 15, 1 << 20
# Memory that the network takes for a point, in layers of its width; fraction of the free memory that all points may
# take; bytes that they may take where the free memory is unknown.
_LAYERS, _MEMORY_FRACTION, _BYTES = 8, 0.25, 1 << 28
_MIN_LENGTH = 256
# Uses of an object's arrays, before they are copied: on a CPU, JAX 0.7 keeps some bytes for each of the last 1,024 uses
# of an array, which add up where many objects stay in memory.
_USES = 8
# Step of the central differences of the density, as a fraction of the box.
_STEP = 0.02


class RayValues(NamedTuple):
    """What rays show.

    Attributes:
        color: with background, in [0, 1].
        foreground: colour of the object alone, multiplied by its opacity.
        opacity: accumulated, in [0, 1].
        distance: expected distance of the surface, world units; 0 where the ray meets nothing.
        normals: unit normals of the surface there, in the world; 0 where opacity is below 0.5, and everywhere if
            normals were not requested.
    """

    color: Float[np.ndarray, "rays 3"]
    foreground: Float[np.ndarray, "rays 3"]
    opacity: Float[np.ndarray, "rays"]
    distance: Float[np.ndarray, "rays"]
    normals: Float[np.ndarray, "rays 3"]


class ObjectRenderer:
    """One object of a model, with everything computed that its rays share."""

    def __init__(self, model: Model, latent: Float[np.ndarray, "latent"]) -> None:
        if np.shape(latent) != (model.config.code_size,):
            shape = " x ".join(map(str, np.shape(latent)))
            raise InputError(
                f"a latent code of this model has {model.config.code_size} dimensions, not {shape}"
            )
        self._config = model.config
        self._parameters = model.device_parameters
        self._latent = jnp.asarray(latent, jnp.float32)
        self._max_points = _points_per_pass(model.config)
        self._uses = 0
        self._condition, self._grid = _condition_and_density(self._config, self._parameters, self._latent)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the object takes on the device, without the model's networks."""
        return sum(array.nbytes for array in jax.tree.leaves((self._condition, self._grid, self._latent)))

    def compile(self, rays: int, *, samples: int, with_normals: bool = False) -> None:
        """Compile what :meth:`trace` needs for up to so many rays, so that no later call has to wait for it."""
        forward = np.tile([0.0, 0.0, 1.0], (_padded_length(rays, _MAX_RAYS), 1))
        for length in _lengths(rays, _MAX_RAYS):
            beams = _Rays(jnp.zeros((length, 3)), jnp.asarray(forward[:length], jnp.float32))
            weights, *_ = _estimate(self._config, self._parameters, self._latent, self._grid, beams)
            for count in _lengths(length, _power_of_two(self._max_points // samples)):
                chosen = _chosen(beams, weights, jnp.zeros(count, int))
                _shaded(self._config, samples, self._parameters, self._condition, *chosen)
            for count in _lengths(length, _power_of_two(self._max_points // 6)) if with_normals else ():
                some, _ = _chosen(beams, weights, jnp.zeros(count, int))
                _normals(self._config, self._parameters, self._condition, some, jnp.zeros(count))

    def trace(
        self,
        origins: Float[np.ndarray, "rays 3"],
        directions: Float[np.ndarray, "rays 3"],
        *,
        samples: int,
        with_normals: bool = False,
    ) -> RayValues:
        """Follow rays to the object.

        Args:
            origins: world coordinates.
            directions: unit vectors.
            samples: of each ray that meets the object.

        Raises:
            InputError: ``samples`` is out of range.
        """
        return next(in_turns([self.trace_steps(origins, directions, samples, with_normals)], 1))

    def background(self, directions: Float[np.ndarray, "rays 3"]) -> Float[np.ndarray, "rays 3"]:
        """Colour in [0, 1] behind the object along rays of unit direction."""
        colors = np.zeros((len(directions), 3), np.float32)
        chunk = _padded_length(len(directions), _MAX_RAYS)
        for start in range(0, len(directions), chunk):
            own = np.arange(start, min(start + chunk, len(directions)))
            padded = jnp.asarray(directions[np.resize(own, chunk)], jnp.float32)
            found = _background(self._config, self._parameters, self._latent, padded)
            colors[own] = np.asarray(found)[: len(own)]
        return colors

    def trace_steps(
        self,
        origins: Float[np.ndarray, "rays 3"],
        directions: Float[np.ndarray, "rays 3"],
        samples: int,
        with_normals: bool,
    ) -> Steps[RayValues]:
        """:meth:`trace` in steps, for :func:`nerfgen.parallel.in_turns`."""
        if not 1 <= samples <= MAX_SAMPLES:
            raise InputError(f"`samples` has to be from 1 to {MAX_SAMPLES}, not {samples}")
        self._uses += 1
        if self._uses % _USES == 0:
            shared = (self._condition, self._grid, self._latent)
            self._condition, self._grid, self._latent = jax.tree.map(jnp.copy, shared)
        values = RayValues(
            *(np.zeros((len(origins), *shape), np.float32) for shape in ((3,), (3,), (), (), (3,)))
        )
        chunk = _padded_length(len(origins), _MAX_RAYS)
        for start in range(0, len(origins), chunk):
            stop = min(start + chunk, len(origins))
            padded = np.resize(np.arange(start, stop), chunk)
            rays = _Rays(
                jnp.asarray(origins[padded], jnp.float32), jnp.asarray(directions[padded], jnp.float32)
            )
            weights, opacity, background = _estimate(
                self._config, self._parameters, self._latent, self._grid, rays
            )
            yield
            values.color[start:stop] = np.asarray(background)[: stop - start]
            met = np.flatnonzero(np.asarray(opacity)[: stop - start] > _MIN_OPACITY)
            yield from self._shade(values, start, rays, weights, met, samples)
            if with_normals:
                solid = met[values.opacity[start + met] >= 0.5]
                yield from self._find_normals(values, start, rays, weights, solid)
        return values

    def _shade(
        self,
        values: RayValues,
        start: int,
        rays: _Rays,
        weights: Array,
        met: Int[np.ndarray, "met"],
        samples: int,
    ) -> Steps[None]:
        """Colour, opacity and distance of the rays ``met``, which are numbered from ``start``."""
        # All passes are started before the first result is read: the device does not wait for the host.
        pending = []
        for part, indices in _passes(met, self._max_points // samples):
            chosen = _chosen(rays, weights, indices)
            shaded = _shaded(self._config, samples, self._parameters, self._condition, *chosen)
            pending.append((part, shaded))
        yield
        for part, results in pending:
            color, opacity, distance = (np.asarray(array)[: len(part)] for array in results)
            own = start + part
            values.color[own] = color + (1 - opacity[:, None]) * values.color[own]
            values.foreground[own], values.opacity[own], values.distance[own] = color, opacity, distance

    def _find_normals(
        self,
        values: RayValues,
        start: int,
        rays: _Rays,
        weights: Array,
        solid: Int[np.ndarray, "solid"],
    ) -> Steps[None]:
        """Normals of the rays ``solid``, which are numbered from ``start``."""
        pending = []
        for part, indices in _passes(solid, self._max_points // 6):
            some, _ = _chosen(rays, weights, indices)
            distances = jnp.asarray(values.distance[start + indices])
            pending.append((part, _normals(self._config, self._parameters, self._condition, some, distances)))
        yield
        for part, normals in pending:
            values.normals[start + part] = np.asarray(normals)[: len(part)]


class _Rays(NamedTuple):
    origins: Float[Array, "rays 3"]
    directions: Float[Array, "rays 3"]


def _padded_length(count: int, maximum: int) -> int:
    """The next power of two, so that few shapes are compiled, within bounds."""
    return min(maximum, max(_MIN_LENGTH, 1 << (max(count, 1) - 1).bit_length()))


def _power_of_two(count: int) -> int:
    """The largest power of two up to ``count``, at least 1."""
    return 1 << (max(count, 1).bit_length() - 1)


def _lengths(count: int, maximum: int) -> list[int]:
    """All that :func:`_padded_length` gives for up to ``count``."""
    return sorted(
        {_padded_length(1 << bits, maximum) for bits in range((max(count, 1) - 1).bit_length() + 1)}
    )


def _passes(
    indices: Int[np.ndarray, "indices"], maximum: int
) -> list[tuple[Int[np.ndarray, "part"], Int[np.ndarray, "length"]]]:
    """Indices in parts of one length, at most ``maximum`` (at least one): each as it is, and padded by repetition."""
    length = _padded_length(len(indices), _power_of_two(maximum))
    parts = [indices[start : start + length] for start in range(0, len(indices), length)]
    return [(part, np.resize(part, length)) for part in parts]


def _points_per_pass(config: FieldConfig) -> int:
    """Few on a CPU, whose caches are small; elsewhere as many as the free memory of the device allows."""
    device = jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    stats = None if on_cpu else device.memory_stats()
    available = _MEMORY_FRACTION * (stats["bytes_limit"] - stats["bytes_in_use"]) if stats else _BYTES
    maximum = _MAX_POINTS_ON_CPU if on_cpu else _MAX_POINTS
    return min(maximum, int(available) // (4 * _LAYERS * config.width))


@partial(jax.jit, static_argnums=0)
def _condition_and_density(
    config: FieldConfig, parameters: dict[str, PyTree], latent: Array
) -> tuple[Any, Array]:
    """What depends on the latent code alone, and the density at the centres of the grid's cells."""
    condition = latent_condition(config, parameters, latent[None])
    slices = cell_centers(GRID, config.bounds).reshape(GRID, 1, GRID * GRID, 3)
    # Slice by slice: a wide network's activations of the whole grid would not fit into a small device.
    density = jax.lax.map(lambda points: conditioned_field(config, parameters, condition)(points)[0], slices)
    return condition, density.reshape(GRID, GRID, GRID)


@partial(jax.jit, static_argnums=0)
def _estimate(
    config: FieldConfig, parameters: dict[str, PyTree], latent: Array, grid: Array, rays: _Rays
) -> tuple[Array, Array, Array]:
    """Compositing weights and opacity of rays by the grid, and the background behind them."""
    weights = estimated_weights(grid, *rays, config.bounds)
    background = background_color(config, parameters, latent[None], rays.directions[None])[0]
    return weights, jnp.sum(weights, axis=-1), background


@partial(jax.jit, static_argnums=0)
def _background(
    config: FieldConfig, parameters: dict[str, PyTree], latent: Array, directions: Array
) -> Float[Array, "rays 3"]:
    return background_color(config, parameters, latent[None], directions[None])[0]


@jax.jit
def _chosen(rays: _Rays, weights: Array, indices: Array) -> tuple[_Rays, Array]:
    """Some of the rays and their weights: what evaluates the network is compiled for their number alone."""
    return _Rays(rays.origins[indices], rays.directions[indices]), weights[indices]


@partial(jax.jit, static_argnums=(0, 1))
def _shaded(
    config: FieldConfig,
    count: int,
    parameters: dict[str, PyTree],
    condition: PyTree,
    rays: _Rays,
    weights: Array,
) -> tuple[Array, Array, Array]:
    """Foreground colour, opacity and distance of rays, with ``count`` samples each."""
    origins, directions = rays
    samples = surface_samples(origins, directions, weights, config.bounds, count)
    points = origins[:, None] + samples.distances[..., None] * directions[:, None]
    density, color = conditioned_field(config, parameters, condition)(points.reshape(1, -1, 3))
    shape = samples.distances.shape
    rendered = composite(
        density.reshape(shape), color.reshape(*shape, 3), samples.distances, samples.spacings
    )
    return rendered.color, rendered.opacity, rendered.distance


@partial(jax.jit, static_argnums=0)
def _normals(
    config: FieldConfig,
    parameters: dict[str, PyTree],
    condition: PyTree,
    rays: _Rays,
    distances: Array,
) -> Array:
    """Unit normals at distances along rays: against the density's gradient, by central differences."""
    origins, directions = rays
    points = origins + distances[:, None] * directions
    steps = _STEP * jnp.asarray(config.bounds)
    offsets = jnp.concatenate([jnp.diag(steps), -jnp.diag(steps)])
    neighbours = (points[:, None] + offsets[None]).reshape(1, -1, 3)
    density = conditioned_field(config, parameters, condition)(neighbours)[0]
    ahead, behind = jnp.moveaxis(density.reshape(-1, 2, 3), 1, 0)
    slope = (behind - ahead) / steps[None]
    return slope / jnp.maximum(jnp.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)
