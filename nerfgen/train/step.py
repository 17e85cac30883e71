"""One step of the auto-decoder: draw rays, render, differentiate, update. A pure function of its state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8, UInt16, UInt32

from nerfgen.field import GenerativeField
from nerfgen.geometry import pixel_rays, rigid, rotation_from_vector
from nerfgen.scene import foreground_of, see
from nerfgen.train.loss import training_losses
from nerfgen.train.preset import Preset
from nerfgen.volume import refreshed, visual_hull, widened

OCCUPANCY_SIZE = 40
_OCCUPANCY_EVERY = 16
_OCCUPANCY_CODES = 8
_HULL_IMAGES = 400
# Share of the run over which the rest of a code comes in.
_FADE = 0.1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixels:
    """The framed photographs on the device.

    Attributes:
        rgb, mask: rasters of all windows; a mask is probability times 255.
        order: pixel indices of each image, those inside the dilated mask first, then the other ones
            that lie on the photograph.
        inside: how many of them are inside the dilated mask.
        valid: how many there are in all.
        intrinsics, cam_to_world: cameras of the rasters.
    """

    rgb: UInt8[Array, "images size size 3"]
    mask: UInt8[Array, "images size size"]
    order: UInt16[Array, "images pixels"] | UInt32[Array, "images pixels"]
    inside: Int[Array, "images"]
    valid: Int[Array, "images"]
    intrinsics: Float[Array, "images 3 3"]
    cam_to_world: Float[Array, "images 4 4"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that training changes.

    Attributes:
        parameters: ``field`` (networks), ``latents`` (table Z) and ``cameras`` (corrections).
        moments: of Adam, for all parameters.
        occupancy: class-shared grid.
        step: steps done.
    """

    parameters: dict[str, Any]
    moments: Any
    occupancy: Float[Array, "grid grid grid"]
    step: Int[Array, ""]


def corrected_cameras(
    cam_to_world: Float[Array, "images 4 4"], corrections: Float[Array, "images 6"], mean: Float[Array, "6"]
) -> Float[Array, "images 4 4"]:
    """Cameras moved by their corrections: rotation about the world origin (radians), then translation.

    The ``mean`` of all corrections is taken off: moving all cameras together moves nothing in the pictures,
    and would only turn the world away from its frame.
    """
    free = corrections - mean
    return rigid(rotation_from_vector(free[..., :3]), free[..., 3:]) @ cam_to_world


def active_latents(
    latents: Float[Array, "*rows latent"], preset: Preset, progress: Float[Array, ""]
) -> Array:
    """The codes as they are used: while the cameras are mended, only their first numbers; the rest fades in after."""
    if preset.camera_learning_rate <= 0 or preset.pose_share <= 0:
        return latents
    fade = jnp.clip((progress - preset.pose_share) / _FADE, 0.0, 1.0)
    return latents * jnp.where(jnp.arange(preset.latent_size) < preset.pose_latent_size, 1.0, fade)


def initial_state(preset: Preset, bounds: tuple[float, float, float], pixels: Pixels, seed: int) -> State:
    """Fresh networks, table and occupancy, all drawn from ``seed``."""
    model = GenerativeField(preset.field_config(bounds))
    images = pixels.rgb.shape[0]
    every = max(1, images // _HULL_IMAGES)

    @jax.jit
    def initialise(masks: Array, intrinsics: Array, cam_to_world: Array) -> State:
        network_key, table_key = jax.random.split(jax.random.key(seed))
        point = jnp.zeros((1, 1, 3))
        parameters = {
            "field": model.init(network_key, jnp.zeros((1, preset.latent_size)), point, point)["params"],
            "latents": preset.latent_std * jax.random.normal(table_key, (images, preset.latent_size)),
            "cameras": jnp.zeros((images, 6)),
        }
        hull = visual_hull(masks, intrinsics, cam_to_world, OCCUPANCY_SIZE, bounds)
        return State(parameters, _adam(preset).init(parameters), hull, jnp.zeros((), jnp.int32))

    return initialise(pixels.mask[::every], pixels.intrinsics[::every], pixels.cam_to_world[::every])


def make_step(
    preset: Preset, bounds: tuple[float, float, float], seed: int
) -> Callable[..., tuple[State, dict]]:
    """The compiled step ``(state, pixels, progress) -> (state, loss terms)``.

    ``progress`` in [0, 1] is the share of the run that is done: it sets the learning rates. The random
    numbers of a step depend on ``seed`` and its number only.
    """
    config = preset.field_config(bounds)
    adam = _adam(preset)

    def losses(parameters: dict, pixels: Pixels, occupancy: Array, key: Array, progress: Array) -> Any:
        image_key, pixel_key, sample_key = jax.random.split(key, 3)
        batch = jax.random.randint(image_key, (preset.images_per_batch,), 0, pixels.rgb.shape[0])
        rows, columns, centers = draw_pixels(
            pixel_key, pixels, batch, preset.rays_per_image, preset.foreground_share
        )
        target = pixels.rgb[batch[:, None], rows, columns] / 255.0
        mask = pixels.mask[batch[:, None], rows, columns] / 255.0
        poses = pixels.cam_to_world[batch]
        if preset.camera_learning_rate > 0:
            corrections = parameters["cameras"]
            poses = corrected_cameras(poses, corrections[batch], corrections.mean(0))
        origins, directions = pixel_rays(centers, pixels.intrinsics[batch], poses)
        latents = active_latents(parameters["latents"][batch], preset, progress)
        rays, background = see(
            config,
            parameters["field"],
            latents,
            origins,
            directions,
            samples=preset.samples,
            occupancy=occupancy if preset.sampler == "guided" else None,
            key=sample_key,
        )
        terms = training_losses(rays, background, target, mask)
        total = terms["rgb"] + preset.lambda_mask * terms["mask"] + preset.lambda_hard * terms["hard"]
        return total, terms | {"loss": total}

    def refresh(parameters: dict, occupancy: Array, key: Array, progress: Array) -> Array:
        row_key, cell_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (_OCCUPANCY_CODES,), 0, parameters["latents"].shape[0])
        latents = active_latents(parameters["latents"][rows], preset, progress)
        foreground = foreground_of(config, parameters["field"], latents)
        return refreshed(occupancy, foreground, cell_key, bounds, _OCCUPANCY_CODES)

    @jax.jit
    def step(state: State, pixels: Pixels, progress: Float[Array, ""]) -> tuple[State, dict]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        ray_key, cell_key = jax.random.split(key)
        guide = widened(state.occupancy)
        gradient, terms = jax.grad(losses, has_aux=True)(state.parameters, pixels, guide, ray_key, progress)
        directions, moments = adam.update(gradient, state.moments)
        rates = _rates(preset, progress)
        parameters = {
            group: jax.tree.map(
                lambda value, move, rate=rates[group]: value - rate * move, values, directions[group]
            )
            for group, values in state.parameters.items()
        }
        occupancy = state.occupancy
        if preset.sampler == "guided":
            occupancy = jax.lax.cond(
                state.step % _OCCUPANCY_EVERY == _OCCUPANCY_EVERY - 1,
                lambda: refresh(parameters, occupancy, cell_key, progress),
                lambda: occupancy,
            )
        return State(parameters, moments, occupancy, state.step + 1), terms

    return step


def _adam(preset: Preset) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=0.9, b2=preset.adam_b2)


def _rates(preset: Preset, progress: Array) -> dict[str, Array]:
    decay = preset.final_rate**progress
    started = progress >= preset.camera_start
    return {
        "field": preset.learning_rate * decay,
        "latents": preset.latent_learning_rate * decay,
        "cameras": preset.camera_learning_rate * decay * started,
    }


def draw_pixels(
    key: Array, pixels: Pixels, batch: Int[Array, "images"], count: int, foreground_share: float
) -> tuple[Int[Array, "images rays"], Int[Array, "images rays"], Float[Array, "images rays 2"]]:
    """Rows, columns and centres (x, y) of ``count`` pixels of each image.

    The first ``foreground_share`` of them lie inside its dilated mask, the rest anywhere on the photograph.
    """
    inside, valid = pixels.inside[batch, None], pixels.valid[batch, None]
    aimed = (jnp.arange(count) < round(count * foreground_share)) & (inside > 0)
    limit = jnp.where(aimed, inside, valid)
    place = jnp.floor(jax.random.uniform(key, (len(batch), count)) * limit).astype(jnp.int32)
    chosen = pixels.order[batch[:, None], jnp.minimum(place, limit - 1)].astype(jnp.int32)
    rows, columns = jnp.divmod(chosen, pixels.rgb.shape[1])
    return rows, columns, jnp.stack([columns, rows], axis=-1) + 0.5
