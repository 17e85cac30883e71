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


def translation_errors(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> Float[np.ndarray, "images"]:
    """Distance of each estimated camera centre to the true one, as a share of that one's distance from the origin,
    after one similarity of the world.

    The similarity is the least-squares one, once more over the better half of the images.
    """
    first, second = estimated[:, :3, 3], true[:, :3, 3]
    chosen = np.ones(len(first), bool)
    errors = np.zeros(len(first))
    for _ in range(2):
        scale, rotation, shift = similarity_between(first[chosen], second[chosen])
        moved = scale * first @ rotation.T + shift
        errors = np.linalg.norm(moved - second, axis=1) / np.linalg.norm(second, axis=1)
        chosen = errors <= np.median(errors)
    return errors
