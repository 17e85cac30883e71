"""Latent fitting: codes for photographs that are not in the table, with the network fixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from nerfgen.field import GenerativeField, Model
from nerfgen.geometry import pixel_rays
from nerfgen.parallel import Progress, silent
from nerfgen.train.data import Framed
from nerfgen.train.loop import to_device
from nerfgen.train.loss import training_losses
from nerfgen.train.preset import Preset
from nerfgen.train.step import Pixels, draw_pixels
from nerfgen.volume import render_rays, widened

_RATE = 3e-2
_PRIOR = 1e-2
_RAYS = 256


@dataclass(frozen=True)
class Fitted:
    """Codes of photographs.

    Attributes:
        latents: one code per photograph; the table's mean where the fit failed.
        converged: whether the fit stayed finite and made the loss smaller.
    """

    latents: Float[np.ndarray, "images latent"]
    converged: Bool[np.ndarray, "images"]


def fit_latents(
    model: Model, framed: Framed, *, steps: int = 100, seed: int = 0, progress: Progress = silent
) -> Fitted:
    """Optimise a new code per photograph, from the table's mean, with the losses of training and a prior.

    All photographs are fitted at once. The prior is Gaussian with the table's variances: it costs
    ``1e-2`` times the mean squared number of standard deviations.
    """
    preset = Preset(**model.preset)
    pixels = to_device(framed)
    mean = jnp.asarray(model.latents.mean(0))
    deviation = jnp.asarray(model.latents.std(0) + 1e-6)
    field = jax.tree.map(jnp.asarray, model.parameters)
    occupancy = widened(jnp.asarray(model.occupancy))
    codes = jnp.tile(mean, (len(framed.images), 1))
    adam = optax.adam(_RATE)
    state = adam.init(codes)
    key = jax.random.key(seed)
    history = []
    for step in range(steps):
        codes, state, losses = _fit_step(
            model.config, preset, adam, field, occupancy, mean, deviation, pixels, codes, state, jax.random.fold_in(key, step)
        )
        history.append(losses)
        progress(step + 1, steps)
    losses = np.asarray(jnp.stack(history))
    latents = np.asarray(codes)
    tenth = max(1, steps // 10)
    converged = np.isfinite(latents).all(-1) & (losses[-tenth:].mean(0) <= losses[:tenth].mean(0) + 1e-6)
    return Fitted(np.where(converged[:, None], latents, np.asarray(mean)), converged)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _fit_step(
    config: Any,
    preset: Preset,
    adam: optax.GradientTransformation,
    field: Any,
    occupancy: Array,
    mean: Array,
    deviation: Array,
    pixels: Pixels,
    codes: Array,
    state: Any,
    key: Array,
) -> tuple[Array, Any, Array]:
    network = GenerativeField(config)
    variables = {"params": field}
    pixel_key, sample_key = jax.random.split(key)
    images = jnp.arange(codes.shape[0])
    chosen = draw_pixels(pixel_key, pixels, images, _RAYS, preset.foreground_share)
    size = pixels.rgb.shape[1]
    rows, columns = chosen // size, chosen % size
    target = pixels.rgb[images[:, None], rows, columns] / 255.0
    mask = pixels.mask[images[:, None], rows, columns] / 255.0
    centers = jnp.stack([columns, rows], axis=-1) + 0.5
    origins, directions = pixel_rays(centers, pixels.intrinsics, pixels.cam_to_world)

    def loss(codes: Array) -> tuple[Array, Array]:
        condition = network.apply(variables, codes, method="condition")
        rays = render_rays(
            lambda points: network.apply(variables, condition, points, method="foreground"),
            origins,
            directions,
            half=config.bounds,
            count=preset.samples,
            occupancy=occupancy if preset.sampler == "guided" else None,
            key=sample_key,
        )
        background = network.apply(variables, codes, directions, method="background")
        terms = jax.vmap(training_losses)(rays, background, target, mask)
        each = terms["rgb"] + preset.lambda_mask * terms["mask"] + preset.lambda_hard * terms["hard"]
        prior = _PRIOR * jnp.mean(((codes - mean) / deviation) ** 2, axis=-1)
        return jnp.sum(each + prior), each

    gradient, each = jax.grad(loss, has_aux=True)(codes)
    updates, state = adam.update(gradient, state)
    return optax.apply_updates(codes, updates), state, each
