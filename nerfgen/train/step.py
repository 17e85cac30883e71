"""One step of the auto-decoder: draw rays, render, differentiate, update. A pure function of its state.

It is one program over a mesh of devices. The images of a batch are dealt out among them, networks and pixels are
on each, and every device holds a block of the tables' rows.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from nerfgen.field import GenerativeField, roughness
from nerfgen.geometry import pixel_rays, rigid, rotation_from_vector
from nerfgen.scene import foreground_of, see
from nerfgen.train.batch import Batch, Pixels, draw, take
from nerfgen.train.execution import keep_freed_memory, platform
from nerfgen.train.loss import training_losses
from nerfgen.train.preset import Preset
from nerfgen.train.rows import TableRows
from nerfgen.train.start import Start
from nerfgen.train.table import AXIS, Table, looked_up, new_table, stepped, touched_rows
from nerfgen.volume import refreshed, visual_hull, widened

OCCUPANCY_SIZE = 40
_OCCUPANCY_EVERY = 16
_OCCUPANCY_CODES = 8
_B1 = 0.9

LOSSES = ("loss", "rgb", "mask", "hard", "smooth")
TERMS = (*LOSSES, "gradient_norm", "latent_norm")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that training changes.

    Attributes:
        networks: ``field``, and ``log_focal``, the logarithm of the factor that all focal lengths share.
        moments: of Adam, for the networks.
        latents: the table Z.
        cameras: corrections of the cameras, six numbers each.
        camera_sum: sum of all corrections.
        occupancy: class-shared grid.
        guide: the same, widened, which guides the samples.
        step: steps done.
    """

    networks: dict[str, Any]
    moments: Any
    latents: Table
    cameras: Table
    camera_sum: Float[Array, "6"]
    occupancy: Float[Array, "grid grid grid"]
    guide: Float[Array, "grid grid grid"]
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


def with_focal(
    intrinsics: Float[Array, "images 3 3"], cam_to_world: Float[Array, "images 4 4"], factor: Float[Array, ""]
) -> tuple[Float[Array, "images 3 3"], Float[Array, "images 4 4"]]:
    """Focal lengths and distances from the world origin times ``factor``: perspective changes, size does not."""
    stretch = jnp.array([1.0, 1.0, 0.0])[:, None] * jnp.array([1.0, 1.0, 0.0])
    matrix = intrinsics * (1 + (factor - 1) * stretch * jnp.eye(3))
    away = jnp.zeros((4, 4)).at[:3, 3].set(1.0)
    return matrix, cam_to_world * (1 + (factor - 1) * away)


def active_latents(
    latents: Float[Array, "*rows latent"], preset: Preset, progress: Float[Array, ""]
) -> Array:
    """The codes as they are used: while the cameras are mended, only their first numbers; the rest fades in after."""
    if preset.camera_learning_rate <= 0 or preset.pose_share <= 0:
        return latents
    fade = jnp.clip((progress - preset.pose_share) / preset.pose_fade, 0.0, 1.0)
    return latents * jnp.where(jnp.arange(preset.latent_size) < preset.pose_latent_size, 1.0, fade)


def state_specs() -> State:
    """Where each part of a state lies on a mesh: tables by rows, all else on every device."""
    return State(P(), P(), P(AXIS), P(AXIS), P(), P(), P(), P())  # type: ignore[arg-type]


def placed(state: State, mesh: Mesh) -> State:
    """A state (of any arrays) on the devices of a mesh; tables grow by empty rows to a multiple of their number."""

    def grown(array: Any) -> Any:
        missing = -len(array) % mesh.size
        return np.pad(np.asarray(array), [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array

    tables = {name: jax.tree.map(grown, getattr(state, name)) for name in ("latents", "cameras")}
    state = dataclasses.replace(state, **tables)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_specs())
    return jax.device_put(state, shardings)


def no_totals(mesh: Mesh) -> Float[jax.Array, "terms"]:
    """Sums of the loss terms (``TERMS``) before any step, on the devices of a mesh."""
    return jax.device_put(np.zeros(len(TERMS), np.float32), NamedSharding(mesh, P()))


def initial_state(
    preset: Preset,
    bounds: tuple[float, float, float],
    rows: TableRows,
    seed: int,
    hull: Float[np.ndarray, "grid grid grid"],
    start: Start | None = None,
) -> State:
    """Networks and tables drawn from ``seed``, and the occupancy to begin with.

    With ``start``, networks and occupancy are the model's; its rows come before those of the images, which begin about
    their mean. Its pictures have cameras, after those of the images, that stay.
    """
    model = GenerativeField(preset.field_config(bounds))

    @jax.jit
    def initialise(occupancy: Array) -> State:
        network_key, table_key = jax.random.split(jax.random.key(seed))
        point = jnp.zeros((1, 1, 3))
        networks = {
            "field": model.init(network_key, jnp.zeros((1, preset.latent_size)), point, point)["params"],
            "log_focal": jnp.zeros(()),
        }
        latents = preset.latent_std * jax.random.normal(table_key, (len(rows.first), preset.latent_size))
        if start:
            networks["field"] = jax.tree.map(jnp.asarray, start.model.parameters)
            latents = jnp.concatenate([start.model.latents, start.model.latents.mean(axis=0) + latents])
            occupancy = jnp.asarray(start.model.occupancy)
        return State(
            networks=networks,
            moments=_adam(preset).init(networks),
            latents=new_table(latents),
            cameras=new_table(jnp.zeros((len(rows.of), 6))),
            camera_sum=jnp.zeros(6),
            occupancy=occupancy,
            guide=widened(occupancy),
            step=jnp.zeros((), jnp.int32),
        )

    return initialise(jnp.asarray(hull))


def hull_of(
    masks: np.ndarray, intrinsics: np.ndarray, cam_to_world: np.ndarray, bounds: tuple[float, float, float]
) -> Float[np.ndarray, "grid grid grid"]:
    """The occupancy to begin with: the soft visual hull of some masks (images, size, size)."""
    carve = jax.jit(visual_hull, static_argnums=(3, 4))
    cameras = (jnp.asarray(array, jnp.float32) for array in (intrinsics, cam_to_world))
    return np.asarray(carve(jnp.asarray(masks), *cameras, OCCUPANCY_SIZE, bounds))


def make_step(
    preset: Preset,
    bounds: tuple[float, float, float],
    table: TableRows,
    seed: int,
    mesh: Mesh,
    *,
    images_at_a_time: int,
    precision: str = "float32",
    rematerialise: bool = False,
    streamed: bool = False,
) -> Any:
    """The compiled step ``(state, totals, data, progress) -> (state, totals)``, which takes over the memory of
    ``state`` and ``totals``.

    ``totals`` are sums of ``TERMS`` over steps, to which this step's are added. ``data`` are all :class:`Pixels`, of
    which it draws its own batch or, if ``streamed``, a :class:`Batch`. ``progress`` in [0, 1] is the share of the run
    that is done: it sets the learning rates. The random numbers of a step depend on ``seed`` and its number only.

    On a CPU, the process keeps from now on what it frees (:func:`keep_freed_memory`).

    Args:
        table: row of every image. A former model's rows stay as they are, and so do the cameras of its pictures.
        images_at_a_time: images per device in one pass; passes are made one after the other, and their gradients
            added up, until the device's share of the batch is done.
    """
    config = preset.field_config(bounds)
    adam = _adam(preset)
    batch_size, rays_per_image = preset.images_per_batch, preset.rays_per_image
    own = batch_size // mesh.size
    passes = own // images_at_a_time
    num_images, goes_on = len(table.of), table.former > 0

    def losses(unknown: dict[str, Any], batch: Batch, guide: Array, keys: Array, progress: Array) -> Any:
        """The loss of one pass, as its share of the mean over the whole batch."""
        intrinsics, poses = batch.intrinsics, batch.cam_to_world
        if preset.camera_learning_rate > 0:
            poses = corrected_cameras(poses, unknown["cameras"], jnp.zeros(6))
        if preset.focal_learning_rate > 0:
            intrinsics, poses = with_focal(intrinsics, poses, jnp.exp(unknown["networks"]["log_focal"]))
        origins, directions = pixel_rays(batch.centers, intrinsics, poses)
        field, latents = unknown["networks"]["field"], active_latents(unknown["latents"], preset, progress)
        rays, background = see(
            config,
            field,
            latents,
            origins,
            directions,
            samples=preset.samples,
            occupancy=guide if preset.sampler == "guided" else None,
            key=keys,
            precision=precision,
            rematerialise=rematerialise,
        )
        target = batch.rgb_mask / 255.0
        terms = training_losses(rays, background, target[..., :3], target[..., 3])
        total = terms["rgb"] + preset.lambda_mask * terms["mask"] + preset.lambda_hard * terms["hard"]
        terms["smooth"] = jnp.zeros(())
        if config.kind == "planes":
            terms["smooth"] = roughness(field["foreground"]["planes"], latents, config.plane_size)
            # It grows with the run: smooth planes from the start would take features for errors of the cameras.
            total = total + preset.lambda_smooth * progress * terms["smooth"]
        share = 1.0 / (passes * mesh.size)
        values = jnp.stack([total, *(terms[name] for name in LOSSES[1:])])
        return share * total, share * values

    differentiate = jax.grad(losses, has_aux=True)

    def gradients(
        networks: dict[str, Any],
        each: dict[str, Array],
        batch: Batch,
        guide: Array,
        keys: Array,
        progress: Array,
    ) -> tuple[dict[str, Any], dict[str, Array], Array]:
        """Of the networks, summed over this device's passes; of codes and cameras, each; and the losses."""
        if passes == 1:
            gradient, terms = differentiate({"networks": networks, **each}, batch, guide, keys, progress)
            return gradient.pop("networks"), gradient, terms
        parts = jax.tree.map(
            lambda array: array.reshape(passes, images_at_a_time, *array.shape[1:]), (each, batch, keys)
        )

        def one_pass(sums: Any, part: Any) -> Any:
            some, its_batch, its_keys = part
            gradient, terms = differentiate(
                {"networks": networks, **some}, its_batch, guide, its_keys, progress
            )
            return jax.tree.map(jnp.add, sums, (gradient.pop("networks"), terms)), gradient

        zeros = (jax.tree.map(jnp.zeros_like, networks), jnp.zeros(len(LOSSES)))
        (summed, terms), gradient = jax.lax.scan(one_pass, zeros, parts)
        return summed, jax.tree.map(lambda array: array.reshape(own, *array.shape[2:]), gradient), terms

    def refresh(state: State, networks: dict[str, Any], latents: Table, key: Array, progress: Array) -> Any:
        row_key, cell_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (_OCCUPANCY_CODES,), 0, table.count)
        codes = active_latents(looked_up(latents, rows), preset, progress)
        foreground = foreground_of(config, networks["field"], codes, precision=precision)
        occupancy = refreshed(state.occupancy, foreground, cell_key, bounds, _OCCUPANCY_CODES)
        return occupancy, widened(occupancy)

    def step(state: State, totals: Array, data: Pixels | Batch, progress: Array) -> tuple[State, Array]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        sample_key, cell_key = jax.random.split(key)
        mine = partial(
            jax.lax.dynamic_slice_in_dim, start_index=jax.lax.axis_index(AXIS) * own, slice_size=own
        )
        if isinstance(data, Pixels):
            images, places = draw(seed, state.step, num_images, batch_size, rays_per_image, table.pictures)
            batch = take(data, mine(images), mine(places), preset.foreground_share)
        else:
            images, batch = jax.lax.all_gather(data.images, AXIS, tiled=True), data
        keys = mine(jax.random.split(sample_key, batch_size))
        rows = images if table.one_an_image else jnp.asarray(table.of)[images]
        codes, corrections = looked_up(state.latents, rows), looked_up(state.cameras, images)
        if not goes_on:  # else the former objects hold the world in its place
            corrections = corrections - state.camera_sum / num_images
        each = {"latents": mine(codes), "cameras": mine(corrections)}
        summed, gradient, terms = gradients(state.networks, each, batch, state.guide, keys, progress)
        summed, terms = jax.lax.psum((summed, terms), AXIS)
        gradient = jax.lax.all_gather(gradient, AXIS, tiled=True)
        if goes_on:
            gradient = jax.tree.map(lambda of: jnp.where((rows < table.former)[:, None], 0.0, of), gradient)

        rates = _rates(preset, progress)
        moves, moments = adam.update(summed, state.moments)
        networks = {
            name: jax.tree.map(lambda value, move, rate=rates[name]: value - rate * move, values, moves[name])
            for name, values in state.networks.items()
        }
        touched = touched_rows(state.latents, rows)
        latents, _ = stepped(
            state.latents, touched, gradient["latents"], rates["latents"], _B1, preset.adam_b2
        )
        cameras, camera_sum = state.cameras, state.camera_sum
        if preset.camera_learning_rate > 0:
            touched = touched if table.one_an_image else touched_rows(cameras, images)
            cameras, moved = stepped(
                cameras, touched, gradient["cameras"], rates["cameras"], _B1, preset.adam_b2
            )
            camera_sum = camera_sum + moved
        occupancy, guide = state.occupancy, state.guide
        if preset.sampler == "guided":
            occupancy, guide = jax.lax.cond(
                state.step % _OCCUPANCY_EVERY == _OCCUPANCY_EVERY - 1,
                lambda: refresh(state, networks, latents, cell_key, progress),
                lambda: (occupancy, guide),
            )
        norms = [_norm((summed, gradient)), jnp.mean(jnp.linalg.norm(codes, axis=-1))]
        after = State(networks, moments, latents, cameras, camera_sum, occupancy, guide, state.step + 1)
        return after, totals + jnp.concatenate([terms, jnp.stack(norms)])

    specs = state_specs()
    parallel = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(specs, P(), P(AXIS) if streamed else P(), P()),
        out_specs=(specs, P()),
        check_vma=False,
    )
    if platform(mesh) == "cpu":
        keep_freed_memory()
    return jax.jit(parallel, donate_argnums=(0, 1))


def _adam(preset: Preset) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=_B1, b2=preset.adam_b2)


def _norm(tree: Any) -> Array:
    return jnp.sqrt(sum(jnp.vdot(array, array) for array in jax.tree.leaves(tree)))


def _rates(preset: Preset, progress: Array) -> dict[str, Array]:
    decay = preset.final_rate**progress
    started = progress >= preset.camera_start
    return {
        "field": preset.learning_rate * decay,
        "log_focal": preset.focal_learning_rate * decay * started,
        "latents": preset.latent_learning_rate * decay,
        "cameras": preset.camera_learning_rate * decay * started,
    }
