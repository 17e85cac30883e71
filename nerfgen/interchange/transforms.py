"""``transforms.json`` of instant-ngp and nerfstudio: one static scene a file.

``transform_matrix`` takes OpenGL camera axes (x right, y up, z backward) to the world. Intrinsics stand in each frame
or once for all: ``fl_x``, ``fl_y``, ``cx``, ``cy`` in pixels of a picture of ``w`` x ``h``, or ``camera_angle_x``, the
horizontal angle of view in radians.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import OPENGL_AXES
from nerfgen.interchange.posed import Listed, PosedImages, images_beside
from nerfgen.photo import EXTENSIONS, Photograph, UnreadableImageError

NAME = "transforms.json"
# The files of one scene that is split into pictures to learn from and to judge by.
_SPLIT = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_PINHOLES = ("", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def finds(source: Path) -> bool:
    """Whether a folder holds such scenes, or a file is one."""
    if source.is_file():
        return source.suffix == ".json" and source.name.startswith("transforms")
    return next(_scenes(source), None) is not None


def read(source: Path, *, ignore_distortion: bool = False) -> tuple[list[Listed], list[str]]:
    """The frames of all scenes of a folder, those images beside them that no frame names, and the files read.

    A scene is one object, unless its frames name others (``instance``, as :func:`write` does).

    Args:
        source: a folder, or one file.
        ignore_distortion: take lenses that distort for pinholes.

    Raises:
        InputError: a file has other content, its cameras are no pinholes, or its images lie outside of the folder.
    """
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else sorted(_scenes(source))
    listed: list[Listed] = []
    companions: set[str] = set()
    for path in paths:
        content = _content(path)
        own = _own_instance(folder, path)
        for frame in content["frames"]:
            merged = {**content, **frame}
            _check_pinhole(path, merged, ignore_distortion)
            name = _image(folder, path, frame)
            mask = _beside(folder, path, frame.get("mask_path", ""))
            companions |= {mask, _beside(folder, path, frame.get("depth_file_path", ""))}
            listed.append(_frame(folder, path, merged, name, str(frame.get("instance", own)), mask))
    unlisted = images_beside(folder, [one.image for one in listed], companions)
    return (
        listed + [Listed(name, name) for name in unlisted],
        [path.relative_to(folder).as_posix() for path in paths],
    )


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write one scene for each object, in a folder of its name; where all have one image, one file for all.

    Args:
        names: where the images lie below ``folder``.
    """
    scenes = posed.by_instance()
    if all(len(rows) == 1 for rows in scenes.values()):
        write_scene(folder / NAME, _frames(folder, folder, posed, range(len(names)), names))
        return
    for instance, rows in scenes.items():
        own = folder / instance
        write_scene(own / NAME, _frames(folder, own, posed, rows, names))


def write_scene(path: Path, frames: Sequence[Mapping[str, Any]]) -> None:
    """Write one file from frames, see :func:`frame`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"camera_model": "PINHOLE", "frames": list(frames)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def frame(
    file_path: str,
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    cam_to_world: Float[np.ndarray, "4 4"],
    **others: str,
) -> dict[str, Any]:
    """One frame.

    Args:
        size: width and height, pixels.
        cam_to_world: OpenCV axes.
        others: further entries, such as ``mask_path``; empty ones are left out.
    """
    return {
        "file_path": file_path,
        **{name: value for name, value in others.items() if value},
        "fl_x": float(intrinsics[0, 0]),
        "fl_y": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]),
        "w": int(size[0]),
        "h": int(size[1]),
        "transform_matrix": (cam_to_world @ OPENGL_AXES).tolist(),
    }


def _frames(
    folder: Path, own: Path, posed: PosedImages, rows: Sequence[int], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Frames of some rows, for a file in the folder ``own``."""
    return [
        frame(
            Path(os.path.relpath(folder / names[row], own)).as_posix(),
            posed.intrinsics[row],
            (posed.image_size[row, 0], posed.image_size[row, 1]),
            posed.cam_to_world[row],
            instance=posed.instance[row],
        )
        for row in rows
    ]


def _scenes(folder: Path) -> Iterator[Path]:
    """The files of a folder; of one that is split in parts, all parts."""
    for path in folder.glob("**/transforms*.json"):
        whole = path.name == NAME
        part = path.name in _SPLIT and not (path.parent / NAME).is_file()
        if (whole or part) and not path.name.startswith("."):
            yield path


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = content["frames"]
        if not all(isinstance(one["file_path"], str) for one in frames):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is no transforms.json: it holds `frames`, each with file_path and transform_matrix"
        ) from error
    if not frames:
        raise InputError(f"{path} holds no frame")
    return content


def _own_instance(folder: Path, path: Path) -> str:
    """The name of a file's scene: its folder's."""
    below = path.parent.relative_to(folder).as_posix()
    return path.parent.resolve().name if below == "." else below


def _image(folder: Path, path: Path, frame: Mapping[str, Any]) -> str:
    """Path of a frame's image; where it has no suffix, that of the file that is there, or PNG."""
    name = _beside(folder, path, frame["file_path"])
    if PurePosixPath(name).suffix[1:].lower() in EXTENSIONS or (folder / name).is_file():
        return name
    there = [suffix for suffix in EXTENSIONS if (folder / f"{name}.{suffix}").is_file()]
    return f"{name}.{there[0] if there else 'png'}"


def _beside(folder: Path, path: Path, name: str) -> str:
    """A path that a file gives, relative to ``folder``; "" stays."""
    if not name:
        return ""
    given = Path(name.replace("\\", "/"))
    if given.is_absolute() and not given.is_relative_to(folder.absolute()):
        raise InputError(f"{path} names {name}, which is not in {folder}; make its paths relative")
    below = Path(os.path.relpath(given if given.is_absolute() else path.parent / given, folder))
    if ".." in below.parts:
        raise InputError(f"{path} names {name}, which is not in {folder}; give the folder that holds both")
    return below.as_posix()


def _check_pinhole(path: Path, frame: Mapping[str, Any], ignore_distortion: bool) -> None:
    model = str(frame.get("camera_model", ""))
    if model.upper() not in _PINHOLES or frame.get("is_fisheye"):
        raise InputError(
            f"{path}: {model or 'fisheye'} cameras are no pinholes; undistort the images first "
            "(for example with COLMAP's image_undistorter)"
        )
    strong = [name for name in _DISTORTION if frame.get(name)]
    if strong and not ignore_distortion:
        raise InputError(
            f"{path}: its lenses distort ({strong[0]} = {frame[strong[0]]}); undistort the images first (for example "
            "with COLMAP's image_undistorter), or give --ignore-distortion where it is little"
        )


def _frame(folder: Path, path: Path, frame: Mapping[str, Any], name: str, instance: str, mask: str) -> Listed:
    """What a frame says; entries of the file stand in for those that it lacks."""
    try:
        size = (float(frame.get("w", 0)), float(frame.get("h", 0)))
        if not min(size) > 0:
            size = _size(folder / name)
        intrinsics = _intrinsics(frame, size)
        matrix = frame.get("transform_matrix")
        pose = None if matrix is None else _square(matrix) @ OPENGL_AXES
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: the camera of {frame['file_path']} is no camera ({error})") from error
    return Listed(name, instance, intrinsics, size, pose, mask)


def _square(matrix: Any) -> Float[np.ndarray, "4 4"]:
    """A pose as 4 x 4 numbers; some files leave out the last row."""
    values = np.array(matrix, dtype=float)
    return np.vstack([values, [0.0, 0.0, 0.0, 1.0]]) if values.shape == (3, 4) else values.reshape(4, 4)


def _size(path: Path) -> tuple[float, float]:
    """Width and height of an image; a square where it can't be read, which is told elsewhere."""
    try:
        width, height = Photograph(path).size
        return float(width), float(height)
    except UnreadableImageError:
        return 1.0, 1.0


def _intrinsics(frame: Mapping[str, Any], size: tuple[float, float]) -> Float[np.ndarray, "3 3"] | None:
    """The pinhole matrix of a picture of ``size``; None where nothing says the focal length."""
    width, height = size
    focal = [_focal(frame, name, length) for name, length in (("x", width), ("y", height))]
    x, y = (value or next((other for other in focal if other), 0.0) for value in focal)
    if not x:
        return None
    center = float(frame.get("cx", width / 2)), float(frame.get("cy", height / 2))
    return np.array([[x, 0.0, center[0]], [0.0, y, center[1]], [0.0, 0.0, 1.0]])


def _focal(frame: Mapping[str, Any], axis: str, length: float) -> float:
    """Focal length along an axis, pixels; 0 where nothing says it."""
    if f"fl_{axis}" in frame:
        return float(frame[f"fl_{axis}"])
    angle = float(frame.get(f"camera_angle_{axis}", 0.0))
    return length / (2 * math.tan(angle / 2)) if angle else 0.0
