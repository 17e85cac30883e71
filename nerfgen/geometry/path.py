"""Cameras around an object: orbits, grids of angles, positions to look from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real

from nerfgen.geometry.camera import Array, Cameras, intrinsic_matrix
from nerfgen.geometry.pose import rigid, turned_camera

Vector = Real[Array, "3"] | Sequence[float]

UP = (0.0, 1.0, 0.0)
# Sine of the angle between viewing direction and ``up`` below which they count as parallel.
_PARALLEL = 1e-6


def framing_intrinsics(distance: Real[Array, "*views"] | float, size: int) -> Float[np.ndarray, "*views 3 3"]:
    """Pinhole matrix with which the unit sphere at ``distance`` fills an image of ``size`` pixels."""
    distance = np.asarray(distance, float)
    focal = 0.5 * size * np.sqrt(np.maximum(distance**2 - 1, 0.1))
    return intrinsic_matrix(focal, np.full((*distance.shape, 2), size / 2))


def field_intrinsics(degrees: Real[Array, "*views"] | float) -> Float[np.ndarray, "*views 3 3"]:
    """Pinhole matrix of an image of size 1 with a field of view of ``degrees``."""
    degrees = np.asarray(degrees, float)
    return intrinsic_matrix(0.5 / np.tan(np.radians(degrees) / 2), np.full((*degrees.shape, 2), 0.5))


def field_of_view(intrinsics: Float[Array, "*views 3 3"]) -> Float[np.ndarray, "*views"]:
    """Vertical field of view in degrees of an image of size 1; the inverse of :func:`field_intrinsics`."""
    return np.asarray(np.degrees(2 * np.arctan(0.5 / np.asarray(intrinsics)[..., 1, 1])))


def angle_grid(yaw: Sequence[float], pitch: Sequence[float]) -> Float[np.ndarray, "views 2"]:
    """Every yaw at every pitch, by pitch."""
    return np.array([(y, p) for p in pitch for y in yaw], float).reshape(-1, 2)


def orbit_angles(count: int, turn: float, pitch: float = 0.0) -> Float[np.ndarray, "count 2"]:
    """Yaw and pitch along a closed path of ``count`` views, in degrees; the first view would follow the last.

    Args:
        turn: 180 and more is a full turn at constant pitch. Less is a swing by this angle to either side, and by a
            quarter of it up and down around ``pitch``.
    """
    phase = 2 * np.pi * np.arange(count) / count
    if turn >= 180:
        return np.stack([np.degrees(phase), np.full(count, float(pitch))], axis=-1)
    return np.stack([turn * np.sin(phase), pitch + 0.25 * turn * np.cos(phase)], axis=-1)


def turned_cameras(
    yaw: Real[Array, "views"], pitch: Real[Array, "#views"] | float, distance: float, fov: float = 0.0
) -> Cameras:
    """Cameras at ``distance`` from the origin that show the object turned, see :func:`turned_camera`.

    Args:
        fov: field of view in degrees; 0: the unit sphere fills the image.
    """
    poses = turned_camera(yaw, pitch, distance)
    return Cameras(_intrinsics(np.full(len(poses), float(distance)), fov), poses)


def turned_views(
    yaw: Real[Array, "views"], pitch: Real[Array, "#views"] | float, distance: float, size: int
) -> tuple[Float[np.ndarray, "views 3 3"], Float[np.ndarray, "views 4 4"]]:
    """:func:`turned_cameras` as intrinsics of images of ``size`` pixels, and poses."""
    cameras = turned_cameras(yaw, pitch, distance)
    return cameras.matrices(size), cameras.cam_to_world


def pose_at(position: Vector, direction: Vector, up: Vector = UP) -> Float[np.ndarray, "4 4"]:
    """``cam_to_world`` of a camera at ``position`` that looks along ``direction``, with ``up`` up in its image.

    Where the two are parallel, the world's z (or y, for a view along z) replaces ``up``: it points up in the image if
    the camera looks along ``up``, and down if it looks against it, as in :func:`turned_camera` at pitches of -90 and 90
    degrees.

    Raises:
        ValueError: ``direction`` or ``up`` has length 0.
    """
    forward, upright = _unit(direction), _unit(up)
    right = np.cross(forward, upright)
    if np.linalg.norm(right) < _PARALLEL:
        axis = np.eye(3)[2 if abs(forward[2]) < 0.5 else 1]
        right = np.cross(forward, axis * np.sign(forward @ upright))
    right = _unit(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=-1)
    return rigid(rotation, np.asarray(position, float))


def camera_at(
    position: Vector,
    direction: Vector | None = None,
    fov: float = 0.0,
    up: Vector = UP,
) -> Cameras:
    """One camera, by its position and viewing direction in the world.

    Args:
        direction: of any length; None: towards the origin.
        fov: field of view in degrees; 0: the unit sphere would fill the image if it were in the middle.
        up: see :func:`pose_at`.

    Raises:
        ValueError: ``direction`` or ``up`` has length 0.
    """
    position = np.asarray(position, float)
    pose = pose_at(position, -position if direction is None else direction, up)
    distance = np.array([np.linalg.norm(position)])
    return Cameras(_intrinsics(distance, fov), pose[None])


def _intrinsics(distance: Float[np.ndarray, "views"], fov: float) -> Float[np.ndarray, "views 3 3"]:
    return field_intrinsics(np.full(len(distance), fov)) if fov else framing_intrinsics(distance, 1)


def _unit(vector: Vector) -> Float[np.ndarray, "3"]:
    vector = np.asarray(vector, float)
    length = float(np.linalg.norm(vector))
    if not length:
        raise ValueError("a vector of length 0 has no direction")
    return vector / length
