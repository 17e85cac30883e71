"""Similarity of two images: PSNR, SSIM, and intersection over union of masks; exposure matched to another image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

# Window size of structural similarity, pixels.
_WINDOW = 11


def psnr(
    first: Float[np.ndarray, "*shape"],
    second: Float[np.ndarray, "*shape"],
    where: Bool[np.ndarray, "*pixels"] | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1], over all pixels or those where ``where`` is true."""
    squared = (np.asarray(first, np.float64) - second) ** 2
    error = float(np.mean(squared if where is None else squared[where]))
    return float(-10 * np.log10(max(error, 1e-12)))


def match_exposure(
    foreground: Float[np.ndarray, "height width 3"],
    opacity: Float[np.ndarray, "height width"],
    target: Float[np.ndarray, "height width 3"],
    where: Bool[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width 3"]:
    """A foreground after the gain and offset of each channel that bring it, composited over white, closest to a target.

    Least squares over the pixels ``where``. The offset is in proportion to opacity, so that white stays white. A gain
    is never negative: light does not invert an image.

    Args:
        foreground: colours premultiplied by opacity, in [0, 1].
        opacity: in [0, 1]; ones for an image without transparency.
        target: in [0, 1].

    Returns:
        The changed foreground, premultiplied; straight colours are clipped to [0, 1].
    """
    cover = np.asarray(opacity, np.float64)[..., None]
    color, share = np.asarray(foreground[where], np.float64), cover[where]
    wanted = target[where] - (1 - share)
    total = (share**2).sum(0)
    mean = (share * color).sum(0) / np.where(total > 0, total, 1.0)
    varying = color - share * mean
    spread = (varying**2).sum(0)
    gain = np.maximum((varying * wanted).sum(0), 0.0) / np.where(spread > 0, spread, 1.0)
    offset = (share * (wanted - gain * color)).sum(0) / np.where(total > 0, total, 1.0)
    return np.clip(gain * foreground + offset * cover, 0.0, cover)


def intersection_over_union(first: Bool[np.ndarray, "*shape"], second: Bool[np.ndarray, "*shape"]) -> float:
    """IoU of two masks; 1 if both are empty."""
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0


def ssim(
    first: Float[np.ndarray, "height width 3"],
    second: Float[np.ndarray, "height width 3"],
    where: Bool[np.ndarray, "height width"] | None = None,
) -> float:
    """Structural similarity of values in [0, 1] (Wang et al. 2004), per channel, with a Gaussian window of standard
    deviation 1.5 and 11 pixels.

    Args:
        where: pixels whose windows are averaged; NaN without any. Windows that reach beyond the image are left out.

    Raises:
        ValueError: the images are smaller than the window.
    """
    from skimage.metrics import structural_similarity  # slow to import

    if min(first.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs images of at least {_WINDOW} x {_WINDOW} pixels, not {first.shape[:2]}")
    _, similarity = structural_similarity(
        np.asarray(first, np.float64),
        np.asarray(second, np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
        full=True,
    )
    border = _WINDOW // 2
    inside = (slice(border, -border), slice(border, -border))
    values = similarity[inside].mean(-1)
    chosen = values if where is None else values[where[inside]]
    return float(chosen.mean()) if chosen.size else float("nan")
