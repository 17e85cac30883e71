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
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import OPENGL_AXES
from nerfgen.interchange.entries import EntryError, number, pose, read_json_source, text
from nerfgen.interchange.posed_images import (
    ListedImage,
    PosedImages,
    existing_names,
    read_image_file,
    with_files,
)
from nerfgen.storage import Record
from nerfgen.untrusted import excerpt, safe_relative_path

NAME = "transforms.json"
# The files of a scene that is split into training and evaluation images.
_SPLIT = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_PINHOLES = ("", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
# Coefficients that shift no pixel by more are those of a pinhole, pixels.
_NO_DISTORTION = 0.1


class _Frame(NamedTuple):
    """A frame with the entries of its file and its paths, relative to the folder; ``depth`` is that of a depth map."""

    path: Path
    scene: str
    values: Record
    image: str
    instance: str
    mask: str
    depth: str


def matches(source: Path) -> bool:
    """Whether a folder has such scenes, or a file is one."""
    if source.is_file():
        return source.suffix == ".json" and source.name.startswith("transforms")
    return next(_scenes(source), None) is not None


def read(source: Path, *, ignore_distortion: bool = False) -> tuple[list[ListedImage], list[str]]:
    """The frames of all scenes of a folder, the images beside them that no frame lists, and the files read.

    A scene is one object unless its frames name several (``instance``, as :func:`write` does). A frame whose camera has
    invalid values has none.

    Args:
        source: a folder, or one file.
        ignore_distortion: treat distorted lenses as pinholes.

    Raises:
        InputError: a file is invalid, a camera is not a pinhole, or a path is unsafe or outside the folder.
    """
    folder = source if source.is_dir() else source.parent
    paths = [source] if source.is_file() else sorted(_scenes(source))
    frames = [one for path in paths for one in _frames_of(folder, path)]
    names = existing_names(folder, [one.image for one in frames])
    listed = [
        _listed(folder, one._replace(image=name), ignore_distortion)
        for one, name in zip(frames, names, strict=True)
    ]
    return (
        with_files(folder, listed, [one.depth for one in frames]),
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


def _frames_of(folder: Path, path: Path) -> Iterator[_Frame]:
    """The frames of a file, each completed with the entries of the file. A null entry counts as absent."""
    content = read_json_source(folder, path.relative_to(folder).as_posix())
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list):
        raise InputError(
            f"{path} is not a transforms.json: expected `frames`, each with file_path and transform_matrix"
        )
    if not frames:
        raise InputError(f"{path} has no frame")
    shared = {key: value for key, value in content.items() if value is not None and key != "frames"}
    scene = _scene_name(folder, path)
    for place, entry in enumerate(frames):
        try:
            if not isinstance(entry, dict):
                raise EntryError(f"{excerpt(entry)} is no frame")
            image, mask, depth = (
                _path_in_folder(folder, path, text(entry, key))
                for key in ("file_path", "mask_path", "depth_file_path")
            )
            if not image:
                raise EntryError("file_path is absent; it names the image")
            instance = entry.get("instance")
            if isinstance(instance, int) and not isinstance(instance, bool):
                instance = str(instance)
            instance = (
                scene
                if instance is None
                else safe_relative_path(text({"instance": instance}, "instance"), path)
            )
        except EntryError as error:
            raise InputError(f"{path}: frames[{place}]: {error}; correct or remove the frame") from error
        own = {key: value for key, value in entry.items() if value is not None}
        yield _Frame(path, scene, {**shared, **own}, image, instance, mask, depth)


def _scene_name(folder: Path, path: Path) -> str:
    """The name of a file's scene: that of its folder."""
    below = path.parent.relative_to(folder).as_posix()
    return path.parent.resolve().name if below == "." else below


def _path_in_folder(folder: Path, path: Path, name: str) -> str:
    """A path in a file, relative to ``folder``; "" for an empty one."""
    if not name:
        return ""
    given = Path(name.replace("\\", "/"))
    if PureWindowsPath(name).drive or (given.is_absolute() and not given.is_relative_to(folder.absolute())):
        raise InputError(f"{path} names {excerpt(name)}, which is not in {folder}; make its paths relative")
    below = os.path.relpath(path.parent / given, folder)
    if below.split(os.sep)[0] == "..":
        raise InputError(
            f"{path} names {excerpt(name)}, which is not in {folder}; give the folder that contains both"
        )
    return safe_relative_path(below, path)


def _listed(folder: Path, frame: _Frame, ignore_distortion: bool) -> ListedImage:
    """The camera of a frame, for the stored pixels of its image.

    Raises:
        InputError: it is not a pinhole.
    """
    listed = ListedImage(frame.image, frame.instance, mask=frame.mask, world=frame.scene)
    values = frame.values
    try:
        stated = (number(values, "w") or 0.0, number(values, "h") or 0.0)
        if min(stated) < 0:
            raise EntryError(f"w and h are {stated[0]:g} and {stated[1]:g}, not a size")
        size = stated if min(stated) else read_image_file(folder, frame.image).size
        if not min(size):
            return listed  # its file's status says why
        intrinsics = _intrinsics(values, size)
        matrix = values.get("transform_matrix")
        cam_to_world = None if matrix is None else pose(matrix, "transform_matrix") @ OPENGL_AXES
        if intrinsics is not None:
            _check_pinhole(frame.path, values, intrinsics, size, ignore_distortion)
    except EntryError as error:
        return listed._replace(problem=f"{frame.path.name}: {error}")
    return listed._replace(intrinsics=intrinsics, size=size, cam_to_world=cam_to_world)


def _check_pinhole(
    path: Path,
    values: Record,
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[float, float],
    ignore_distortion: bool,
) -> None:
    model = values.get("camera_model", "")
    if str(model).upper() not in _PINHOLES or values.get("is_fisheye"):
        raise InputError(
            f"{path}: {excerpt(model) if model else 'fisheye'} cameras are not pinholes; undistort the images first "
            "(for example with COLMAP's image_undistorter)"
        )
    if ignore_distortion:
        return
    coefficients = {name: number(values, name) or 0.0 for name in _DISTORTION}
    if any(coefficients.values()) and not _distortion(coefficients, intrinsics, size) <= _NO_DISTORTION:
        name = next(name for name, value in coefficients.items() if value)
        raise InputError(
            f"{path}: its lenses are distorted ({name} = {coefficients[name]:g}); undistort the images first "
            "(for example with COLMAP's image_undistorter), or set `ignore_distortion` for weak distortion"
        )


def _distortion(
    coefficients: dict[str, float], intrinsics: Float[np.ndarray, "3 3"], size: tuple[float, float]
) -> float:
    """Largest shift of a pixel by OpenCV's distortion, pixels: radial to r^8 (k1 to k4), and tangential (p1, p2)."""
    k1, k2, k3, k4, p1, p2 = (coefficients[name] for name in _DISTORTION)
    across, down = np.meshgrid(*(np.linspace(0.0, side, 17) for side in size))
    with np.errstate(all="ignore"):  # what is not finite is a distortion too
        x = (across - intrinsics[0, 2]) / intrinsics[0, 0]
        y = (down - intrinsics[1, 2]) / intrinsics[1, 1]
        square = x * x + y * y
        radial = square * (k1 + square * (k2 + square * (k3 + square * k4)))
        shift_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
        shift_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
        return float(np.hypot(shift_x * intrinsics[0, 0], shift_y * intrinsics[1, 1]).max())


def _intrinsics(values: Record, size: tuple[float, float]) -> Float[np.ndarray, "3 3"] | None:
    """The pinhole matrix for an image of ``size``; None without focal length."""
    focal = [_focal(values, name, length) for name, length in zip("xy", size, strict=True)]
    x, y = (value or next((other for other in focal if other), 0.0) for value in focal)
    if not x:
        return None
    center = [number(values, f"c{name}") for name in "xy"]
    middle = [length / 2 if value is None else value for value, length in zip(center, size, strict=True)]
    return np.array([[x, 0.0, middle[0]], [0.0, y, middle[1]], [0.0, 0.0, 1.0]])


def _focal(values: Record, axis: str, length: float) -> float:
    """Focal length along an axis, pixels; 0 if it is not given."""
    if (focal := number(values, f"fl_{axis}")) is not None:
        return focal
    tangent = math.tan((number(values, f"camera_angle_{axis}") or 0.0) / 2)
    return length / (2 * tangent) if tangent else 0.0
