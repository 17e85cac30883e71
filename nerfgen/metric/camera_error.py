"""Errors of estimated cameras against observed points, and against true cameras after alignment of their worlds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import project, rotation_angle, similarity_between


def frame_rotation(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> Float[np.ndarray, "3 3"]:
    """The world rotation A that best aligns estimated with true cameras.

    It minimises sum |A R_est - R_true|^2 (Wahba's problem), first over all images, then over the half with the smaller
    errors: outliers do not tilt the frame.
    """
    first, second = estimated[:, :3, :3], true[:, :3, :3]
    chosen = np.ones(len(first), bool)
    alignment = np.eye(3)
    for _ in range(2):
        left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", second[chosen], first[chosen]))
        alignment = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        errors = rotation_angle(alignment @ first, second)
        chosen = errors <= np.median(errors)
    return alignment


def rotation_errors(
    estimated: Float[np.ndarray, "images 4 4"],
    true: Float[np.ndarray, "images 4 4"],
    frame: Float[np.ndarray, "3 3"] | None = None,
) -> Float[np.ndarray, "images"]:
    """Angle in degrees between estimated and true rotations, after one global rotation.

    Args:
        frame: that rotation; the best one by default (:func:`frame_rotation`).
    """
    frame = frame_rotation(estimated, true) if frame is None else frame
    return rotation_angle(frame @ estimated[:, :3, :3], true[:, :3, :3])


def reprojection_errors(
    points: Float[np.ndarray, "images points 2"],
    canonical: Float[np.ndarray, "points 3"],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
) -> Float[np.ndarray, "images"]:
    """Root mean square distance of observed to reprojected canonical points, pixels; NaN where none is observed.

    Args:
        points: observed positions, pixels; NaN for points that are not observed.
    """
    projected, _ = project(
        np.broadcast_to(canonical, (len(points), *canonical.shape)), intrinsics, cam_to_world
    )
    squared = ((projected - points) ** 2).sum(-1)
    present = np.isfinite(squared)
    total = np.where(present, squared, 0.0).sum(1)
    return np.sqrt(np.where(present.any(1), total / np.maximum(present.sum(1), 1), np.nan))


def frame_similarity(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The world similarity (scale, rotation, translation) that best aligns estimated with true camera centres.

    Least trimmed squares (Rousseeuw 1984): least squares (:func:`nerfgen.geometry.similarity_between`), repeated over
    the half of the images with the smaller errors until that half no longer changes.

    Args:
        estimated: ``cam_to_world`` of at least three images.
        true: the true poses of these images.
    """
    first, second = estimated[:, :3, 3].astype(np.float64), true[:, :3, 3].astype(np.float64)
    chosen = np.ones(len(first), bool)
    # The sum of squared errors decreases with every pass; the bound is for ties.
    for _ in range(20):
        scale, rotation, translation = similarity_between(first[chosen], second[chosen])
        errors = np.linalg.norm(scale * first @ rotation.T + translation - second, axis=-1)
        better = errors <= np.median(errors)
        # A similarity fits three centres too well to identify outliers.
        if np.array_equal(better, chosen) or np.count_nonzero(better) < 4:
            break
        chosen = better
    return scale, rotation, translation


def translation_errors(
    estimated: Float[np.ndarray, "images 4 4"],
    true: Float[np.ndarray, "images 4 4"],
    frame: tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]] | None = None,
) -> Float[np.ndarray, "images"]:
    """Distance of estimated to true camera centres as a fraction of the true distance from the origin, after one global
    similarity. NaN for fewer than three images without ``frame``: a similarity matches these exactly.

    Args:
        frame: (scale, rotation, translation) of that similarity; the best one by default (:func:`frame_similarity`).
    """
    if frame is None:
        if len(true) < 3:
            return np.full(len(true), np.nan)
        frame = frame_similarity(estimated, true)
    scale, rotation, translation = frame
    moved = scale * estimated[:, :3, 3] @ rotation.T + translation
    return np.linalg.norm(moved - true[:, :3, 3], axis=-1) / np.linalg.norm(true[:, :3, 3], axis=-1)
