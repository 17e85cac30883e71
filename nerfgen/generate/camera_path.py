"""Camera paths as files: the JSON that nerfstudio's viewer writes and ``ns-render camera-path`` reads.

Its cameras have OpenGL axes (x right, y up, z backwards), ours OpenCV's; its ``fov`` is in degrees from the upper to
the lower edge. World coordinates are taken as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.artifact import atomic_path
from nerfgen.errors import InputError
from nerfgen.geometry import OPENGL_AXES, Cameras, field_intrinsics, field_of_view

# Rotations may be so far from orthonormal, for files with few decimals.
_ROUNDING = 1e-3


class CameraPath(NamedTuple):
    """Cameras in time.

    Attributes:
        cameras: one a frame.
        frames_per_second: how fast they follow each other.
        closed: whether the first follows the last.
    """

    cameras: Cameras
    frames_per_second: float = 24.0
    closed: bool = False


def read_camera_path(path: Path) -> CameraPath:
    """Read ``camera_path``, ``fps`` (24 if absent) and ``is_cycle``; keyframes and the picture's size are not used.

    Pictures are square: what a file's wider or narrower picture shows from its upper to its lower edge.

    Raises:
        InputError: the file is absent, no such path, or has cameras that are not perspective; it names the key.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; give a camera path, nerfstudio's JSON") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); give a camera path of nerfstudio") from error
    if not isinstance(told, dict) or not isinstance(told.get("camera_path"), list) or not told["camera_path"]:
        raise InputError(f"{path}: camera_path must be a list of cameras; give a camera path of nerfstudio")
    kind = told.get("camera_type", "perspective")
    if str(kind).lower() != "perspective":
        raise InputError(f"{path}: camera_type is {kind}, but only perspective cameras are rendered")
    poses, fields = [], []
    for number, entry in enumerate(told["camera_path"]):
        key = f"{path}: camera_path[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{key} must be an object with camera_to_world and fov")
        poses.append(_pose(entry.get("camera_to_world"), f"{key}.camera_to_world") @ OPENGL_AXES)
        fields.append(
            _number(entry.get("fov"), f"{key}.fov", "degrees from the upper to the lower edge", 180)
        )
    rate = _number(told.get("fps", 24.0), f"{path}: fps", "frames a second", np.inf)
    cameras = Cameras(field_intrinsics(np.array(fields)), np.stack(poses))
    return CameraPath(cameras, rate, bool(told.get("is_cycle", False)))


def write_camera_path(path: Path, shown: CameraPath, size: int) -> None:
    """Write a path that :func:`read_camera_path` and nerfstudio read, whole or not at all.

    Every camera is a keyframe too, so that nerfstudio's viewer can load and change the path.

    Args:
        size: edge of the pictures, pixels.

    Raises:
        ValueError: a camera does not look at the middle of its picture, which these files can't say.
    """
    cameras, rate = shown.cameras, shown.frames_per_second
    if not np.allclose(cameras.intrinsics[:, :2, 2], 0.5):
        raise ValueError(
            "only cameras whose principal point is the picture's centre can be written as a path"
        )
    poses = (cameras.cam_to_world @ OPENGL_AXES).reshape(-1, 16).tolist()
    fields = field_of_view(cameras.intrinsics).tolist()
    told: dict[str, Any] = {
        "camera_type": "perspective",
        "render_height": size,
        "render_width": size,
        "fps": rate,
        "seconds": len(poses) / rate,
        "is_cycle": shown.closed,
        "smoothness_value": 0.0,
        "default_fov": fields[0],
        "default_transition_sec": 1 / rate,
        "keyframes": [
            {"matrix": pose, "fov": fov, "aspect": 1.0} for pose, fov in zip(poses, fields, strict=True)
        ],
        "camera_path": [
            {"camera_to_world": pose, "fov": fov, "aspect": 1.0}
            for pose, fov in zip(poses, fields, strict=True)
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(told) + "\n", encoding="utf-8")


def _pose(value: Any, key: str) -> Float[np.ndarray, "4 4"]:
    """A rigid motion from 16 or 12 numbers, row by row, flat or nested."""
    try:
        matrix = np.array(value)
    except ValueError:  # rows of different lengths
        matrix = np.zeros(0)
    if matrix.dtype.kind not in "if" or matrix.size not in (12, 16) or not np.isfinite(matrix).all():
        raise InputError(f"{key} must be 16 numbers, a 4 x 4 matrix row by row")
    pose = np.eye(4)
    pose[: matrix.size // 4] = matrix.reshape(-1, 4)
    rotation = pose[:3, :3]
    if not np.allclose(pose[3], [0, 0, 0, 1]):
        raise InputError(f"{key}: the last row must be 0 0 0 1; write the matrix row by row")
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=_ROUNDING) or np.linalg.det(rotation) < 0:
        raise InputError(f"{key} must be a rotation and a position; it scales, shears or mirrors")
    return pose


def _number(value: Any, key: str, meaning: str, below: float) -> float:
    """A number between 0 and ``below``, both excluded."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < below:
        limit = f" and below {below:g}" if np.isfinite(below) else ""
        raise InputError(f"{key} must be a number above 0{limit}: {meaning}")
    return float(value)
