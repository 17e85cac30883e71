"""Camera paths as files: the JSON that nerfstudio's viewer writes and ``ns-render camera-path`` reads.

Its cameras have OpenGL axes (x right, y up, z backward), nerfgen's OpenCV axes; its ``fov`` is the vertical field of
view in degrees. World coordinates are not changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import OPENGL_AXES, Cameras, field_intrinsics, field_of_view
from nerfgen.interchange.entries import EntryError, pose
from nerfgen.interchange.posed_images import is_rigid_pose
from nerfgen.storage import atomic_path
from nerfgen.untrusted import excerpt, read_json_input


class CameraPath(NamedTuple):
    """Cameras over time.

    Attributes:
        cameras: one per frame.
        frames_per_second: frame rate.
        closed: whether the first camera follows the last.
    """

    cameras: Cameras
    frames_per_second: float = 24.0
    closed: bool = False


def read_camera_path(path: Path) -> CameraPath:
    """Read ``camera_path``, ``fps`` (24 by default) and ``is_cycle``; keyframes and the image size are ignored.

    Renderings are square and have the vertical field of view of the file, whatever its aspect ratio.

    Raises:
        InputError: the file is absent or invalid, or its cameras are not perspective; the key is named.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a camera path of nerfstudio (JSON)")
    content = read_json_input(path)
    if not (
        isinstance(content, dict) and isinstance(content.get("camera_path"), list) and content["camera_path"]
    ):
        raise InputError(
            f"{path}: camera_path must be a non-empty list of cameras; give a camera path of nerfstudio"
        )
    kind = content.get("camera_type") or "perspective"
    if str(kind).lower() != "perspective":
        raise InputError(f"{path}: camera_type is {excerpt(kind)}; only perspective cameras are supported")
    poses, fields = [], []
    for number, entry in enumerate(content["camera_path"]):
        key = f"{path}: camera_path[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{key} must be an object with camera_to_world and fov")
        poses.append(_pose(entry.get("camera_to_world"), f"{key}.camera_to_world") @ OPENGL_AXES)
        fields.append(_number(entry.get("fov"), f"{key}.fov", "vertical field of view, degrees", 180))
    rate = _number(content.get("fps", 24.0), f"{path}: fps", "frames per second", 1000, above=0.01)
    cameras = Cameras(field_intrinsics(np.array(fields)), np.stack(poses))
    return CameraPath(cameras, rate, bool(content.get("is_cycle", False)))


def write_camera_path(path: Path, camera_path: CameraPath, size: int) -> None:
    """Write a path for :func:`read_camera_path` and nerfstudio, atomically.

    Every camera is also a keyframe: nerfstudio's viewer can load and edit the path.

    Args:
        size: size of the renderings, pixels.

    Raises:
        ValueError: a principal point is not the image centre, which the format cannot represent.
    """
    cameras, rate = camera_path.cameras, camera_path.frames_per_second
    if not np.allclose(cameras.intrinsics[:, :2, 2], 0.5):
        raise ValueError(
            "a camera path cannot represent cameras whose principal point is not the image centre"
        )
    poses = (cameras.cam_to_world @ OPENGL_AXES).reshape(-1, 16).tolist()
    fields = field_of_view(cameras.intrinsics).tolist()
    content: dict[str, object] = {
        "camera_type": "perspective",
        "render_height": size,
        "render_width": size,
        "fps": rate,
        "seconds": len(poses) / rate,
        "is_cycle": camera_path.closed,
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
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _pose(value: Any, key: str) -> Float[np.ndarray, "4 4"]:
    """A rigid transformation from 16 or 12 numbers, row by row, flat or nested."""
    try:
        matrix = pose(value, "it")
    except EntryError as error:
        raise InputError(f"{key} must be 16 numbers, a 4 x 4 matrix row by row ({error})") from error
    if not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise InputError(f"{key}: the last row must be 0 0 0 1; write the matrix row by row")
    if not is_rigid_pose(matrix):
        raise InputError(
            f"{key} must be a rotation and a translation; it scales, shears or mirrors, or is too far"
        )
    return matrix


def _number(value: Any, key: str, meaning: str, below: float, *, above: float = 0.0) -> float:
    """A number above ``above`` and below ``below``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < below:
        raise InputError(f"{key} must be a number above {above:g} and below {below:g}: {meaning}")
    return float(value)
