"""Everything that training changes, and where each part of it lies on a mesh of devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.data import BaseModel, TableRows
from nerfgen.field import GenerativeField
from nerfgen.model import Model, Recipe
from nerfgen.optimize import AXIS, RowSparseAdamState, place, row_sparse_adam
from nerfgen.train.adversarial import Adversary, LatentDraws, initial_adversary, latent_draws
from nerfgen.train.quantisation import (
    Codebook,
    initial_codebook,
    known_codebook,
    quantise,
)
from nerfgen.volume import dilate, visual_hull

OCCUPANCY_SIZE = 40
ADAM_B1 = 0.9
# Folded into the seed for the initial state; steps fold in their numbers, which are smaller.
_INITIAL = 0x696E6974
# Folded into the key of the networks for the discriminator.
_DISCRIMINATOR = 1

LOSSES = (
    *("loss", "rgb", "mask", "hard", "smooth", "opaque", "camera", "perceptual"),
    *("adversarial", "discriminator", "real", "fake", "commitment", "perplexity"),
)
# What a step reports: losses (`real` and `fake`: the discriminator's mean probabilities that images and views are
# images; `perplexity`: how many entries of a codebook are used), then norms of the gradient and of the latent codes.
TERMS = (*LOSSES, "gradient_norm", "latent_norm")

Parameters = dict[str, PyTree]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that training changes.

    Attributes:
        networks: ``field``, and ``log_focal``, the logarithm of the factor that all focal lengths share.
        network_moments: Adam's, of the networks.
        average: moving average of the networks' ``field``; None where the recipe has none.
        adversary: of adversarial fine-tuning; None without it.
        codebook: of vector-quantised codes; None for continuous ones.
        latents: the table Z.
        latent_moments: Adam's, of its rows.
        cameras: corrections of the cameras, six numbers each (:func:`nerfgen.geometry.corrected_cameras`).
        camera_moments: Adam's, of the corrections.
        camera_sum: sum of all corrections.
        occupancy: class-shared grid.
        sampling_occupancy: the same, dilated; samples are placed by it.
        totals: sums of ``TERMS`` since they were last reported.
        step: steps done.
    """

    networks: Parameters
    network_moments: optax.OptState
    average: dict[str, PyTree] | None
    adversary: Adversary | None
    codebook: Codebook | None
    latents: Float[Array, "rows latent"]
    latent_moments: RowSparseAdamState
    cameras: Float[Array, "images 6"]
    camera_moments: RowSparseAdamState
    camera_sum: Float[Array, "6"]
    occupancy: Float[Array, "grid grid grid"]
    sampling_occupancy: Float[Array, "grid grid grid"]
    totals: Float[Array, "terms"]
    step: Int[Array, ""]


# Tables are divided by rows; all else is on every device.
STATE_SPECS = TrainState(P(), P(), P(), P(), P(), P(AXIS), P(AXIS), P(AXIS), P(AXIS), P(), P(), P(), P(), P())  # type: ignore[arg-type]


def state_formats(mesh: Mesh) -> Any:
    """Where each part of a :class:`TrainState` lies on a mesh of devices, and in which order.

    The numbers of a table's row are neighbours. A TPU would otherwise order a table as takes the least memory, and a
    step would copy it twice, in whole.
    """
    formats: Any = jax.tree.map(lambda spec: NamedSharding(mesh, spec), STATE_SPECS)
    table: Any = Format(Layout(major_to_minor=(0, 1)), NamedSharding(mesh, P(AXIS)))
    moments = RowSparseAdamState(table, table, formats.latents)
    return dataclasses.replace(
        formats, latents=table, latent_moments=moments, cameras=table, camera_moments=moments
    )


def state_placement(shapes: TrainState, mesh: Mesh) -> TrainState:
    """Shapes, types and places of a state on the devices of a mesh.

    Args:
        shapes: those of a state without padding.
    """

    def pad(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(array) + -len(array) % mesh.size, *array.shape[1:]), array.dtype)

    def placed(place: Any, part: PyTree) -> PyTree:
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place), part
        )

    formats, padded = state_formats(mesh), _map_tables(shapes, pad, pad)
    return jax.tree.map(
        placed, formats, padded, is_leaf=lambda place: isinstance(place, Format | NamedSharding)
    )


def initial_keys(seed: int) -> tuple[Array, Array]:
    """Random keys of the networks and of the table. No step has them (:func:`nerfgen.train.step.step_keys`)."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), _INITIAL))
    return keys[0], keys[1]


def network_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Adam without its rate, which decays with the fraction of the run."""
    return optax.scale_by_adam(b1=ADAM_B1, b2=recipe.adam_b2)


def table_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Adam on the rows of the latent codes and of the cameras."""
    return row_sparse_adam(ADAM_B1, recipe.adam_b2)


def initial_state(
    recipe: Recipe,
    bounds: tuple[float, float, float],
    rows: TableRows,
    seed: int,
    occupancy: Float[np.ndarray, "grid grid grid"],
    base: BaseModel | None = None,
    mesh: Mesh | None = None,
    start: Model | None = None,
) -> TrainState:
    """Networks and table drawn from ``seed``, and the initial occupancy.

    With ``base``, the networks are the model's; its rows come before the new ones, which start about their mean.
    Its renderings have cameras too, after those of the images. With ``start``, networks and rows are the model's.

    Args:
        mesh: devices for the state, each of which draws its own rows; tables are padded as :func:`shard_state` does.
            None for a state on one device, without padding.
    """
    config = recipe.field_config(bounds)
    model = GenerativeField(config)
    new_rows, num_base = len(rows.first_image), rows.num_base
    padded = (lambda count: count + -count % mesh.size) if mesh else (lambda count: count)

    @partial(jax.jit, out_shardings=state_formats(mesh) if mesh else None)
    def initialise(
        occupancy: Array,
        base_parameters: Parameters | None,
        base_latents: Array | None,
        mean_latent: Array,
        draws: LatentDraws | None,
        codebook: Array | None,
    ) -> TrainState:
        network_key, table_key = initial_keys(seed)
        point = jnp.zeros((1, 1, 3))
        # A number depends on its place in the table alone, so that padding and dividing it change none.
        drawn = new_rows if base_latents is not None else padded(new_rows)
        latents = recipe.latent_std * jax.random.normal(table_key, (drawn, config.code_size))
        latents = latents * (jnp.arange(config.code_size) < recipe.latent_size)[None]
        if base_parameters is None or base_latents is None:
            field = model.init(network_key, jnp.zeros((1, config.code_size)), point, point)["params"]
            if drawn > new_rows:
                latents = jnp.where((jnp.arange(drawn) < new_rows)[:, None], latents, 0.0)
        elif start:
            field, latents = base_parameters, base_latents
        else:
            field = base_parameters
            latents = jax.lax.dynamic_update_slice(base_latents, mean_latent[None] + latents, (num_base, 0))
        networks = {"field": field, "log_focal": jnp.zeros(())}
        cameras = jnp.zeros((padded(rows.num_images), 6))
        moments = network_optimizer(recipe).init(networks)
        average = networks["field"] if recipe.average_decay > 0 else None
        adversary = None
        if draws is not None:
            key = jax.random.fold_in(network_key, _DISCRIMINATOR)
            adversary = initial_adversary(key, networks, moments, average, draws)
        return TrainState(
            networks=networks,
            network_moments=moments,
            average=average,
            adversary=adversary,
            codebook=initial_codebook(recipe) if codebook is None else known_codebook(codebook),
            latents=latents,
            latent_moments=table_optimizer(recipe).init(latents),
            cameras=cameras,
            camera_moments=table_optimizer(recipe).init(cameras),
            camera_sum=jnp.zeros(6),
            occupancy=occupancy,
            sampling_occupancy=dilate(occupancy),
            totals=jnp.zeros(len(TERMS)),
            step=jnp.zeros((), jnp.int32),
        )

    parameters, table, mean = None, None, np.zeros(config.code_size, np.float32)
    if base:
        parameters, mean = base.model.parameters, base.model.latents.mean(axis=0)
        # Room for the new rows, which are few.
        room = padded(rows.count) - num_base
        table = np.pad(base.model.latents, [(0, room), (0, 0)])
    if start:
        parameters, table = start.parameters, start.latents
        table = np.pad(table, [(0, padded(rows.count) - rows.count), (0, 0)])
    known = base.model if base else start
    codebook = known.codebook if known else None
    draws = None
    if recipe.lambda_adversarial > 0:
        draws = latent_draws(recipe, start.principal if start else None)
    if mesh:
        everywhere = occupancy, parameters, mean, draws, codebook
        occupancy, parameters, mean, draws, codebook = place(everywhere, mesh, P())
        table = place(table, mesh, P(AXIS))
    return initialise(occupancy, parameters, table, mean, draws, codebook)


def with_first_columns(
    state: TrainState,
    values: Callable[[int, int], Float[np.ndarray, "some columns"]],
    columns: int,
    mesh: Mesh,
) -> TrainState:
    """The state with other numbers in the first columns of the latent table.

    Args:
        state: on the devices of ``mesh``.
        values: gives those of the rows from one number up to another; only those that this host's devices hold are
            asked for, and rows of padding among them are to be zeros.
    """
    shape, format_ = (len(state.latents), columns), state_formats(mesh).latents

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        start, stop, _ = (index or [slice(None)])[0].indices(shape[0])
        return values(start, stop)

    change = jax.jit(
        lambda latents, first: latents.at[:, :columns].set(first), donate_argnums=0, out_shardings=format_
    )
    first = jax.make_array_from_callback(shape, format_.sharding, part)
    return dataclasses.replace(state, latents=change(state.latents, first))


def initial_occupancy(
    masks: np.ndarray, intrinsics: np.ndarray, cam_to_world: np.ndarray, bounds: tuple[float, float, float]
) -> Float[np.ndarray, "grid grid grid"]:
    """The soft visual hull of some masks (images, size, size)."""
    carve = jax.jit(visual_hull, static_argnums=(3, 4))
    cameras = (jnp.asarray(array, jnp.float32) for array in (intrinsics, cam_to_world))
    return np.asarray(carve(jnp.asarray(masks), *cameras, OCCUPANCY_SIZE, bounds))


def shard_state(state: TrainState, mesh: Mesh) -> TrainState:
    """A state (of any arrays) on the devices of a mesh; tables are padded to a multiple of their number."""

    def pad(array: Any) -> Any:
        missing = -len(array) % mesh.size
        return np.pad(np.asarray(array), [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array

    state = _map_tables(state, pad, pad)
    return in_format(jax.tree.map(lambda spec, part: place(part, mesh, spec), STATE_SPECS, state), mesh)


def in_format(state: TrainState, mesh: Mesh) -> TrainState:
    """A state on the devices of a mesh, ordered as :func:`state_formats` says."""
    formatted: TrainState = jax.device_put(state, state_formats(mesh))
    return formatted


def unshard_state(state: TrainState, rows: TableRows) -> TrainState:
    """A state as numpy arrays, without the padding of its tables."""
    state = jax.tree.map(np.asarray, state)
    return _map_tables(state, lambda array: array[: rows.count], lambda array: array[: rows.num_images])


def learned_field(state: TrainState) -> dict[str, PyTree]:
    """Parameters of the field as a model has them: the moving average, if there is one."""
    return state.networks["field"] if state.average is None else state.average


def moving_average(average: PyTree, values: PyTree, decay: float, step: int | Int[Array, ""]) -> PyTree:
    """The exponential moving average of a tree after one more step.

    Args:
        decay: per step, in [0, 1); at first smaller, (1 + step) / (10 + step), so that the initial values do not
            linger.
        step: number of the step, from 0.
    """
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: new + kept * (old - new), average, values)


def without_totals(state: TrainState) -> TrainState:
    """The state with the totals set to zero."""
    zeros = np.zeros(len(TERMS), np.float32)
    placed = jax.make_array_from_callback(zeros.shape, state.totals.sharding, lambda index: zeros)
    return dataclasses.replace(state, totals=placed)


def used_latents(
    state: TrainState, recipe: Recipe, latents: Float[Array, "rows latent"], fraction: Float[Array, ""]
) -> Float[Array, "rows latent"]:
    """Rows of the table as the networks see them at a fraction of the run: quantised, and the active dimensions."""
    if state.codebook is not None:
        latents = quantise(state.codebook, recipe, latents, fraction).latents
    return active_latents(latents, recipe, fraction)


def active_latents(
    latents: Float[Array, "*rows latent"], recipe: Recipe, fraction: float | np.floating | Float[Array, ""]
) -> Float[Array, "*rows latent"]:
    """Latent codes as they are used at a fraction of the run.

    While the cameras are refined, only the first ``pose_latent_size`` dimensions; the others fade in afterwards.
    """
    if recipe.camera_learning_rate <= 0 or recipe.pose_fraction <= 0:
        return latents
    fade = jnp.clip((fraction - recipe.pose_fraction) / recipe.pose_fade, 0.0, 1.0)
    weights = jnp.where(jnp.arange(latents.shape[-1]) < recipe.pose_latent_size, 1.0, fade)
    return latents * jnp.expand_dims(weights, range(latents.ndim - 1))


def _map_tables(state: TrainState, of_rows: Any, of_images: Any) -> TrainState:
    """The state with a function applied to the arrays that have an entry for each row, and for each image."""
    tables = {
        "latents": of_rows,
        "latent_moments": of_rows,
        "cameras": of_images,
        "camera_moments": of_images,
    }
    changed = {name: jax.tree.map(function, getattr(state, name)) for name, function in tables.items()}
    return dataclasses.replace(state, **changed)
