"""Axes, origin and scale of another program's world in terms of nerfgen's.

In nerfgen's world, y points up and z to the front of the object, which lies roughly in the unit sphere around the
origin.
"""

from __future__ import annotations

from dataclasses import replace

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


def estimate_up_axis(cam_to_world: Float[np.ndarray, "views 4 4"]) -> str:
    """The axis nearest to the mean up direction of the images; ``+y`` without images.

    Cameras are seldom rolled: the up directions of their images are close to the world's.
    """
    if not len(cam_to_world):
        return "+y"
    mean = -cam_to_world[:, :3, 1].mean(axis=0)
    return max(AXES, key=lambda name: float(AXES[name] @ mean))


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
    rotation: Float[np.ndarray, "3 3"],
    scale: float = 1.0,
    center: Float[np.ndarray, "3"] | None = None,
) -> PosedImages:
    """The cameras in the world x' = scale rotation (x - center)."""
    orientation, position = posed.cam_to_world[:, :3, :3], posed.cam_to_world[:, :3, 3]
    moved = position if center is None else position - center
    poses = rigid(rotation @ orientation, scale * (moved @ rotation.T))
    poses[np.isnan(posed.cam_to_world).any(axis=(1, 2))] = np.nan
    return replace(posed, cam_to_world=poses)
