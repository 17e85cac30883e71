"""The published networks: positional encoding, the foreground network and the background network.

Their dense layers have matrix products of a chosen precision.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.field.interpolation import interpolate

# Largest slope of a direction that the local features of a background distinguish: 45 degrees.
_STEEPEST = 1.0


class _RowsDense(nn.Dense):
    """A dense layer over one matrix of rows: XLA's gradient of a product over several axes is slow on CPUs."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return rows.reshape(*inputs.shape[:-1], -1)


def dense(features: int, precision: str, **options: Any) -> nn.Dense:
    """A dense layer with float32 parameters, sums and results.

    Args:
        precision: of the factors. ``float32`` is exactly that on every device: the default precision of JAX would
            round them on TPUs and GPUs. ``bfloat16`` uses the matrix units of these; sums are float32.
    """
    if precision == "float32":
        return _RowsDense(features, precision=jax.lax.Precision.HIGHEST, **options)
    return _Bfloat16Dense(features, **options)


class _Bfloat16Dense(nn.Dense):
    """A dense layer whose products, those of its gradient too, have factors rounded to bfloat16."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        rows = inputs.reshape(-1, inputs.shape[-1])
        kernel = self.param("kernel", self.kernel_init, (rows.shape[-1], self.features))
        result = _bfloat16_product(rows, kernel)
        if self.use_bias:
            result = result + self.param("bias", self.bias_init, (self.features,))[None]
        return result.reshape(*inputs.shape[:-1], -1)


@jax.custom_vjp
def _bfloat16_product(
    rows: Float[Array, "rows inputs"], kernel: Float[Array, "inputs outputs"]
) -> Float[Array, "rows outputs"]:
    """The float32 product of factors rounded to bfloat16."""
    return _product_forward(rows, kernel)[0]


def _product_forward(rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    factors = rows.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _product(*factors, 1, 0), (*factors, jnp.zeros((), rows.dtype))


def _product_backward(saved: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array]:
    rows, kernel, like = saved
    gradient = gradient.astype(jnp.bfloat16)
    return _product(gradient, kernel, 1, 1).astype(like.dtype), _product(rows, gradient, 0, 0)


_bfloat16_product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def _add_to_points(
    values: Float[Array, "images points width"], terms: Float[Array, "images width"]
) -> Float[Array, "images points width"]:
    """The sum, whose gradient is summed over points by a product: sums of vectors take a TPU longer."""
    return values + terms[:, None]


def _add_forward(values: Array, terms: Array) -> tuple[Array, None]:
    return values + terms[:, None], None


def _add_backward(_: None, gradient: Array) -> tuple[Array, Array]:
    # The compiler makes sums of vectors of a product with one row, or with ones that it knows.
    shape = (len(gradient), 8, gradient.shape[1])
    ones = jax.lax.optimization_barrier(jnp.ones(shape, jnp.bfloat16))
    axes = (((2,), (1,)), ((0,), (0,)))
    sums = jax.lax.dot_general(ones, gradient.astype(jnp.bfloat16), axes, preferred_element_type=jnp.float32)
    return gradient, sums[:, 0]


_add_to_points.defvjp(_add_forward, _add_backward)


def _product(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    """The sum over an axis of each of two matrices, in float32."""
    axes = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(left, right, axes, preferred_element_type=jnp.float32)


def add_per_image(
    values: Float[Array, "images points width"], terms: Float[Array, "images width"], precision: str
) -> Float[Array, "images points width"]:
    """The sum of every point's values and its image's term, in float32."""
    return values + terms[:, None] if precision == "float32" else _add_to_points(values, terms)


def activate(values: Float[Array, "*batch"], precision: str) -> Float[Array, "*batch"]:
    """ReLU, in the precision of the factors of the next product."""
    if precision == "float32":
        return jax.nn.relu(values)
    return _bfloat16_relu(values.reshape(-1, values.shape[-1])).reshape(values.shape)


@jax.custom_vjp
def _bfloat16_relu(values: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """ReLU, rounded. Its result is all that is kept for the gradient, in half the memory of its argument."""
    return _relu_forward(values)[0]


def _relu_forward(values: Array) -> tuple[Array, Array]:
    # The compiler would keep the argument, and round it again for every product that needs the result.
    result = jax.lax.optimization_barrier(jax.nn.relu(values).astype(jnp.bfloat16))
    return result, result


def _relu_backward(result: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(result > 0, gradient, 0).astype(jnp.float32),)


_bfloat16_relu.defvjp(_relu_forward, _relu_backward)


def positional_encoding(
    points: Float[Array, "*batch 3"], frequencies: int
) -> Float[Array, "*batch features"]:
    """gamma_L of NeRF: the point itself, then sin and cos of 2^l pi x for l < ``frequencies``.

    Features: 3 + 6 * ``frequencies``.
    """
    octaves = jnp.expand_dims(jnp.pi * 2.0 ** jnp.arange(frequencies), (*range(points.ndim - 1), -1))
    angles = (points[..., None, :] * octaves).reshape(*points.shape[:-1], -1)
    return jnp.concatenate([points, jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ConcatenatedField(nn.Module):
    """MLP(concat(gamma(x), z)) with a skip that concatenates the same input again half-way.

    A layer on a concatenation is the sum of two layers, W [x; z] = W_x x + W_z z. The term W_z z is the same for all
    samples of an image, so :meth:`condition` computes it once per image.
    """

    width: int
    depth: int
    frequencies: int
    precision: str = "float32"

    def setup(self) -> None:
        self.skip = self.depth // 2
        self.point_layers = [
            dense(self.width, self.precision, name=f"point_{layer}")
            for layer in range(self.depth)
            if layer in (0, self.skip)
        ]
        self.latent_layers = [
            dense(self.width, self.precision, use_bias=False, name=f"latent_{layer}")
            for layer in range(self.depth)
            if layer in (0, self.skip)
        ]
        self.hidden_layers = [
            dense(self.width, self.precision, name=f"hidden_{layer}") for layer in range(1, self.depth)
        ]
        self.output_layer = dense(4, self.precision, name="output")

    def condition(self, latents: Float[Array, "images latent"]) -> list[Float[Array, "images width"]]:
        """The term W_z z of the two layers that the latent code enters."""
        return [layer(latents) for layer in self.latent_layers]

    def __call__(
        self, latent_terms: list[Float[Array, "images width"]], points: Float[Array, "images points 3"]
    ) -> Float[Array, "images points 4"]:
        """Raw density and raw colour of points, with their image's latent code."""
        encoded = positional_encoding(points, self.frequencies)
        inputs = [
            add_per_image(point_layer(encoded), latent_term, self.precision)
            for point_layer, latent_term in zip(self.point_layers, latent_terms, strict=True)
        ]
        hidden = activate(inputs[0], self.precision)
        for layer, hidden_layer in enumerate(self.hidden_layers, start=1):
            hidden = hidden_layer(hidden)
            if layer == self.skip:
                hidden = hidden + inputs[1]
            hidden = activate(hidden, self.precision)
        return self.output_layer(hidden)


class BackgroundField(nn.Module):
    """g(d | z): colour of a ray's background from its direction and the latent code, in [0, 1].

    Attributes:
        cells, channels: a latent code brings a grid of ``cells`` x ``cells`` features, sampled bilinearly at the slopes
            (d_x / d_z, d_y / d_z) up to ``_STEEPEST``: what is behind the object has little in common between images.
            0 cells for none.
    """

    width: int
    depth: int
    frequencies: int = 2
    precision: str = "float32"
    cells: int = 0
    channels: int = 0

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "images latent"],
        local: Float[Array, "images numbers"],
        directions: Float[Array, "images rays 3"],
    ) -> Float[Array, "images rays 3"]:
        # The first layer on concat(direction, z), split as in ConcatenatedField.
        hidden = dense(self.width, self.precision, name="direction_0")(
            positional_encoding(directions, self.frequencies)
        )
        hidden = hidden + dense(self.width, self.precision, use_bias=False, name="latent_0")(latents)[:, None]
        if self.cells:
            features = sample_background(local.reshape(-1, self.cells, self.cells, self.channels), directions)
            hidden = hidden + dense(self.width, self.precision, use_bias=False, name="local_0")(features)
        hidden = jax.nn.relu(hidden)
        for layer in range(1, self.depth):
            hidden = jax.nn.relu(dense(self.width, self.precision, name=f"hidden_{layer}")(hidden))
        return jax.nn.sigmoid(dense(3, self.precision, name="output")(hidden))


def sample_background(
    grids: Float[Array, "images cells cells channels"], directions: Float[Array, "images rays 3"]
) -> Float[Array, "images rays channels"]:
    """Bilinear samples of grids over the slopes of directions, from -``_STEEPEST`` to ``_STEEPEST``."""
    ahead = jnp.maximum(jnp.abs(directions[..., 2:]), 1e-6)
    slopes = directions[..., :2] / ahead / _STEEPEST
    with jax.named_scope("sampling"):
        return interpolate(grids, slopes[..., 0], slopes[..., 1])


def softplus_density(raw: Float[Array, "*batch"], scale: float) -> Float[Array, "*batch"]:
    """Density per world unit; the shift makes space nearly empty initially."""
    return scale * jax.nn.softplus(raw - 1.5)
