"""How far what a model shows of a photograph's object is from the photograph: as a loss, and as PSNR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from nerfgen.field import FieldConfig, Model
from nerfgen.generate.views import render_views
from nerfgen.geometry import pixel_rays
from nerfgen.scene import see
from nerfgen.train.batch import Pixels, take
from nerfgen.train.data import Framed
from nerfgen.train.loss import training_losses
from nerfgen.train.preset import Preset
from nerfgen.volume import widened

# Rays of a photograph a step: more of them cost time and bring nothing that more steps do not.
RAYS = 64
# Samples that photographs are asked for together. It bounds the memory of a step, and larger batches are no faster.
_SAMPLES_TOGETHER = 1 << 16
_PICTURES_TOGETHER = 64
# For the compiler: what this leaves out takes half of its time, longer than fitting one photograph, and speeds up
# nothing here.
COMPILED_QUICKLY = {"xla_llvm_disable_expensive_passes": True}


ADAM = optax.scale_by_adam(b2=0.99)
_STEPS_AT_A_TIME = 10


def pauses(steps: int) -> list[int]:
    """Numbers of steps after which progress is told: every ten, and the last."""
    return [*range(_STEPS_AT_A_TIME, steps, _STEPS_AT_A_TIME), steps]


class Network(NamedTuple):
    """A trained model on the device, as photographs are fitted to it.

    Attributes:
        field: parameters.
        guide: occupancy that guides samples; None where they are spread evenly.
    """

    field: dict[str, Any]
    guide: Float[Array, "grid grid grid"] | None


def network_of(model: Model) -> Network:
    """The networks of a model."""
    guided = Preset(**model.preset).sampler == "guided"
    return Network(
        jax.tree.map(jnp.asarray, model.parameters),
        widened(jnp.asarray(model.occupancy)) if guided else None,
    )


class Some(NamedTuple):
    """Photographs that are taken together.

    Attributes:
        places: theirs among all, the last repeated where there are too few.
        real: how many there are without repetition.
    """

    places: Int[np.ndarray, "together"]
    real: int


def together(chosen: Int[np.ndarray, "photographs"], count: int, preset: Preset, rays: int) -> Iterator[Some]:
    """Some of ``count`` photographs in groups of one size, so that one shape is compiled whichever are chosen, and
    memory does not grow with their number.

    Args:
        rays: of each photograph.
    """
    most = max(1, _SAMPLES_TOGETHER // (rays * preset.samples))
    groups = -(-count // most)
    size = -(-count // max(groups, 1))
    for start in range(0, len(chosen), max(size, 1)):
        some = chosen[start : start + size]
        yield Some(np.concatenate([some, np.repeat(some[-1:], size - len(some))]), len(some))


def photograph_losses(
    config: FieldConfig,
    preset: Preset,
    network: Network,
    latents: Float[Array, "images latent"],
    cam_to_world: Float[Array, "images 4 4"],
    pixels: Pixels,
    key: Array,
) -> Float[Array, "images"]:
    """The training loss of each photograph over some of its pixels.

    All photographs are given the same random numbers, so that what becomes of one does not hang on the others.
    """
    place_key, sample_key = jax.random.split(key)
    count = len(latents)
    places = jnp.broadcast_to(jax.random.uniform(place_key, (RAYS,)), (count, RAYS))
    batch = take(pixels, jnp.arange(count), places, preset.foreground_share)
    origins, directions = pixel_rays(batch.centers, pixels.intrinsics, cam_to_world)
    rays, background = see(
        config,
        network.field,
        latents,
        origins,
        directions,
        samples=preset.samples,
        occupancy=network.guide,
        key=jnp.broadcast_to(sample_key, (count,)),
    )
    target = batch.rgb_mask / 255.0
    terms = jax.vmap(training_losses)(rays, background, target[..., :3], target[..., 3])
    return terms["rgb"] + preset.lambda_mask * terms["mask"] + preset.lambda_hard * terms["hard"]


def reconstruction_psnr(
    model: Model,
    framed: Framed,
    latents: Float[np.ndarray, "images latent"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    tuned: Mapping[int, dict[str, Any]] | None = None,
) -> Float[np.ndarray, "images"]:
    """PSNR (dB) of every framed photograph as its code shows it from its camera, over all pixels of the photograph.

    Args:
        tuned: what is added to the networks' parameters for a photograph, by its place.
    """
    tuned = tuned or {}
    plain = np.array([place for place in range(len(latents)) if place not in tuned], dtype=int)
    groups = [plain[start : start + _PICTURES_TOGETHER] for start in range(0, len(plain), _PICTURES_TOGETHER)]
    found = np.zeros(len(latents))
    for some in [*groups, *(np.array([place]) for place in sorted(tuned))]:
        part = framed.some(some)
        views = render_views(
            model.tuned(tuned.get(int(some[0]))),
            latents[some],
            part.raster_intrinsics,
            cam_to_world[some],
            model.size,
        )
        squared = np.square((views.rgb.astype(np.float64) - part.rgb) / 255.0).mean(-1)
        error = (squared * part.valid).sum((1, 2)) / part.valid.sum((1, 2))
        found[some] = -10 * np.log10(np.maximum(error, 1e-12))
    return found
