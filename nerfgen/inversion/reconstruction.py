"""The difference between an image and its reconstruction: as a loss, and as PSNR."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.data import FramedImages, PixelTable, gather_batch
from nerfgen.field import FieldConfig, render_rays
from nerfgen.geometry import pixel_rays
from nerfgen.model import Model, Recipe
from nerfgen.optimize import Clock, Limits, run_loop
from nerfgen.parallel import Progress
from nerfgen.render import render_views
from nerfgen.volume import dilate, training_losses

# Rays per image in a step. More steps are worth more than more rays.
RAYS = 64
# The fractional part of the golden ratio, in units of 2^-32.
_GOLDEN = np.uint32(2654435769)
# Samples in one step of a batch of images. It bounds the memory; larger batches are no faster.
_SAMPLES_PER_STEP = 1 << 16
_IMAGES_PER_RENDERING = 64
ADAM = optax.scale_by_adam(b2=0.99)
# Steps of one compiled call; progress is reported after each.
_STEPS_PER_CALL = 10

Search = TypeVar("Search")


class Network(NamedTuple):
    """A trained model on the device.

    Attributes:
        field: parameters.
        guide: occupancy that guides sample placement; None for stratified samples.
    """

    field: dict[str, PyTree]
    guide: Float[Array, "grid grid grid"] | None


def device_network(model: Model) -> Network:
    """The networks of a model on the device."""
    guided = model.recipe.sampler == "occupancy"
    return Network(
        model.device_parameters,
        dilate(jnp.asarray(model.occupancy)) if guided else None,
    )


class ImageBatch(NamedTuple):
    """Images that are fitted at the same time.

    Attributes:
        images: indices; the last one is repeated to fill the batch.
        num_images: their number without repetition.
    """

    images: Int[np.ndarray, "batch"]
    num_images: int


def image_batches(
    chosen: Int[np.ndarray, "chosen"], count: int, recipe: Recipe, rays: int
) -> Iterator[ImageBatch]:
    """Images in batches of one size, which depends on ``count`` alone: one shape is compiled whichever are chosen.

    Args:
        chosen: indices of images.
        count: number of all images.
        rays: per image in a step.
    """
    maximum = max(1, _SAMPLES_PER_STEP // (rays * recipe.samples))
    batches = -(-count // maximum)
    size = -(-count // max(batches, 1))
    for start in range(0, len(chosen), max(size, 1)):
        part = chosen[start : start + size]
        yield ImageBatch(np.concatenate([part, np.repeat(part[-1:], size - len(part))]), len(part))


class BatchOf(NamedTuple):
    """Which batch of how many is optimised, and what progress says of it."""

    number: int
    batches: int
    message: str


def optimise_batch(
    advance: Callable[[Search, int], Search], search: Search, steps: int, part: BatchOf, progress: Progress
) -> Search:
    """The state of a batch's optimisation after ``steps`` steps.

    Args:
        advance: returns the state at the given step.
    """
    clock = Clock(Limits(steps))

    def report(search: Search) -> Search:
        progress(part.number * steps + clock.done, part.batches * steps, part.message)
        return search

    return run_loop(
        lambda search, step, until, fraction: jax.block_until_ready(advance(search, until)),
        search,
        clock,
        report_every=_STEPS_PER_CALL,
        steps_per_call=_STEPS_PER_CALL,
        report=report,
    )


def image_losses(
    config: FieldConfig,
    recipe: Recipe,
    network: Network,
    latents: Float[Array, "images latent"],
    cam_to_world: Float[Array, "images 4 4"],
    pixels: PixelTable,
    key: Array,
    step: Int[Array, ""],
) -> Float[Array, "images"]:
    """The training loss of each image over a sample of its pixels.

    All images share the random numbers, so that the result of one is independent of the rest of the batch.

    Args:
        key: random key of the whole fit.
        step: number of the step.
    """
    pixel_key, sample_key = jax.random.split(key)
    sample_key = jax.random.fold_in(sample_key, step)
    count = len(latents)
    places = jnp.broadcast_to(_pixel_places(recipe.foreground_fraction, pixel_key, step), (count, RAYS))
    batch = gather_batch(pixels, jnp.arange(count), places, recipe.foreground_fraction)
    origins, directions = pixel_rays(batch.centers, pixels.intrinsics, cam_to_world)
    rays, background = render_rays(
        config,
        network.field,
        latents,
        origins,
        directions,
        samples=recipe.samples,
        occupancy=network.guide,
        key=jnp.broadcast_to(sample_key, (count,)),
    )
    target = batch.rgb_mask / 255.0
    losses = partial(training_losses, mask_margin=recipe.mask_margin)
    return recipe.ray_loss(jax.vmap(losses)(rays, background, target[..., :3], target[..., 3]))


def _pixel_places(foreground_fraction: float, key: Array, step: Int[Array, ""]) -> Float[Array, "rays"]:
    """Which of an image's pixels the rays of a step go through, as :func:`gather_batch` takes them.

    The rays inside the mask, and the others, continue a Kronecker sequence (multiples of the golden ratio, modulo 1)
    from a random start: at any step, a fit has seen all pixels about equally often.
    """
    inside = round(RAYS * foreground_fraction)
    starts = jax.random.bits(key, (2,), jnp.uint32)
    parts = [
        # Unsigned integers wrap around, which keeps all digits of the fractional part.
        start + (step.astype(jnp.uint32) * number + jnp.arange(number, dtype=jnp.uint32)) * _GOLDEN
        for start, number in zip(starts, (inside, RAYS - inside), strict=True)
    ]
    return (jnp.concatenate(parts) >> 8) / jnp.float32(1 << 24)


def reconstruction_psnr(
    model: Model,
    framed: FramedImages,
    latents: Float[np.ndarray, "images latent"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    tuned: Mapping[int, dict[str, PyTree]] | None = None,
) -> Float[np.ndarray, "images"]:
    """PSNR (dB) of the reconstruction of every framed image from its latent code and camera, over all its pixels.

    Args:
        tuned: change of the network parameters for an image, by its index.
    """
    tuned = tuned or {}
    plain = np.array([place for place in range(len(latents)) if place not in tuned], dtype=int)
    step = _IMAGES_PER_RENDERING
    groups = [plain[start : start + step] for start in range(0, len(plain), step)]
    psnr = np.zeros(len(latents))
    for index in [*groups, *(np.array([place]) for place in sorted(tuned))]:
        part = framed.subset(index)
        views = render_views(
            model.tuned(tuned.get(int(index[0]))),
            latents[index],
            part.raster_intrinsics,
            cam_to_world[index],
            model.size,
        )
        squared = np.square((views.rgb.astype(np.float64) - part.rgb) / 255.0).mean(-1)
        error = (squared * part.valid).sum((1, 2)) / part.valid.sum((1, 2))
        psnr[index] = -10 * np.log10(np.maximum(error, 1e-12))
    return psnr
