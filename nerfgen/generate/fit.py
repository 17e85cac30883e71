"""Latent fitting: codes for photographs that are not in the table, with the network fixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from nerfgen.field import FieldConfig, Model
from nerfgen.geometry import pixel_rays
from nerfgen.parallel import Progress, silent
from nerfgen.scene import see
from nerfgen.train.batch import Pixels, take
from nerfgen.train.data import Framed
from nerfgen.train.loss import training_losses
from nerfgen.train.preset import Preset
from nerfgen.train.source import framed_pixels
from nerfgen.train.step import corrected_cameras
from nerfgen.volume import widened

_RATE = 3e-2
_CAMERA_RATE = 5e-3
_PRIOR = 1e-2
_RAYS = 256


@dataclass(frozen=True)
class Fitted:
    """Codes of photographs.

    Attributes:
        latents: one code per photograph; the table's mean where the fit failed.
        cam_to_world: cameras, refined together with the codes where the model's own cameras were.
        psnr: of the reconstruction, dB, over the drawn pixels of the last steps.
        converged: whether the fit stayed finite and made the loss smaller.
    """

    latents: Float[np.ndarray, "images latent"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    psnr: Float[np.ndarray, "images"]
    converged: Bool[np.ndarray, "images"]


def fit_latents(
    model: Model, framed: Framed, *, steps: int = 150, seed: int = 0, progress: Progress = silent
) -> Fitted:
    """Optimise a new code per photograph, from the table's mean, with the losses of training and a prior.

    All photographs are fitted at once; where the model was trained with camera refinement, so are small
    corrections of their cameras. The prior is Gaussian with the table's variances: it costs ``1e-2`` times
    the mean squared number of standard deviations.
    """
    preset = Preset(**model.preset)
    pixels = framed_pixels(framed)
    mean = jnp.asarray(model.latents.mean(0))
    count = len(framed.images)
    unknown = {"latents": jnp.tile(mean, (count, 1)), "cameras": jnp.zeros((count, 6))}
    fixed = _Fixed(
        field=jax.tree.map(jnp.asarray, model.parameters),
        occupancy=widened(jnp.asarray(model.occupancy)),
        mean=mean,
        deviation=jnp.asarray(model.latents.std(0) + 1e-6),
        pixels=pixels,
    )
    adam = optax.scale_by_adam()
    moments = adam.init(unknown)
    key = jax.random.key(seed)
    history = []
    for step in range(steps):
        unknown, moments, losses = _fit_step(
            model.config, preset, fixed, unknown, moments, jax.random.fold_in(key, step)
        )
        history.append(losses)
        progress(step + 1, steps)
    losses = np.asarray(jnp.stack(history))
    tenth = max(1, steps // 10)
    latents = np.asarray(unknown["latents"])
    poses = np.asarray(_poses(pixels, unknown["cameras"]), np.float64)
    finite = np.isfinite(latents).all(-1) & np.isfinite(poses).all((1, 2))
    converged = finite & (losses[-tenth:, :, 0].mean(0) <= losses[:tenth, :, 0].mean(0) + 1e-6)
    return Fitted(
        latents=np.where(converged[:, None], latents, np.asarray(mean)),
        cam_to_world=np.where(converged[:, None, None], poses, framed.cam_to_world),
        psnr=-10 * np.log10(np.maximum(losses[-tenth:, :, 1].mean(0) / 3, 1e-12)),
        converged=converged,
    )


class _Fixed(NamedTuple):
    """What the fit does not change."""

    field: Any
    occupancy: Array
    mean: Array
    deviation: Array
    pixels: Pixels


def _poses(pixels: Pixels, corrections: Array) -> Array:
    return corrected_cameras(pixels.cam_to_world, corrections, jnp.zeros(6))


@partial(jax.jit, static_argnums=(0, 1))
def _fit_step(
    config: FieldConfig, preset: Preset, fixed: _Fixed, unknown: dict[str, Array], moments: Any, key: Array
) -> tuple[dict[str, Array], Any, Array]:
    """One step of Adam on all codes and cameras; also (loss, L_rgb) of each photograph."""
    pixels = fixed.pixels
    pixel_key, sample_key = jax.random.split(key)
    images = jnp.arange(len(pixels.valid))
    places = jax.random.uniform(pixel_key, (len(images), _RAYS))
    batch = take(pixels, images, places, preset.foreground_share)
    target = batch.rgb_mask / 255.0

    def loss(unknown: dict[str, Array]) -> tuple[Array, Array]:
        codes = unknown["latents"]
        origins, directions = pixel_rays(batch.centers, pixels.intrinsics, _poses(pixels, unknown["cameras"]))
        rays, background = see(
            config,
            fixed.field,
            codes,
            origins,
            directions,
            samples=preset.samples,
            occupancy=fixed.occupancy if preset.sampler == "guided" else None,
            key=sample_key,
        )
        terms = jax.vmap(training_losses)(rays, background, target[..., :3], target[..., 3])
        each = terms["rgb"] + preset.lambda_mask * terms["mask"] + preset.lambda_hard * terms["hard"]
        prior = _PRIOR * jnp.mean(((codes - fixed.mean) / fixed.deviation) ** 2, axis=-1)
        return jnp.sum(each + prior), jnp.stack([each, terms["rgb"]], axis=-1)

    gradient, losses = jax.grad(loss, has_aux=True)(unknown)
    moves, moments = optax.scale_by_adam().update(gradient, moments)
    rates = {"latents": _RATE, "cameras": min(preset.camera_learning_rate, _CAMERA_RATE)}
    unknown = {name: unknown[name] - rates[name] * move for name, move in moves.items()}
    return unknown, moments, losses
