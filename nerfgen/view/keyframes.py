"""Camera paths through keyframes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerfgen.geometry import Cameras, pose_at


def path_through(keyframes: Sequence[Cameras], frames: int) -> Cameras:
    """A smooth path through cameras, in order.

    Positions turn about the origin: their direction and distance follow a spline each, so that a path from one side of
    an object to the other does not pass through it. Viewing directions and fields of view follow splines too.

    Args:
        keyframes: one camera each, at least two.
        frames: of each part, from one camera to the next.
    """
    from scipy.interpolate import make_interp_spline

    poses = np.concatenate([camera.cam_to_world for camera in keyframes])
    matrices = np.concatenate([camera.intrinsics for camera in keyframes])
    times = np.arange(len(poses), dtype=float)
    moments = np.linspace(0, len(poses) - 1, (len(poses) - 1) * frames + 1)
    degree = min(3, len(poses) - 1)

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.asarray(make_interp_spline(times, values, k=degree)(moments))

    distances = np.linalg.norm(poses[:, :3, 3], axis=1)
    directions = smooth(poses[:, :3, 3] / np.maximum(distances, 1e-9)[:, None])
    lengths = np.maximum(np.linalg.norm(directions, axis=1), 1e-9)
    positions = directions / lengths[:, None] * smooth(distances)[:, None]
    forward = smooth(poses[:, :3, 2])
    path = [pose_at(position, towards) for position, towards in zip(positions, forward, strict=True)]
    return Cameras(smooth(matrices.reshape(-1, 9)).reshape(-1, 3, 3), np.stack(path))
