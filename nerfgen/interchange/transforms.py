"""``transforms.json`` of instant-ngp and nerfstudio: one static scene per file.

``transform_matrix`` takes OpenGL camera axes (x right, y up, z backward) to the world. Intrinsics are given per frame
or once per file: ``fl_x``, ``fl_y``, ``cx``, ``cy`` in pixels of an image of ``w`` x ``h``, or ``camera_angle_x``, the
horizontal angle of view in radians.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import OPENGL_AXES
from nerfgen.image import EXTENSIONS, InputImage, UnreadableImageError
from nerfgen.interchange.posed_images import ListedImage, PosedImages, unlisted_images
from nerfgen.storage import Record
from nerfgen.untrusted import safe_relative_path

NAME = "transforms.json"
# The files of a scene that is split into training and evaluation images.
_SPLIT = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_PINHOLES = ("", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def matches(source: Path) -> bool:
    """Whether a folder has such scenes, or a file is one."""
    if source.is_file():
        return source.suffix == ".json" and source.name.startswith("transforms")
    return next(_scenes(source), None) is not None


def read(source: Path, *, ignore_distortion: bool = False) -> tuple[list[ListedImage], list[str]]:
    """The frames of all scenes of a folder, the images beside them that no frame lists, and the files read.

    A scene is one object unless its frames name several (``instance``, as :func:`write` does).

    Args:
        source: a folder, or one file.
        ignore_distortion: treat distorted lenses as pinholes.

    Raises:
        InputError: a file is invalid, a camera is not a pinhole, or a path is unsafe or outside the folder.
    """
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else sorted(_scenes(source))
    listed: list[ListedImage] = []
    companions: set[str] = set()
    for path in paths:
        content = _content(path)
        scene = _scene_name(folder, path)
        for entry in content["frames"]:
            merged = {**content, **entry}
            _check_pinhole(path, merged, ignore_distortion)
            name = _image(folder, path, entry)
            mask = _path_in_folder(folder, path, entry.get("mask_path", ""))
            companions |= {mask, _path_in_folder(folder, path, entry.get("depth_file_path", ""))}
            instance = safe_relative_path(str(entry["instance"]), path) if "instance" in entry else scene
            listed.append(_listed(folder, path, merged, name, instance, mask))
    unlisted = unlisted_images(folder, [one.image for one in listed], companions)
    return (
        listed + [ListedImage(name, name) for name in unlisted],
        [path.relative_to(folder).as_posix() for path in paths],
    )


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write one scene per object, in a folder of its name; if every object has one image, one file for all.

    Args:
        names: paths of the images in ``folder``.
    """
    scenes = posed.by_instance()
    if all(len(rows) == 1 for rows in scenes.values()):
        write_scene(folder / NAME, _frames(folder, folder, posed, range(len(names)), names))
        return
    for instance, rows in scenes.items():
        scene = folder / instance
        write_scene(scene / NAME, _frames(folder, scene, posed, rows, names))


def write_scene(path: Path, frames: Sequence[Record]) -> None:
    """Write one file of frames; see :func:`frame`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"camera_model": "PINHOLE", "frames": list(frames)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def frame(
    file_path: str,
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    cam_to_world: Float[np.ndarray, "4 4"],
    **others: str,
) -> Record:
    """One frame.

    Args:
        file_path: path of the image, relative to the file.
        intrinsics: pinhole matrix, pixels.
        size: width and height, pixels.
        cam_to_world: pose, OpenCV axes.
        others: further entries, such as ``mask_path``; empty ones are omitted.
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
    folder: Path, scene: Path, posed: PosedImages, rows: Sequence[int], names: Sequence[str]
) -> list[Record]:
    """Frames of some images, for a file in the folder ``scene``."""
    return [
        frame(
            Path(os.path.relpath(folder / names[row], scene)).as_posix(),
            posed.intrinsics[row],
            (posed.image_size[row, 0], posed.image_size[row, 1]),
            posed.cam_to_world[row],
            instance=posed.instance[row],
        )
        for row in rows
    ]


def _scenes(folder: Path) -> Iterator[Path]:
    """The scene files of a folder: whole scenes, and all parts of split ones."""
    for path in folder.glob("**/transforms*.json"):
        whole = path.name == NAME
        part = path.name in _SPLIT and not (path.parent / NAME).is_file()
        if (whole or part) and not path.name.startswith("."):
            yield path


def _content(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = content["frames"]
        if not all(isinstance(one["file_path"], str) for one in frames):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is not a transforms.json: expected `frames`, each with file_path and transform_matrix"
        ) from error
    if not frames:
        raise InputError(f"{path} has no frame")
    return content


def _scene_name(folder: Path, path: Path) -> str:
    """The name of a file's scene: that of its folder."""
    below = path.parent.relative_to(folder).as_posix()
    return path.parent.resolve().name if below == "." else below


def _image(folder: Path, path: Path, entry: Record) -> str:
    """Path of a frame's image; without suffix, that of the existing file, or PNG."""
    name = _path_in_folder(folder, path, entry["file_path"])
    if PurePosixPath(name).suffix[1:].lower() in EXTENSIONS or (folder / name).is_file():
        return name
    present = [suffix for suffix in EXTENSIONS if (folder / f"{name}.{suffix}").is_file()]
    return f"{name}.{present[0] if present else 'png'}"


def _path_in_folder(folder: Path, path: Path, name: Any) -> str:
    """A path in a file, relative to ``folder``; "" for an empty one."""
    if not name:
        return ""
    given = Path(str(name).replace("\\", "/"))
    if given.is_absolute() and not given.is_relative_to(folder.absolute()):
        raise InputError(f"{path} names {name!a}, which is not in {folder}; make its paths relative")
    below = Path(os.path.relpath(given if given.is_absolute() else path.parent / given, folder))
    if ".." in below.parts:
        raise InputError(
            f"{path} names {name!a}, which is not in {folder}; give the folder that contains both"
        )
    return safe_relative_path(below.as_posix(), path)


def _check_pinhole(path: Path, entry: Record, ignore_distortion: bool) -> None:
    model = str(entry.get("camera_model", ""))
    if model.upper() not in _PINHOLES or entry.get("is_fisheye"):
        raise InputError(
            f"{path}: {model or 'fisheye'} cameras are not pinholes; undistort the images first "
            "(for example with COLMAP's image_undistorter)"
        )
    distorted = [name for name in _DISTORTION if entry.get(name)]
    if distorted and not ignore_distortion:
        raise InputError(
            f"{path}: its lenses are distorted ({distorted[0]} = {entry[distorted[0]]}); undistort the images first "
            "(for example with COLMAP's image_undistorter), or set `ignore_distortion` for weak distortion"
        )


def _listed(folder: Path, path: Path, entry: Record, name: str, instance: str, mask: str) -> ListedImage:
    """The camera of a frame, completed with the entries of its file."""
    try:
        size = (float(entry.get("w", 0)), float(entry.get("h", 0)))
        if not min(size) > 0:
            size = _size(folder / name)
        intrinsics = _intrinsics(entry, size)
        matrix = entry.get("transform_matrix")
        pose = None if matrix is None else _square(matrix) @ OPENGL_AXES
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: invalid camera of {entry['file_path']} ({error})") from error
    return ListedImage(name, instance, intrinsics, size, pose, mask)


def _square(matrix: Any) -> Float[np.ndarray, "4 4"]:
    """A pose as a 4 x 4 matrix; some files omit the last row."""
    values = np.array(matrix, dtype=float)
    return np.vstack([values, [0.0, 0.0, 0.0, 1.0]]) if values.shape == (3, 4) else values.reshape(4, 4)


def _size(path: Path) -> tuple[float, float]:
    """Width and height of an image; (1, 1) if it is unreadable, which its status reports."""
    try:
        width, height = InputImage(path).size
        return float(width), float(height)
    except UnreadableImageError:
        return 1.0, 1.0


def _intrinsics(entry: Record, size: tuple[float, float]) -> Float[np.ndarray, "3 3"] | None:
    """The pinhole matrix for an image of ``size``; None without focal length."""
    width, height = size
    focal = [_focal(entry, name, length) for name, length in (("x", width), ("y", height))]
    x, y = (value or next((other for other in focal if other), 0.0) for value in focal)
    if not x:
        return None
    center = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
    return np.array([[x, 0.0, center[0]], [0.0, y, center[1]], [0.0, 0.0, 1.0]])


def _focal(entry: Record, axis: str, length: float) -> float:
    """Focal length along an axis, pixels; 0 if it is not given."""
    if f"fl_{axis}" in entry:
        return float(entry[f"fl_{axis}"])
    angle = float(entry.get(f"camera_angle_{axis}", 0.0))
    return length / (2 * math.tan(angle / 2)) if angle else 0.0
