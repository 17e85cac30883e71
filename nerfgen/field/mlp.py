"""The published foreground field: a coordinate network that sees the latent code beside every point."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from nerfgen.field.encoding import positional_encoding
from nerfgen.field.precision import dense


class ConcatenatedField(nn.Module):
    """MLP(concat(gamma(x), z)) with a skip that concatenates the same input again half-way.

    A layer on a concatenation is the sum of two layers, W [x; z] = W_x x + W_z z. The latent's share
    W_z z is the same for all samples of an image, so :meth:`condition` computes it once per image.
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
        """The latent's share W_z z of the two layers that see it."""
        return [layer(latents) for layer in self.latent_layers]

    def __call__(
        self, shares: list[Float[Array, "images width"]], points: Float[Array, "images points 3"]
    ) -> Float[Array, "images points 4"]:
        """Raw density and raw colour of points, each under its image's code."""
        encoded = positional_encoding(points, self.frequencies)
        seen = [
            point_layer(encoded) + share[:, None]
            for point_layer, share in zip(self.point_layers, shares, strict=True)
        ]
        hidden = jax.nn.relu(seen[0])
        for layer, hidden_layer in enumerate(self.hidden_layers, start=1):
            hidden = hidden_layer(hidden)
            if layer == self.skip:
                hidden = hidden + seen[1]
            hidden = jax.nn.relu(hidden)
        return self.output_layer(hidden)


class BackgroundField(nn.Module):
    """g(d | z): colour of a ray's background from its direction and the code, in [0, 1]."""

    width: int
    depth: int
    frequencies: int = 2
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, latents: Float[Array, "images latent"], directions: Float[Array, "images rays 3"]
    ) -> Float[Array, "images rays 3"]:
        # The first layer on concat(direction, z), split as in ConcatenatedField.
        hidden = dense(self.width, self.precision, name="direction_0")(
            positional_encoding(directions, self.frequencies)
        )
        hidden = jax.nn.relu(
            hidden + dense(self.width, self.precision, use_bias=False, name="latent_0")(latents)[:, None]
        )
        for layer in range(1, self.depth):
            hidden = jax.nn.relu(dense(self.width, self.precision, name=f"hidden_{layer}")(hidden))
        return jax.nn.sigmoid(dense(3, self.precision, name="output")(hidden))


def softplus_density(raw: Float[Array, "*batch"], scale: float) -> Float[Array, "*batch"]:
    """Density per world unit; the shift makes space nearly empty at the start."""
    return scale * jax.nn.softplus(raw - 1.5)
