"""One step of training both networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from nerfgen.landmarker.augment import Batch, Windows, recolored
from nerfgen.landmarker.network import Networks, expected_points

_RATE = 2e-3
_WARM_UP = 0.03  # share of the run in which the rate rises
_SPREAD = 0.9  # standard deviation of a heatmap's target, cells
_HUBER = 0.02  # part of the window's side at which errors begin to count linearly
_POINTS = 10.0  # weight of the places against the classes


class State(NamedTuple):
    """What a run changes: parameters of the networks, and the optimiser's moments."""

    parameters: dict[str, Any]
    moments: Any


def initial_state(num_points: int, num_classes: int, seed: int) -> State:
    """Where a run begins."""
    parameters = Networks(num_points, num_classes).initial(seed)
    return State(parameters, _optimiser().init(parameters))


def make_step(
    num_points: int, num_classes: int, seed: int
) -> Callable[[State, Batch, Any, Any], tuple[State, Array]]:
    """The jitted step: (state, batch, number of the step, share of the run that is done) to (state, losses).

    The losses are those of the finder's classes and points, and of the measurer's.
    """
    networks = Networks(num_points, num_classes)
    optimiser = _optimiser()
    root = jax.random.key(seed + 1)

    def losses(parameters: dict[str, Any], batch: Batch, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key)
        terms = jnp.stack(
            [
                *_losses(networks.find(parameters, recolored(keys[0], batch.finder.pixels)), batch.finder),
                *_losses(
                    networks.measure(parameters, recolored(keys[1], batch.measurer.pixels)), batch.measurer
                ),
            ]
        )
        return terms @ jnp.array([1.0, _POINTS, 1.0, _POINTS]), terms

    @jax.jit
    def step(state: State, batch: Batch, number: Any, share: Any) -> tuple[State, Array]:
        gradient, terms = jax.grad(losses, has_aux=True)(
            state.parameters, batch, jax.random.fold_in(root, number)
        )
        changes, moments = optimiser.update(gradient, state.moments, state.parameters)
        rate = _RATE * jnp.minimum(
            share / _WARM_UP + 0.01, 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(share, 1.0))
        )
        parameters = optax.apply_updates(
            state.parameters, jax.tree.map(lambda change: rate * change, changes)
        )
        return State(parameters, moments), terms

    return step


def _optimiser() -> optax.GradientTransformation:
    """AdamW without its rate, which follows the share of the run that is done."""
    return optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(0.02),
        optax.scale(-1.0),
    )


def _losses(said: tuple[Array, Array], windows: Windows) -> tuple[Array, Array]:
    """Of the classes, and of the places."""
    odds, heat = said
    classes = optax.softmax_cross_entropy_with_integer_labels(odds, windows.labels).mean()
    placed = _distance_loss(expected_points(heat), windows.points)
    return classes, _heat_loss(heat, windows.points) / _POINTS + placed


def _distance_loss(
    points: Float[Array, "window landmark 2"], truth: Float[np.ndarray | Array, "window landmark 2"]
) -> Array:
    """Huber's loss of the distances, over landmarks that are there, in units of its scale."""
    there = jnp.isfinite(truth).all(-1)
    away = jnp.where(there[..., None], points - jnp.where(there[..., None], truth, 0.0), 0.0)
    return (optax.huber_loss(away / _HUBER).sum(-1)).sum() * _HUBER / jnp.maximum(there.sum(), 1)


def _heat_loss(
    heat: Float[Array, "window grid grid landmark"], truth: Float[np.ndarray | Array, "window landmark 2"]
) -> Array:
    """Cross entropy to a Gaussian around each landmark that lies in the window."""
    there = (jnp.isfinite(truth) & (truth > 0) & (truth < 1)).all(-1)
    grid = heat.shape[1]
    place = jnp.where(there[..., None], truth, 0.5) * grid - 0.5
    cells = jnp.arange(grid)
    x, y = (jax.nn.softmax(-((cells - place[..., axis, None]) ** 2) / (2 * _SPREAD**2)) for axis in (0, 1))
    target = jnp.einsum("nmi,nmj->nijm", y, x).reshape(len(heat), grid * grid, -1)
    flat = jax.nn.log_softmax(heat.reshape(len(heat), grid * grid, -1), axis=1)
    return -(there * (target * flat).sum(1)).sum() / jnp.maximum(there.sum(), 1)
