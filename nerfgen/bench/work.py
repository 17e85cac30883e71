"""How much a training step has to compute, and how fast the machine multiplies."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from nerfgen.train.preset import Preset


def step_flops(preset: Preset) -> int:
    """Floating-point operations of the matrix products of one step of the ``mlp`` field; two for each multiplication.

    Only what the method needs: forwards, and for the gradient once more for the weights and once more for what the
    layer saw, but not for the encoded points and directions, which nothing learns from. The code's share of a
    layer is one product an image.
    """
    width, points = preset.width, 3 + 6 * preset.frequencies
    # Learned from on both sides, and on the side of the weights only.
    both = (preset.depth - 1) * width**2 + 4 * width
    weights_only = 2 * points * width
    samples = preset.images_per_batch * preset.rays_per_image * preset.samples
    foreground = samples * (3 * both + 2 * weights_only)

    width, directions = preset.background_width, 3 + 6 * 2
    both = (preset.background_depth - 1) * width**2 + 3 * width
    rays = preset.images_per_batch * preset.rays_per_image
    background = rays * (3 * both + 2 * directions * width)

    codes = 3 * preset.images_per_batch * preset.latent_size * (2 * preset.width + preset.background_width)
    return 2 * (foreground + background + codes)


class Product:
    """A product of two square matrices, to be called; ``flops`` are the operations of one."""

    def __init__(self, kind: str, size: int) -> None:
        self.flops = 2 * size**3
        keys = jax.random.split(jax.random.key(0))
        self._factors = [jax.random.normal(key, (size, size)).astype(kind) for key in keys]
        self._multiply: Callable[..., jax.Array] = jax.jit(jnp.matmul)
        self()

    def __call__(self) -> None:
        jax.block_until_ready(self._multiply(*self._factors))

    def repeat(self, times: int) -> None:
        """So many products, one after the other."""
        for _ in range(times):
            self()
