"""Cameras about an object: orbits, grids of angles, places to look from. Reads no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from nerfgen.geometry.camera import Array, Cameras, intrinsic_matrix
from nerfgen.geometry.pose import rigid, turned_camera

UP = (0.0, 1.0, 0.0)
# A viewing direction whose sine of the angle to the upright is below this has no upright of its own.
_UPRIGHT = 1e-6


def framing_intrinsics(distance: Float[Array, "*views"], size: int) -> Float[np.ndarray, "*views 3 3"]:
    """Pinhole matrix with which the unit sphere, seen from ``distance``, fills a picture of ``size`` pixels."""
    distance = np.asarray(distance, float)
    focal = 0.5 * size * np.sqrt(np.maximum(distance**2 - 1, 0.1))
    return intrinsic_matrix(focal, np.full((*distance.shape, 2), size / 2))


def field_intrinsics(degrees: Float[Array, "*views"]) -> Float[np.ndarray, "*views 3 3"]:
    """Pinhole matrix of a picture of edge 1 that shows ``degrees`` from one edge to the other."""
    degrees = np.asarray(degrees, float)
    return intrinsic_matrix(0.5 / np.tan(np.radians(degrees) / 2), np.full((*degrees.shape, 2), 0.5))


def field_of_view(intrinsics: Float[Array, "*views 3 3"]) -> Float[np.ndarray, "*views"]:
    """Degrees from the upper to the lower edge of a picture of edge 1; undoes :func:`field_intrinsics`."""
    return np.degrees(2 * np.arctan(0.5 / np.asarray(intrinsics)[..., 1, 1]))


def angle_grid(yaw: Sequence[float], pitch: Sequence[float]) -> Float[np.ndarray, "views 2"]:
    """Every yaw at every pitch, one pitch after the other."""
    return np.array([(y, p) for p in pitch for y in yaw], float).reshape(-1, 2)


def orbit_angles(count: int, turn: float, pitch: float = 0.0) -> Float[np.ndarray, "count 2"]:
    """Yaw and pitch along a closed path of ``count`` views, in degrees; the view after the last would be the first.

    Args:
        turn: 180 and more is all the way round, at the same pitch. Less is a swing so far to either side, with
            a quarter as much up and down about ``pitch``.
    """
    phase = 2 * np.pi * np.arange(count) / count
    if turn >= 180:
        return np.stack([np.degrees(phase), np.full(count, float(pitch))], axis=-1)
    return np.stack([turn * np.sin(phase), pitch + 0.25 * turn * np.cos(phase)], axis=-1)


def turned_cameras(
    yaw: Float[Array, "views"], pitch: Float[Array, "views"], distance: float, fov: float = 0.0
) -> Cameras:
    """Cameras at ``distance`` from the origin that see the object turned, see :func:`turned_camera`.

    Args:
        fov: degrees from edge to edge of the picture; 0: so that the unit sphere fills it.
    """
    poses = turned_camera(yaw, pitch, distance)
    return Cameras(_intrinsics(np.full(len(poses), float(distance)), fov), poses)


def turned_views(
    yaw: Float[Array, "views"], pitch: Float[Array, "views"], distance: float, size: int
) -> tuple[Float[np.ndarray, "views 3 3"], Float[np.ndarray, "views 4 4"]]:
    """:func:`turned_cameras` as intrinsics of pictures of ``size`` pixels, and poses."""
    cameras = turned_cameras(yaw, pitch, distance)
    return cameras.matrices(size), cameras.cam_to_world


def looking_camera(
    position: Float[Array, "3"], direction: Float[Array, "3"], up: Float[Array, "3"] = UP
) -> Float[np.ndarray, "4 4"]:
    """``cam_to_world`` of a camera at ``position`` that looks along ``direction``, with ``up`` up in its picture.

    Where the two are parallel, the world's z (or y, for a view along z) takes the place of ``up``: it points up in
    the picture if the camera looks along ``up``, down if against it, as with :func:`turned_camera` at pitches of -90
    and 90 degrees.

    Raises:
        ValueError: no direction, or no ``up``.
    """
    forward, upright = _unit(direction), _unit(up)
    right = np.cross(forward, upright)
    if np.linalg.norm(right) < _UPRIGHT:
        axis = np.eye(3)[2 if abs(forward[2]) < 0.5 else 1]
        right = np.cross(forward, axis * np.sign(forward @ upright))
    right = _unit(right)
    rotation = np.stack([right, np.cross(forward, right), forward], axis=-1)
    return rigid(rotation, np.asarray(position, float))


def looking(
    position: Float[Array, "3"],
    direction: Float[Array, "3"] | None = None,
    fov: float = 0.0,
    up: Float[Array, "3"] = UP,
) -> Cameras:
    """One camera, by its place and viewing direction in the world.

    Args:
        direction: of any length; None: towards the origin.
        fov: degrees from edge to edge of the picture; 0: so that the unit sphere would fill it, if it were in the
            middle.
        up: see :func:`looking_camera`.

    Raises:
        ValueError: no direction.
    """
    position = np.asarray(position, float)
    pose = looking_camera(position, -position if direction is None else direction, up)
    distance = np.array([np.linalg.norm(position)])
    return Cameras(_intrinsics(distance, fov), pose[None])


def _intrinsics(distance: Float[np.ndarray, "views"], fov: float) -> Float[np.ndarray, "views 3 3"]:
    return field_intrinsics(np.full(len(distance), fov)) if fov else framing_intrinsics(distance, 1)


def _unit(vector: Float[Array, "3"]) -> Float[np.ndarray, "3"]:
    vector = np.asarray(vector, float)
    length = float(np.linalg.norm(vector))
    if not length:
        raise ValueError("a vector of length 0 has no direction")
    return vector / length
