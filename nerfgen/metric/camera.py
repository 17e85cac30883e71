"""How far estimated cameras are from true ones, when the frame of the world is not to be known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import rotation_angle, similarity_between


def frame_rotation(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> Float[np.ndarray, "3 3"]:
    """The rotation A of the world that takes estimated cameras closest to true ones.

    It is the minimiser of sum |A R_est - R_true|^2 (Wahba's problem), then once more over the better half of the
    images, so that outliers do not tilt the frame.
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
    """Angle in degrees between estimated and true rotations, after one rotation of the world.

    Args:
        frame: that rotation; without it, the best one (:func:`frame_rotation`).
    """
    frame = frame_rotation(estimated, true) if frame is None else frame
    return rotation_angle(frame @ estimated[:, :3, :3], true[:, :3, :3])


def frame_similarity(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The (scale, rotation, translation) of the world that takes estimated camera centres closest to true ones.

    By least squares (:func:`nerfgen.geometry.similarity_between`), then again and again over the better half of the
    images until these stay the same, so that outliers do not tilt the frame (least trimmed squares, Rousseeuw 1984).

    Args:
        estimated, true: ``cam_to_world`` of at least three images.
    """
    first, second = estimated[:, :3, 3].astype(np.float64), true[:, :3, 3].astype(np.float64)
    chosen = np.ones(len(first), bool)
    # The sum over the better half falls with every pass; the bound is for ties.
    for _ in range(20):
        scale, rotation, translation = similarity_between(first[chosen], second[chosen])
        errors = np.linalg.norm(scale * first @ rotation.T + translation - second, axis=-1)
        better = errors <= np.median(errors)
        # Three centres fit too well to be told from outliers.
        if np.array_equal(better, chosen) or np.count_nonzero(better) < 4:
            break
        chosen = better
    return scale, rotation, translation


def translation_errors(
    estimated: Float[np.ndarray, "images 4 4"],
    true: Float[np.ndarray, "images 4 4"],
    frame: tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]] | None = None,
) -> Float[np.ndarray, "images"]:
    """Distance of estimated to true camera centres as a share of the true ones' distance from the origin, after one
    similarity of the world; NaN for fewer than three images without ``frame``, which a similarity can always match.

    Args:
        frame: (scale, rotation, translation) of that similarity; without it, the best one (:func:`frame_similarity`).
    """
    if frame is None:
        if len(true) < 3:
            return np.full(len(true), np.nan)
        frame = frame_similarity(estimated, true)
    scale, rotation, translation = frame
    moved = scale * estimated[:, :3, 3] @ rotation.T + translation
    return np.linalg.norm(moved - true[:, :3, 3], axis=-1) / np.linalg.norm(true[:, :3, 3], axis=-1)
