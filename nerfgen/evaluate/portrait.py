"""Cameras that new objects are judged from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.field import Model
from nerfgen.generate import Views, render_views
from nerfgen.geometry import Cameras, framing_intrinsics, turned_camera
from nerfgen.parallel import Progress, silent

# Of a turntable's swing, and of its largest: landmarkers lose what turns further away.
_YAW_SHARE, _PITCH_SHARE, _LARGEST_SWING = 2 / 3, 1 / 3, 45.0
_OF_FRONT, _OF_ROUND = (0.0, 0.0), (45.0, 20.0)


def pose_limits(model: Model) -> Float[np.ndarray, "2"]:
    """How far yaw and pitch of turned samples go to either side, degrees."""
    return min(model.object_class.turn, _LARGEST_SWING) * np.array([_YAW_SHARE, _PITCH_SHARE])


def portrait_cameras(model: Model, angles: Float[np.ndarray, "views 2"], room: float = 1.0) -> Cameras:
    """Cameras at the model's distance that see the object turned by yaw and pitch.

    Args:
        room: what a picture shows, as a multiple of what the window of a photograph shows.
    """
    distance = np.full(len(angles), model.distance)
    intrinsics = framing_intrinsics(distance / (room * model.object_class.reach), 1)
    return Cameras(intrinsics, turned_camera(angles[:, 0], angles[:, 1], distance))


def portraits(
    model: Model,
    latents: Float[np.ndarray, "views latent"],
    angles: Float[np.ndarray, "views 2"],
    size: int,
    *,
    room: float = 1.0,
    antialias: int = 1,
    progress: Progress = silent,
) -> Views:
    """Codes as :func:`portrait_cameras` see them."""
    cameras = portrait_cameras(model, angles, room)
    return render_views(
        model,
        latents,
        cameras.matrices(size),
        cameras.cam_to_world,
        size,
        antialias=antialias,
        progress=progress,
    )


def usual_angles(model: Model, count: int) -> Float[np.ndarray, "views 2"]:
    """Yaw and pitch from which most of an object is seen, that many times: from the front, or, of objects that are seen
    from all round, from between front and side and a little from above."""
    return np.tile(_OF_ROUND if model.object_class.turn >= 180 else _OF_FRONT, (count, 1))
