"""The two networks of a trained estimator: one proposes where objects are, one locates their landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from nerfgen.landmark.estimator_file import LANDMARK, PROPOSAL

PROPOSAL_SIZE = 48  # pixels of the proposal network's windows
LANDMARK_SIZE = 96  # pixels of the landmark network's windows
_PROPOSAL_WIDTHS = (16, 24, 48, 64)
_LANDMARK_WIDTHS = (24, 32, 64, 96)


class HeatmapNetwork(nn.Module):
    """Classifies a window and locates landmarks in it by heatmaps.

    An encoder with four halvings, which ends in the classifier, and a decoder to a quarter of the window's resolution,
    with skip connections.

    Attributes:
        num_points, num_classes: of the estimator.
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the resolution.
    """

    num_points: int
    num_classes: int
    widths: Sequence[int]

    @nn.compact
    def __call__(
        self, windows: Num[Array, "window size size 3"]
    ) -> tuple[Float[Array, "window labels"], Float[Array, "window grid grid landmark"]]:
        """Logits of no object and of each class (``labels``), and of each landmark over the cells of a grid.

        Args:
            windows: colours from 0 to 255.
        """
        first, second, third, fourth = self.widths
        x = _normalised(windows)
        x = _block(x, first, stride=2)
        fine = _residual(_block(x, second, stride=2), second)
        middle = _residual(_block(fine, third, stride=2), third)
        coarse = _residual(_residual(_block(middle, fourth, stride=2), fourth), fourth)
        flat = coarse.reshape(len(x), -1)
        classes = nn.Dense(1 + self.num_classes)(nn.relu(nn.Dense(64)(flat)))
        # A dense layer sees the whole window and tells similar parts apart.
        context = nn.relu(nn.Dense(third)(flat))
        x = nn.relu(_up(nn.Conv(third, (1, 1))(coarse)) + middle + context[:, None, None])
        x = _residual(x, third)
        x = nn.relu(_up(nn.Conv(second, (1, 1))(x)) + fine)
        x = _residual(x, second)
        return classes, nn.Conv(self.num_points, (1, 1))(x)


class Networks:
    """Both networks of an estimator, as functions of their parameters."""

    def __init__(self, num_points: int, num_classes: int) -> None:
        self._proposal = HeatmapNetwork(num_points, num_classes, _PROPOSAL_WIDTHS)
        self._landmark = HeatmapNetwork(num_points, num_classes, _LANDMARK_WIDTHS)

    def initial(self, seed: int) -> dict[str, Any]:
        """Random parameters of both networks."""
        sizes = {PROPOSAL: (self._proposal, PROPOSAL_SIZE), LANDMARK: (self._landmark, LANDMARK_SIZE)}
        keys = jax.random.split(jax.random.key(seed))
        # Compiled as a whole: one operation after the other takes ten seconds.
        return {
            name: jax.jit(network.init)(key, jnp.zeros((1, size, size, 3)))["params"]
            for key, (name, (network, size)) in zip(keys, sizes.items(), strict=True)
        }

    def propose(self, parameters: dict[str, Any], windows: Any) -> tuple[Array, Array]:
        """The proposal network's logits and heatmaps for windows of 48 pixels."""
        logits, heatmaps = self._proposal.apply({"params": parameters[PROPOSAL]}, windows)
        return jnp.asarray(logits), jnp.asarray(heatmaps)

    def locate(self, parameters: dict[str, Any], windows: Any) -> tuple[Array, Array]:
        """The landmark network's logits and heatmaps for upright windows of 96 pixels."""
        logits, heatmaps = self._landmark.apply({"params": parameters[LANDMARK]}, windows)
        return jnp.asarray(logits), jnp.asarray(heatmaps)


def expected_points(heatmaps: Float[Array, "window grid grid landmark"]) -> Float[Array, "window landmark 2"]:
    """The mean position of each landmark under its heatmap (soft-argmax), in the unit window."""
    rows, columns = heatmaps.shape[1:3]
    flat = heatmaps.reshape(len(heatmaps), rows * columns, -1)
    weights = jax.nn.softmax(flat, axis=1).reshape(heatmaps.shape)
    # Coordinates, so at full precision: factors rounded to bfloat16 would move points by pixels.
    x = jnp.einsum("nijm,j->nm", weights, (jnp.arange(columns) + 0.5) / columns, precision="highest")
    y = jnp.einsum("nijm,i->nm", weights, (jnp.arange(rows) + 0.5) / rows, precision="highest")
    return jnp.stack([x, y], axis=-1)


def _normalised(windows: Num[Array, "window size size 3"]) -> Float[Array, "window size size 3"]:
    """Each window minus its mean, divided by its standard deviation: invariant to brightness and contrast."""
    x = windows.astype(jnp.float32) / 255
    spread = x.std(axis=(1, 2, 3), keepdims=True)
    return (x - x.mean(axis=(1, 2, 3), keepdims=True)) / (spread + 0.03)


def _block(x: Array, width: int, *, stride: int = 1) -> Array:
    x = nn.Conv(width, (3, 3), (stride, stride), use_bias=False)(x)
    return nn.relu(_norm(width)(x))


def _residual(x: Array, width: int) -> Array:
    y = _block(x, width)
    y = nn.Conv(width, (3, 3), use_bias=False)(y)
    return nn.relu(x + _norm(width)(y))


def _norm(width: int) -> nn.Module:
    """Normalisation within each window, so that training and inference compute the same function."""
    return nn.GroupNorm(num_groups=width // 8)


def _up(x: Float[Array, "window rows columns channel"]) -> Float[Array, "window rows2 columns2 channel"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
