"""Where an object lies in an image: the similarity that maps the class's mean shape to it.

A frame is a 2 x 3 matrix (A | t) that maps points of the unit window, in which the mean shape is upright, to pixels of
an image: x |-> A x + t. A mirrored frame has a negative determinant.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

# Longer side of the mean shape's bounding box in the unit window; the rest is margin.
EXTENT = 0.6
_ROUNDS = 10


def mean_shape(points: Float[np.ndarray, "image landmark 2"]) -> Float[np.ndarray, "landmark 2"]:
    """The mean of shapes aligned by similarities (Procrustes; Gower 1975), centred in the unit window.

    It is upright if the shapes are upright on average. Missing points are NaN.
    """
    with np.errstate(invalid="ignore"):
        complete = points[np.isfinite(points).all((1, 2))]
    shape = (complete if len(complete) else _filled(points))[0]
    for _ in range(_ROUNDS):
        aligned = apply(inverse(fit(shape, points)), points)
        shape = np.nan_to_num(np.nanmean(aligned, axis=0), nan=0.5)
        shape = _upright(shape, points)
    low, high = shape.min(axis=0), shape.max(axis=0)
    return (shape - (low + high) / 2) * (EXTENT / max((high - low).max(), 1e-9)) + 0.5


def fit(
    shape: Float[np.ndarray, "*#batch landmark 2"], points: Float[np.ndarray, "*batch landmark 2"]
) -> Float[np.ndarray, "*batch 2 3"]:
    """Least-squares similarities that map a shape, or one for each, to points; NaN with fewer than two points that both
    have."""
    known = np.isfinite(points).all(axis=-1) & np.isfinite(shape).all(axis=-1)
    shape = np.nan_to_num(shape)
    weight = known / np.maximum(known.sum(axis=-1, keepdims=True), 1)
    target = np.where(known[..., None], points, 0.0)
    # With complex numbers a similarity is a multiplication and an addition.
    source_x, target_x = shape[..., 0] + 1j * shape[..., 1], target[..., 0] + 1j * target[..., 1]
    source_mean, target_mean = (weight * source_x).sum(-1), (weight * target_x).sum(-1)
    centred = source_x - source_mean[..., None]
    power = (weight * np.abs(centred) ** 2).sum(-1)
    factor = (weight * centred.conj() * (target_x - target_mean[..., None])).sum(-1) / np.maximum(
        power, 1e-12
    )
    factor = np.where(known.sum(-1) >= 2, factor, np.nan)
    return _matrix(factor, target_mean - factor * source_mean)


def apply(
    frames: Float[np.ndarray, "*#batch 2 3"], points: Float[np.ndarray, "*#batch points 2"]
) -> Float[np.ndarray, "*batch points 2"]:
    """Points mapped by each frame."""
    return np.einsum("...ij,...pj->...pi", frames[..., :2], points) + frames[..., None, :, 2]


def inverse(frames: Float[np.ndarray, "*batch 2 3"]) -> Float[np.ndarray, "*batch 2 3"]:
    """Frames that map the image back to the window."""
    linear = np.linalg.inv(np.where(np.isfinite(frames[..., :2]), frames[..., :2], np.eye(2)))
    linear = np.where(np.isfinite(frames[..., :2]), linear, np.nan)
    return np.concatenate([linear, -linear @ frames[..., 2:]], axis=-1)


def compose(
    outer: Float[np.ndarray, "*batch 2 3"], inner: Float[np.ndarray, "*batch 2 3"]
) -> Float[np.ndarray, "*batch 2 3"]:
    """First ``inner``, then ``outer``."""
    linear = outer[..., :2] @ inner[..., :2]
    return np.concatenate([linear, outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], axis=-1)


def window_size(frames: Float[np.ndarray, "*batch 2 3"]) -> Float[np.ndarray, "*batch"]:
    """Size of each frame's window in the image's pixels."""
    return np.asarray(np.sqrt(np.abs(np.linalg.det(frames[..., :2]))))


def is_usable(frames: Float[np.ndarray, "*batch 2 3"]) -> Bool[np.ndarray, "*batch"]:
    """Which frames are finite and not degenerate."""
    finite = np.isfinite(frames).all(axis=(-2, -1))
    return finite & (np.nan_to_num(window_size(np.nan_to_num(frames))) > 1e-6)


def about_center(
    scale: Float[np.ndarray, "*batch"],
    rotation: Float[np.ndarray, "*batch"],
    translation: Float[np.ndarray, "*batch 2"],
) -> Float[np.ndarray, "*batch 2 3"]:
    """The similarity of the unit window that scales and rotates (radians) about its centre, then translates."""
    factor = scale * np.exp(1j * rotation)
    center = 0.5 + 0.5j
    return _matrix(factor, center - factor * center + translation[..., 0] + 1j * translation[..., 1])


MIRROR = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])


def _matrix(factor: np.ndarray, offset: np.ndarray) -> np.ndarray:
    rows = [factor.real, -factor.imag, offset.real], [factor.imag, factor.real, offset.imag]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _upright(shape: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The shape, rotated by the circular mean of the images' rotations against it."""
    linear = fit(shape, points)[:, :, 0]
    factor = linear[:, 0] + 1j * linear[:, 1]
    turn = np.nansum(factor / np.maximum(np.abs(factor), 1e-12))
    turned = (shape[:, 0] + 1j * shape[:, 1]) * (turn / max(abs(turn), 1e-12))
    shape = np.stack([turned.real, turned.imag], axis=-1)
    return (shape - shape.mean(axis=0)) / max(
        float(np.sqrt(((shape - shape.mean(axis=0)) ** 2).sum(-1).mean())), 1e-12
    )


def _filled(points: np.ndarray) -> np.ndarray:
    """A shape of each landmark's mean, for images none of which shows all landmarks."""
    return np.nan_to_num(np.nanmean(points - np.nanmean(points, axis=1, keepdims=True), axis=0))[None]
