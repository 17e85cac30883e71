"""The two networks of an estimator: one that finds, one that measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

FINDER_SIZE = 48  # pixels of a window that the finder sees
MEASURER_SIZE = 96  # pixels of a window that the measurer sees
_FINDER_WIDTHS = (16, 24, 48, 64)
_MEASURER_WIDTHS = (24, 32, 64, 96)


class LandmarkNetwork(nn.Module):
    """Whether a window shows an object, of which class, and where its landmarks are, as heatmaps.

    An encoder of four halvings, whose end tells the class, and a decoder back to a quarter of the window's
    resolution, with connections across.

    Attributes:
        num_points, num_classes: of the estimator.
        widths: channels at a half, a quarter, an eighth and a sixteenth of the resolution.
    """

    num_points: int
    num_classes: int
    widths: Sequence[int]

    @nn.compact
    def __call__(
        self, windows: UInt8[Array, "window size size 3"]
    ) -> tuple[Float[Array, "window class+1"], Float[Array, "window grid grid landmark"]]:
        """Log-odds, the first of no object, and log-odds of each landmark over the cells of a grid."""
        first, second, third, fourth = self.widths
        x = _normalised(windows)
        x = _block(x, first, stride=2)
        fine = _residual(_block(x, second, stride=2), second)
        middle = _residual(_block(fine, third, stride=2), third)
        coarse = _residual(_residual(_block(middle, fourth, stride=2), fourth), fourth)
        flat = coarse.reshape(len(x), -1)
        classes = nn.Dense(1 + self.num_classes)(nn.relu(nn.Dense(64)(flat)))
        # The whole window's shape, as a dense layer sees it, tells like parts apart.
        context = nn.relu(nn.Dense(third)(flat))
        x = nn.relu(_up(nn.Conv(third, (1, 1))(coarse)) + middle + context[:, None, None])
        x = _residual(x, third)
        x = nn.relu(_up(nn.Conv(second, (1, 1))(x)) + fine)
        x = _residual(x, second)
        return classes, nn.Conv(self.num_points, (1, 1))(x)


class Networks:
    """Both networks of an estimator, as functions of their parameters."""

    def __init__(self, num_points: int, num_classes: int) -> None:
        self._finder = LandmarkNetwork(num_points, num_classes, _FINDER_WIDTHS)
        self._measurer = LandmarkNetwork(num_points, num_classes, _MEASURER_WIDTHS)

    def initial(self, seed: int) -> dict[str, Any]:
        """Random parameters of ``finder`` and ``measurer``."""
        sizes = {"finder": (self._finder, FINDER_SIZE), "measurer": (self._measurer, MEASURER_SIZE)}
        keys = jax.random.split(jax.random.key(seed))
        # Compiled as a whole: operation by operation it takes ten seconds.
        return {
            name: jax.jit(network.init)(key, jnp.zeros((1, size, size, 3)))["params"]
            for key, (name, (network, size)) in zip(keys, sizes.items(), strict=True)
        }

    def find(self, parameters: dict[str, Any], windows: Any) -> tuple[Array, Array]:
        """What the finder says of windows: log-odds of the classes and heatmaps."""
        odds, heat = self._finder.apply({"params": parameters["finder"]}, windows)
        return jnp.asarray(odds), jnp.asarray(heat)

    def measure(self, parameters: dict[str, Any], windows: Any) -> tuple[Array, Array]:
        """What the measurer says of upright windows: log-odds of the classes and heatmaps."""
        odds, heat = self._measurer.apply({"params": parameters["measurer"]}, windows)
        return jnp.asarray(odds), jnp.asarray(heat)


def expected_points(heat: Float[Array, "window grid grid landmark"]) -> Float[Array, "window landmark 2"]:
    """The mean place of each landmark under its heatmap (soft-argmax), in the unit window."""
    rows, columns = heat.shape[1:3]
    share = jax.nn.softmax(heat.reshape(len(heat), rows * columns, -1), axis=1).reshape(heat.shape)
    x = jnp.einsum("nijm,j->nm", share, (jnp.arange(columns) + 0.5) / columns)
    y = jnp.einsum("nijm,i->nm", share, (jnp.arange(rows) + 0.5) / rows)
    return jnp.stack([x, y], axis=-1)


def _normalised(windows: UInt8[Array, "window size size 3"]) -> Float[Array, "window size size 3"]:
    """Each window less its mean, in units of its spread: light and contrast drop out."""
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
    """Statistics of each window for itself, so that training and use are the same function."""
    return nn.GroupNorm(num_groups=width // 8)


def _up(x: Float[Array, "window rows columns channel"]) -> Float[Array, "window rows2 columns2 channel"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
