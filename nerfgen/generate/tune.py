"""Pivotal tuning: the networks adjusted to one photograph, around the code that was found for it.

After Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021.
"""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nerfgen.field import FieldConfig, Model, added, tunable
from nerfgen.generate.fit import Fitted
from nerfgen.generate.reconstruct import (
    ADAM,
    COMPILED_QUICKLY,
    RAYS,
    Network,
    network_of,
    pauses,
    photograph_losses,
    reconstruction_psnr,
    together,
)
from nerfgen.geometry import (
    Cameras,
    pixel_rays,
    rigid,
    rotation_from_vector,
    sphere_window,
    window_intrinsics,
)
from nerfgen.parallel import Progress, silent
from nerfgen.scene import see
from nerfgen.train.batch import Pixels
from nerfgen.train.data import Framed
from nerfgen.train.preset import Preset
from nerfgen.train.source import framed_pixels

STEPS = 100
_RATE, _FINAL = 3e-3, 0.1
_TURNED, _SIZE = 1.0, 1e-4
_TURN = 45.0
_CAMERAS = 512


class Tuned(NamedTuple):
    """What tuning found.

    Attributes:
        deltas: what is added to the networks' parameters (float16), by a photograph's place; none where that would
            not make its reconstruction better.
        psnr: of the reconstruction of every photograph, dB.
    """

    deltas: dict[int, dict[str, Any]]
    psnr: Float[np.ndarray, "images"]


def tune_networks(
    model: Model,
    framed: Framed,
    fitted: Fitted,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = silent,
) -> Tuned:
    """Add to the networks, for each photograph alone, what its code can't say; code and camera stay.

    The loss is that of training, plus the squared difference that the change makes to the colour and opacity of rays
    of turned views, plus ``1e-4`` times the sum of its squares. Turned views are those of random cameras of
    training, turned further by up to 45 degrees to either side. What multiplies the code stays as it is: with one
    code it says no more than a bias.

    Photographs whose fit did not converge are left out.
    """
    preset, network, views = Preset(**model.preset), network_of(model), _turned_views(model, seed)
    count = len(framed.images)
    found: dict[int, dict[str, Any]] = {}
    chosen = np.flatnonzero(fitted.converged)
    groups = list(together(chosen, count, preset, 3 * RAYS))
    nothing = jax.tree.map(np.zeros_like, tunable(model.parameters))
    for number, group in enumerate(groups):
        photographs = _Photographs(
            framed_pixels(framed.some(group.places)),
            jnp.asarray(fitted.latents[group.places]),
            jnp.asarray(fitted.cam_to_world[group.places], jnp.float32),
        )
        deltas = jax.tree.map(partial(_repeated, len(group.places)), nothing)
        search = _Search(deltas, ADAM.init(deltas), jnp.int32(0))
        for until in pauses(steps):
            plan = (jax.random.key(seed), jnp.float32(steps), until)
            search = jax.block_until_ready(
                _advance(model.config, preset, network, views, photographs, *plan, search)
            )
            progress(number * steps + until, len(groups) * steps, f"{len(chosen)} tuned")
        ours = jax.tree.map(lambda array: np.asarray(array).astype(np.float16), search.deltas)
        for place, photograph in enumerate(group.places[: group.real]):
            found[int(photograph)] = jax.tree.map(itemgetter(place), ours)
    psnr = reconstruction_psnr(model, framed, fitted.latents, fitted.cam_to_world, found)
    better = psnr > fitted.psnr  # false where it is no number
    return Tuned(
        {place: delta for place, delta in found.items() if better[place]},
        np.where(better, psnr, fitted.psnr),
    )


class _Photographs(NamedTuple):
    """Those that are tuned to together."""

    pixels: Pixels
    latents: Float[Array, "images latent"]
    cam_to_world: Float[Array, "images 4 4"]


class _Search(NamedTuple):
    """Tuning on its way: the deltas of every photograph, Adam's moments, and steps done."""

    deltas: dict[str, Any]
    moments: Any
    step: Int[Array, ""]


def _repeated(count: int, array: np.ndarray) -> Array:
    return jnp.broadcast_to(array, (count, *array.shape))


def _turned_views(model: Model, seed: int) -> Cameras:
    """Cameras that the tuned object is to be seen from as it was before."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, len(model.images), _CAMERAS)
    turns = np.radians(draw.uniform(-_TURN, _TURN, _CAMERAS))[:, None] * np.array([0.0, 1.0, 0.0])
    poses = rigid(rotation_from_vector(turns), np.zeros((_CAMERAS, 3))) @ model.cam_to_world[rows]
    matrices = model.intrinsics[rows]
    windows = sphere_window(matrices, poses, model.object_class.reach)
    framed = (window_intrinsics(matrices, windows, 1), poses)
    return Cameras(*(jnp.asarray(array, jnp.float32) for array in framed))  # type: ignore[arg-type]


@partial(jax.jit, static_argnums=(0, 1), compiler_options=COMPILED_QUICKLY)
def _advance(
    config: FieldConfig,
    preset: Preset,
    network: Network,
    views: Cameras,
    photographs: _Photographs,
    key: Array,
    steps: Float[Array, ""],
    until: Int[Array, ""],
    search: _Search,
) -> _Search:
    """Steps of Adam on all deltas, up to a number of steps."""

    def loss(delta: dict[str, Any], own: _Photographs, keys: Array, view: Cameras) -> Array:
        field = added(network.field, delta)
        own = jax.tree.map(lambda array: array[None], own)
        tuned = Network(field, network.guide)
        shown = photograph_losses(config, preset, tuned, own.latents, own.cam_to_world, own.pixels, keys[0])[
            0
        ]
        centers = jax.random.uniform(keys[1], (1, RAYS, 2))
        rays = pixel_rays(centers, view.intrinsics[None], view.cam_to_world[None])

        def seen(field: dict[str, Any]) -> tuple[Array, Array]:
            found, background = see(
                config,
                field,
                own.latents,
                *rays,
                samples=preset.samples,
                occupancy=network.guide,
                key=keys[2][None],
            )
            return found.color + (1 - found.opacity[..., None]) * background, found.opacity

        (color, opacity), (color_before, opacity_before) = seen(field), seen(network.field)
        turned = jnp.mean(jnp.sum((color - color_before) ** 2, axis=-1) + (opacity - opacity_before) ** 2)
        size = sum(jnp.vdot(array, array) for array in jax.tree.leaves(delta))
        return shown + _TURNED * turned + _SIZE * size

    def step(_: Any, search: _Search) -> _Search:
        keys = jax.random.split(jax.random.fold_in(key, search.step), 4)
        chosen = jax.random.randint(keys[3], (), 0, _CAMERAS)
        view = Cameras(views.intrinsics[chosen], views.cam_to_world[chosen])
        each = jax.vmap(jax.grad(loss), in_axes=(0, 0, None, None))
        moves, moments = ADAM.update(each(search.deltas, photographs, keys, view), search.moments)
        rate = _RATE * _FINAL ** (search.step / steps)
        deltas = jax.tree.map(lambda value, move: value - rate * move, search.deltas, moves)
        return _Search(deltas, moments, search.step + 1)

    return jax.lax.fori_loop(search.step, until, step, search)
