"""Rotations, rigid motions and small corrections of cameras. Arrays as in :mod:`nerfgen.geometry.camera`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

from nerfgen.geometry.camera import Array, array_namespace, matmul

# A camera that looks at a frontal object: world axes (x right, y up, z to the viewer) in OpenCV axes.
FRONTAL_ROTATION = np.diag([1.0, -1.0, -1.0])
# Masks of the focal lengths in a pinhole matrix, and of the translation in a pose.
_FOCAL = np.diag([1.0, 1.0, 0.0])
_TRANSLATION = np.outer([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0])


def skew(vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """The matrix [v]x with [v]x a = v x a."""
    xp = array_namespace(vector)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = xp.zeros_like(x)
    return xp.stack(
        [xp.stack([zero, -z, y], -1), xp.stack([z, zero, -x], -1), xp.stack([-y, x, zero], -1)], axis=-2
    )


def rotation_from_vector(vector: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rodrigues' formula: rotation by |vector| radians about its direction.

    Differentiable at zero, where the series of sin(a)/a and (1 - cos(a))/a^2 is used.
    """
    xp = array_namespace(vector)
    squared = xp.sum(vector * vector, axis=-1)[..., None, None]
    small = squared < 1e-8
    safe = xp.where(small, 1.0, squared)
    angle = xp.sqrt(safe)
    first = xp.where(small, 1 - squared / 6, xp.sin(angle) / angle)
    second = xp.where(small, 0.5 - squared / 24, (1 - xp.cos(angle)) / safe)
    cross = skew(vector)
    identity = xp.broadcast_to(xp.eye(3, dtype=cross.dtype), cross.shape)
    return identity + first * cross + second * matmul(cross, cross)


def rotation_angle(
    first: Float[Array, "*batch 3 3"], second: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch"]:
    """Angle in degrees of the rotation that takes ``first`` to ``second``."""
    xp = array_namespace(first, second)
    # From the chord |A - B|_F = 2 sqrt(2) sin(angle / 2): accurate near zero, unlike the trace.
    chord = xp.sqrt(xp.sum((first - second) ** 2, axis=(-2, -1)))
    return xp.degrees(2 * xp.arcsin(xp.clip(chord / np.sqrt(8.0), 0.0, 1.0)))


def rigid(
    rotation: Float[Array, "*batch 3 3"], translation: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 4 4"]:
    """The 4 x 4 matrix of x -> rotation x + translation."""
    xp = array_namespace(rotation, translation)
    top = xp.concatenate([rotation, translation[..., None]], axis=-1)
    row = xp.asarray([0.0, 0.0, 0.0, 1.0], dtype=top.dtype)
    return xp.concatenate([top, xp.broadcast_to(row, (*top.shape[:-2], 1, 4))], axis=-2)


def invert_rigid(pose: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 4 4"]:
    """Inverse of a rigid motion (no scale): camera-to-world to world-to-camera and back."""
    xp = array_namespace(pose)
    rotation = xp.swapaxes(pose[..., :3, :3], -1, -2)
    return rigid(rotation, -matmul(rotation, pose[..., :3, 3:])[..., 0])


def turned_camera(
    yaw: Real[Array, "*#batch"] | float,
    pitch: Real[Array, "*#batch"] | float,
    distance: Real[Array, "*#batch"] | float,
    roll: Real[Array, "*#batch"] | float = 0.0,
) -> Float[np.ndarray, "*batch 4 4"]:
    """``cam_to_world`` of a camera at ``distance`` from the origin that shows the object turned.

    Angles in degrees. The object turns in front of a fixed camera: first by ``yaw`` about +y (a face turns
    to the viewer's right), then by ``pitch`` about the viewer's +x (it nods: it is seen from above),
    then by ``roll`` about the viewer's +z (counter-clockwise in the image).
    """
    yaw, pitch, roll, distance = np.broadcast_arrays(
        *(np.asarray(a, float) for a in (yaw, pitch, roll, distance))
    )
    axes = np.eye(3)
    turn = (
        rotation_from_vector(np.radians(roll)[..., None] * axes[2])
        @ rotation_from_vector(np.radians(pitch)[..., None] * axes[0])
        @ rotation_from_vector(np.radians(yaw)[..., None] * axes[1])
    )
    translation = distance[..., None] * axes[2]
    return invert_rigid(rigid(FRONTAL_ROTATION @ turn, translation))


def yaw_pitch_roll(cam_to_world: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 3"]:
    """(yaw, pitch, roll) in degrees as :func:`turned_camera` defines them, of any camera."""
    turn = FRONTAL_ROTATION @ np.swapaxes(np.asarray(cam_to_world)[..., :3, :3], -1, -2)
    # turn = Rz(roll) Rx(pitch) Ry(yaw); its last row is (-cos p sin y, sin p, cos p cos y).
    pitch = np.arcsin(np.clip(turn[..., 2, 1], -1, 1))
    yaw = np.arctan2(-turn[..., 2, 0], turn[..., 2, 2])
    roll = np.arctan2(-turn[..., 0, 1], turn[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def aimed_at_origin(cam_to_world: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 4 4"]:
    """Cameras rotated in place by the smallest angle that puts the world's origin on their optical axis.

    Only the position of objects in the image changes.
    """
    cam_to_world = np.asarray(cam_to_world, float)
    rotation, position = cam_to_world[..., :3, :3], cam_to_world[..., :3, 3]
    # The origin in the camera's frame; the rotation that takes the optical axis there.
    origin = -(np.swapaxes(rotation, -1, -2) @ position[..., None])[..., 0]
    origin = origin / np.linalg.norm(origin, axis=-1, keepdims=True)
    across = np.cross(np.broadcast_to([0.0, 0.0, 1.0], origin.shape), origin)
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    angle = np.arctan2(sine, origin[..., 2:])
    return rigid(rotation @ rotation_from_vector(across / np.maximum(sine, 1e-12) * angle), position)


def similarity_between(
    source: Float[np.ndarray, "points 3"], target: Float[np.ndarray, "points 3"]
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Least-squares (scale, rotation, translation) with target ~ scale * rotation source + translation.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    source, target = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum() / (source**2).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def corrected_cameras(
    cam_to_world: Float[Array, "images 4 4"], corrections: Float[Array, "images 6"], mean: Float[Array, "6"]
) -> Float[Array, "images 4 4"]:
    """Cameras moved by their corrections: rotation about the world origin (radians), then translation.

    The ``mean`` of all corrections is subtracted, which fixes the gauge: moving all cameras and the world together
    changes no rendering.
    """
    free = corrections - mean[None]
    return matmul(rigid(rotation_from_vector(free[..., :3]), free[..., 3:]), cam_to_world)


def with_focal(
    intrinsics: Float[Array, "images 3 3"],
    cam_to_world: Float[Array, "images 4 4"],
    factor: Float[Array, ""] | Float[Array, "images 1 1"] | float,
) -> tuple[Float[Array, "images 3 3"], Float[Array, "images 4 4"]]:
    """Focal lengths and distances from the world origin times ``factor``: only the perspective changes."""
    change = factor - 1
    return intrinsics * (1 + change * _FOCAL[None]), cam_to_world * (1 + change * _TRANSLATION[None])
