"""Axes, origin and scale of another program's world in terms of nerfgen's.

In nerfgen's world, y points up and z to the front of the object, which lies roughly in the unit sphere around the
origin.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.geometry import rigid
from nerfgen.interchange.posed_images import PosedImages

AXES = {
    f"{sign}{name}": float(f"{sign}1") * np.eye(3)[place]
    for place, name in enumerate("xyz")
    for sign in ("+", "-")
}

# Cameras on an arc of 45 degrees or less do not determine a plane: the least spread of their axes in it.
_LEAST_SPREAD = 0.2
# How much more the vertical image axes must spread in a plane than the horizontal ones where cameras are rolled.
_ROLLED_LEAD = 0.1
# Largest standard error of a direction that counts as measured, radians.
_LARGEST_ERROR = 0.06
# Least length of the mean up direction of images that agree, and of its component along the normal: 5 degrees.
_LEAST_LENGTH = 0.5
_LEAST_SIGN = 0.09


def axis_name(field: str, text: str) -> str:
    """The axis that text such as ``+y``, ``-z`` or ``z`` names.

    Args:
        field: name of the setting, for the message.

    Raises:
        InputError: the text names no axis.
    """
    name = text if text[:1] in ("+", "-") else f"+{text}"
    if name not in AXES:
        raise InputError(f"`{field}` is {text!r}; choose one of {', '.join(AXES)}")
    return name


def axes_rotation(up: str, front: str) -> Float[np.ndarray, "3 3"]:
    """The rotation from a world with these up and front axes to nerfgen's, where they are +y and +z.

    Raises:
        InputError: the axes are parallel.
    """
    upward, forward = AXES[up], AXES[front]
    if upward @ forward:
        raise InputError(f"`up` {up} and `front` {front} are parallel; choose two different axes")
    return np.stack([np.cross(upward, forward), upward, forward])


class UpDirection(NamedTuple):
    """Which way is up in a world, as its cameras show it.

    Attributes:
        direction: unit vector.
        is_measured: whether the cameras surround something, so that the direction is exact to a few degrees.
        is_certain: whether they tell up from other directions at all.
    """

    direction: Float[np.ndarray, "3"]
    is_measured: bool
    is_certain: bool


def estimate_up(cam_to_world: Float[np.ndarray, "views 4 4"]) -> UpDirection:
    """The direction that is up for most cameras; +y without cameras.

    Cameras around an object are seldom rolled, or all by a quarter turn (a phone held upright whose images are stored
    landscape): their horizontal, or vertical, image axes lie in one plane, whose normal is up. Of the two, the axes
    that spread more within a plane decide. Rolled cameras are taken to look down rather than up. For cameras that
    hardly turn, it is the mean up direction of the images.
    """
    if not len(cam_to_world):
        return UpDirection(AXES["+y"], False, False)
    right, down, forward = (cam_to_world[:, :3, axis] for axis in range(3))
    upward, above = -down.mean(axis=0), -forward.mean(axis=0)
    level, rolled = _plane(right), _plane(down)
    length = float(np.linalg.norm(upward))
    mean = upward / length if length else AXES["+y"]
    if max(level.spread, rolled.spread) < _LEAST_SPREAD:
        return UpDirection(mean, False, length > _LEAST_LENGTH)
    is_rolled = rolled.spread > level.spread + _ROLLED_LEAD
    plane = rolled if is_rolled else level
    signs = [float(each @ plane.normal) for each in ([above] if is_rolled else [upward, above])]
    sign = next((sign for sign in signs if abs(sign) > _LEAST_SIGN), None)
    if sign is None:
        return UpDirection(mean, False, False)
    return UpDirection(plane.normal * np.sign(sign), plane.error < _LARGEST_ERROR, True)


def nearest_axis(direction: Float[np.ndarray, "3"]) -> str:
    """Name of the axis nearest to a direction."""
    return max(AXES, key=lambda name: float(AXES[name] @ direction))


def degrees_between(first: Float[np.ndarray, "3"], second: Float[np.ndarray, "3"]) -> float:
    """Angle between two unit vectors."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))


def leveling_rotation(direction: Float[np.ndarray, "3"], up: str) -> Float[np.ndarray, "3 3"]:
    """A rotation that takes a direction to an axis, by the smallest angle if that is below 90 degrees."""
    target = AXES[up]
    if direction @ target < 0:
        half_turn = 2 * np.diag(np.roll(np.abs(target), 1)) - np.eye(3)
        return leveling_rotation(half_turn @ direction, up) @ half_turn
    x, y, z = np.cross(direction, target)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + direction @ target)


class _Plane(NamedTuple):
    """A plane through the origin near unit vectors.

    Attributes:
        normal: unit vector.
        spread: how much more the vectors spread within the plane, in its narrow direction, than across it.
        error: standard error of the normal, radians.
    """

    normal: Float[np.ndarray, "3"]
    spread: float
    error: float


def _plane(vectors: Float[np.ndarray, "views 3"]) -> _Plane:
    values, axes = np.linalg.eigh(vectors.T @ vectors / len(vectors))
    across, within = np.sqrt(np.maximum(values[:2], 0.0))
    error = across / (within * np.sqrt(len(vectors) - 2)) if within > 0 and len(vectors) > 2 else np.inf
    return _Plane(axes[:, 0], float(within - across), float(error))


def look_at_point(cam_to_world: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, "3"]:
    """The point nearest to all optical axes: argmin_p sum_k |(I - a_k a_k^T)(p - o_k)|^2.

    Parallel axes do not determine the point along them; the solution of least norm is returned.
    """
    across = np.eye(3) - cam_to_world[:, :3, 2, None] * cam_to_world[:, None, :3, 2]
    target = (across @ cam_to_world[:, :3, 3:]).sum(axis=0)[:, 0]
    return np.linalg.lstsq(across.sum(axis=0), target, rcond=1e-6)[0]


def visible_radius(
    intrinsics: Float[np.ndarray, "views 3 3"],
    image_size: Int[np.ndarray, "views 2"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
) -> Float[np.ndarray, "views"]:
    """Radius of the largest sphere around the origin inside each image's view if the camera looked at the origin:
    d t / sqrt(1 + t^2), with the camera's distance d and the tangent t of half its smaller angle of view."""
    focal = intrinsics[:, (0, 1), (0, 1)]
    tangent = (image_size / (2 * focal)).min(axis=1)
    return np.linalg.norm(cam_to_world[:, :3, 3], axis=1) * tangent / np.sqrt(1 + tangent**2)


def transform_world(
    posed: PosedImages,
    rotation: Float[np.ndarray, "*images 3 3"],
    scale: float | Float[np.ndarray, " images"] = 1.0,
) -> PosedImages:
    """The cameras in the world x' = scale rotation x; a rotation and a scale for all images, or for each."""
    orientation, position = posed.cam_to_world[:, :3, :3], posed.cam_to_world[:, :3, 3]
    moved = (rotation @ position[..., None])[..., 0]
    poses = rigid(rotation @ orientation, np.asarray(scale)[..., None] * moved)
    poses[np.isnan(posed.cam_to_world).any(axis=(1, 2))] = np.nan
    return replace(posed, cam_to_world=poses)
