"""A rigid shape and scaled-orthographic cameras from 2D points alone, by factorisation.

Seen from afar, all points p of all images k are, in units of each image's spread and relative to its centroid,

    u_kp = A_k x_p + t_k          A_k = s_k (first two rows of a rotation)

so that the matrix of all of them has rank 3 (Tomasi and Kanade, "Shape and motion from image streams under
orthography", 1992). Its factors are known up to an affine map, which the form of the A_k determines; what
remains open is which of two shapes, each the depth reversal of the other, is the true one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Alternations of motion and shape; they converge to four digits in about ten where few points are missing.
_ALTERNATIONS = 40
_REWEIGHTINGS = 10
_ALIGNMENTS = 5
# Smallest eigenvalue of the metric relative to its largest; smaller ones are noise of views that are all frontal.
_LEAST_METRIC = 1e-2


class Factors(NamedTuple):
    """Result of :func:`factorise`, in a frame with x right, y up and z to the viewer of the mean view.

    Attributes:
        shape: points, with their centroid in the origin, in units of an image's spread.
        turns: rotations of the object before the cameras.
        determined: whether the metric was positive definite without correction, so that the depths are meaningful.
    """

    shape: Float[np.ndarray, "points 3"]
    turns: Float[np.ndarray, "images 3 3"]
    determined: bool


def factorise(points: Float[np.ndarray, "images points 2"], robust: float) -> Factors:
    """Shape and cameras of images of one rigid object.

    Args:
        points: x to the right, y up, in units of each image's spread; NaN where one is missing.
        robust: Huber's scale in the same units.
    """
    motion, shape = _rank_three(points, robust)
    metric, determined = _metric(motion)
    upgrade = np.linalg.cholesky(metric)
    motion, shape = motion @ upgrade, np.linalg.solve(upgrade, shape.T).T
    turns = nearest_rotations(motion)
    mean = mean_rotation(turns)
    scale = np.median(np.linalg.norm(motion, axis=(1, 2))) / np.sqrt(2)
    return Factors(scale * (shape - shape.mean(0)) @ mean.T, turns @ mean.T, determined)


def nearest_rotations(motion: Float[np.ndarray, "images 2 3"]) -> Float[np.ndarray, "images 3 3"]:
    """The rotations whose first two rows are closest to multiples of the given ones."""
    left, _, right = np.linalg.svd(motion, full_matrices=False)
    rows = left @ right
    return np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], axis=1)


def mean_rotation(rotations: Float[np.ndarray, "images 3 3"]) -> Float[np.ndarray, "3 3"]:
    """The chordal mean: the minimiser of the sum of squared distances."""
    left, _, right = np.linalg.svd(rotations.sum(0))
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def huber_weight(distance: np.ndarray, scale: float) -> np.ndarray:
    """rho'(r) / r of Huber's rho."""
    return scale / np.maximum(distance, scale)


def _rank_three(
    points: np.ndarray, robust: float
) -> tuple[Float[np.ndarray, "images 2 3"], Float[np.ndarray, "points 3"]]:
    """Robust affine factors of points some of which may be missing: motion and shape in turn, re-weighted."""
    present = np.isfinite(points).all(-1)
    filled = mean_view(points)[1]
    known = np.where(present[..., None], points, 0.0)
    stacked = (filled - filled.mean(1, keepdims=True)).transpose(0, 2, 1).reshape(-1, points.shape[1])
    shape = np.linalg.svd(stacked, full_matrices=False)[2][:3].T
    weight = present.astype(float)
    for _ in range(_ALTERNATIONS):
        # Columns orthonormal and perpendicular to ones: the affine frame that is best conditioned.
        shape = np.linalg.qr(shape - shape.mean(0))[0]
        extended = np.column_stack([shape, np.ones(len(shape))])
        normal = np.einsum("kp,pi,pj->kij", weight, extended, extended) + 1e-9 * np.eye(4)
        right = np.einsum("kp,pi,kpu->kiu", weight, extended, known)
        solved = np.linalg.solve(normal, right)
        motion, shift = solved[:, :3].transpose(0, 2, 1), solved[:, 3]
        normal = np.einsum("kp,kui,kuj->pij", weight, motion, motion)
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        right = np.einsum("kp,kui,kpu->pi", weight, motion, known - shift[:, None])
        shape = np.linalg.solve(normal, right[..., None])[..., 0]
        distance = np.linalg.norm(shape @ motion.transpose(0, 2, 1) + shift[:, None] - known, axis=-1)
        weight = present * huber_weight(distance, robust)
    return motion, shape


def mean_view(
    points: Float[np.ndarray, "images points 2"],
) -> tuple[Float[np.ndarray, "points 2"], Float[np.ndarray, "images points 2"]]:
    """The mean of all images, each turned, scaled and moved to fit it; and the images, missing points from the mean.

    Args:
        points: as for :func:`factorise`.
    """
    present = np.isfinite(points).all(-1)
    flat = np.where(present, points[..., 0] + 1j * points[..., 1], 0.0)
    count = present.sum(1, keepdims=True)
    mean = flat.sum(0) / present.sum(0)
    for _ in range(_ALIGNMENTS):
        # Complex regression of each image on the mean: u = a mean + b.
        centred = present * (mean - (present * mean).sum(1, keepdims=True) / count)
        factor = (centred.conj() * flat).sum(1, keepdims=True) / (np.abs(centred) ** 2).sum(1, keepdims=True)
        shift = (flat - present * factor * mean).sum(1, keepdims=True) / count
        aligned = np.where(present, (flat - shift) / factor, np.nan)
        # The median, because some points may be wrong.
        mean = np.nanmedian(aligned.real, axis=0) + 1j * np.nanmedian(aligned.imag, axis=0)
        mean /= np.sqrt((np.abs(mean - mean.mean()) ** 2).mean())
    filled = np.where(present, flat, factor * mean + shift)
    return np.stack([mean.real, mean.imag], -1), np.stack([filled.real, filled.imag], -1)


def _metric(motion: Float[np.ndarray, "images 2 3"]) -> tuple[Float[np.ndarray, "3 3"], bool]:
    """The Q for which the rows a_k, b_k of all motions are orthogonal and equally long: a Q b = 0, a Q a = b Q b.

    Linear in the six numbers of Q; its scale is that the mean row is of length one. Re-weighted, because one image
    of wrong points spoils a plain least squares.
    """
    first, second = motion[:, 0], motion[:, 1]

    def form(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        product = np.einsum("ki,kj->kij", left, right)
        product = product + product.transpose(0, 2, 1)
        index, other = np.triu_indices(3)
        return product[:, index, other] * np.where(index == other, 0.5, 1.0)

    across = 2 * form(first, second)
    along = form(first, first) - form(second, second)
    length = 0.5 * (form(first, first) + form(second, second))
    weight = np.ones(len(motion))
    for _ in range(_REWEIGHTINGS):
        scale = (weight[:, None] * length).sum(0) / weight.sum()
        normal = np.einsum("k,ki,kj->ij", weight, across, across)
        normal += np.einsum("k,ki,kj->ij", weight, along, along)
        normal /= weight.sum()
        # Least squares with scale @ q = 1, by its multiplier.
        bordered = np.block([[normal, scale[:, None]], [scale[None], np.zeros((1, 1))]])
        q = np.linalg.lstsq(bordered, np.append(np.zeros(6), 1.0), rcond=None)[0][:6]
        distance = np.hypot(across @ q, along @ q) / np.maximum(np.abs(length @ q), 1e-12)
        weight = huber_weight(distance, 1.5 * np.median(distance) + 1e-12)
    metric = np.zeros((3, 3))
    metric[np.triu_indices(3)] = q
    metric = np.triu(metric) + np.triu(metric, 1).T
    values, vectors = np.linalg.eigh(metric)
    determined = bool(values[0] > _LEAST_METRIC * values[2])
    return (vectors * np.maximum(values, _LEAST_METRIC * values[2])) @ vectors.T, determined
