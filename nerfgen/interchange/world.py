"""From the world of other people's cameras to ours: which axes point up and to the front, where the middle is, how
long a unit is.

Our world has y up, z to the front of the object, which lies about in the unit sphere around the origin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import rigid
from nerfgen.interchange.posed import PosedImages

AXES = {
    f"{sign}{name}": float(f"{sign}1") * np.eye(3)[place]
    for place, name in enumerate("xyz")
    for sign in ("+", "-")
}


def axis_name(option: str, text: str) -> str:
    """The axis of words such as ``+y`` or ``-z``; ``z`` is ``+z``.

    Raises:
        InputError: other words.
    """
    name = text if text[:1] in ("+", "-") else f"+{text}"
    if name not in AXES:
        raise InputError(f"{option} {text}: give one of {', '.join(AXES)}")
    return name


def turn_to_ours(up: str, front: str) -> Float[np.ndarray, "3 3"]:
    """The rotation from a world with these axes up and to the front to ours, where they are +y and +z.

    Raises:
        InputError: both lie on one line.
    """
    upward, forward = AXES[up], AXES[front]
    if upward @ forward:
        raise InputError(f"--up {up} and --front {front} are the same line; give two different axes")
    return np.stack([np.cross(upward, forward), upward, forward])


def upward_axis(cam_to_world: Float[np.ndarray, "views 4 4"]) -> str:
    """The axis nearest to the mean of what is up in the pictures; ``+y`` where there is no picture.

    Cameras are seldom rolled, so that what is up in their pictures leans to the world's up.
    """
    if not len(cam_to_world):
        return "+y"
    mean = -cam_to_world[:, :3, 1].mean(axis=0)
    return max(AXES, key=lambda name: float(AXES[name] @ mean))


def watched_point(cam_to_world: Float[np.ndarray, "views 4 4"]) -> Float[np.ndarray, " 3"]:
    """The point nearest to all optical axes: argmin_p sum_k |(I - a_k a_k^T)(p - o_k)|^2.

    Where the axes are parallel, the point is not determined along them: the solution of least norm is taken.
    """
    across = np.eye(3) - cam_to_world[:, :3, 2, None] * cam_to_world[:, None, :3, 2]
    target = (across @ cam_to_world[:, :3, 3:]).sum(axis=0)[:, 0]
    return np.linalg.lstsq(across.sum(axis=0), target, rcond=1e-6)[0]


def shown_radius(
    intrinsics: Float[np.ndarray, "views 3 3"],
    image_size: np.ndarray,
    cam_to_world: Float[np.ndarray, "views 4 4"],
) -> Float[np.ndarray, "views"]:
    """Radius of the sphere about the origin that just fits each picture, were it aimed there: d t / sqrt(1 + t^2).

    d is the camera's distance and t the tangent of half its smaller angle of view.
    """
    focal = intrinsics[:, (0, 1), (0, 1)]
    tangent = (image_size / (2 * focal)).min(axis=1)
    return np.linalg.norm(cam_to_world[:, :3, 3], axis=1) * tangent / np.sqrt(1 + tangent**2)


def placed(
    posed: PosedImages,
    turn: Float[np.ndarray, "3 3"],
    scale: float = 1.0,
    center: Float[np.ndarray, " 3"] | None = None,
) -> PosedImages:
    """The cameras in the world x' = scale turn (x - center)."""
    rotation, position = posed.cam_to_world[:, :3, :3], posed.cam_to_world[:, :3, 3]
    moved = position if center is None else position - center
    poses = rigid(turn @ rotation, scale * (moved @ turn.T))
    poses[np.isnan(posed.cam_to_world).any(axis=(1, 2))] = np.nan
    return replace(posed, cam_to_world=poses)
