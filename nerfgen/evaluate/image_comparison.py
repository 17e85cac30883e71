"""Images framed like the model's training images, and image metrics of renderings beside them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen.evaluate.context import EvaluationContext
from nerfgen.image import ImageFolder, InputImage, UnreadableImageError, digest_images
from nerfgen.metric import MIN_PERCEPTUAL_SIZE, psnr, ssim
from nerfgen.model import Model
from nerfgen.parallel import map_threads
from nerfgen.pretrained import MIN_FEATURE_SIZE
from nerfgen.report import ItemValues, Table


def resample_windows(
    images: Sequence[InputImage], windows: Float[np.ndarray, "images 3"], size: int
) -> tuple[UInt8[np.ndarray, "images size size 3"], Bool[np.ndarray, "images size size"]]:
    """The window of every image, and which of its pixels lie inside the image: none if the image is unreadable.

    Args:
        windows: (x0, y0, side) in pixels of the images.
        size: output size, pixels.
    """

    def resample(number: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            # A copy: the decoded image is released with it.
            return copy.copy(images[number]).resample(windows[number], size)
        except UnreadableImageError:
            return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool)

    found = list(map_threads(resample, range(len(images))))
    return np.stack([rgb for rgb, _ in found]), np.stack([valid for _, valid in found])


def training_images(
    model: Model, data: ImageFolder, rows: Int[np.ndarray, "rows"]
) -> tuple[UInt8[np.ndarray, "rows size size 3"], Bool[np.ndarray, "rows size size"]]:
    """:func:`resample_windows` of rows' images at the model's size; an image that changed since training has no
    valid pixel.

    Args:
        data: folder of the images.
    """
    names = [model.images[row] for row in rows]
    images, valid = resample_windows(
        [InputImage(name, data) for name in names], model.window[rows], model.size
    )
    digests = [digest for _, digest in digest_images(data, names)]
    same = np.array([digest == model.digests[row] for digest, row in zip(digests, rows, strict=True)])
    return images, valid & same[:, None, None]


def image_metrics(
    context: EvaluationContext,
    names: Sequence[str],
    images: UInt8[np.ndarray, "renderings size size 3"],
    renderings: UInt8[np.ndarray, "renderings size size 3"],
    valid: Bool[np.ndarray, "renderings size size"],
    *,
    suffix: str = "",
) -> Table:
    """PSNR, SSIM, LPIPS and feature distance of each rendering over the valid pixels.

    For the last two the other pixels are made equal; LPIPS is then a mean over all pixels, the feature distance over
    the valid ones.

    Args:
        suffix: end of the metrics' names, before the unit.
    """
    first, second = images / 255, renderings / 255
    values = {
        f"psnr{suffix}_db": [psnr(*triple) for triple in zip(second, first, valid, strict=True)],
        f"ssim{suffix}": [ssim(*triple) for triple in zip(second, first, valid, strict=True)],
    }
    missing, network = [], context.perceptual
    if isinstance(network, str):
        missing += [] if suffix else [network]
    elif images.shape[1] < MIN_PERCEPTUAL_SIZE:
        missing.append(
            f"lpips{suffix}: its network needs images of {MIN_PERCEPTUAL_SIZE} pixels or more, not {images.shape[1]}"
        )
    else:
        compared = np.where(valid[..., None], renderings, images)
        values[f"lpips{suffix}"] = network.distance(images, compared).tolist()
    features = context.image_features
    if isinstance(features, str):
        missing += [] if suffix else [f"feature_distance: {features}"]
    elif images.shape[1] < MIN_FEATURE_SIZE:
        missing.append(
            f"feature_distance{suffix}: its network needs images of {MIN_FEATURE_SIZE} pixels or more, not "
            f"{images.shape[1]}"
        )
    else:
        values[f"feature_distance{suffix}"] = features.distance(images, renderings, valid).tolist()
    return Table({name: ItemValues(names, np.array(own)) for name, own in values.items()}, missing=missing)
