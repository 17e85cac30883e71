"""The folders of Scene Representation Networks: one per object, with ``rgb``, ``pose`` and ``intrinsics.txt``.

``pose/NAME.txt`` has the 16 numbers of a camera-to-world matrix, row by row, OpenCV axes. ``intrinsics.txt`` has the
focal length and the principal point for an image of the size in its last line, height before width::

    focal cx cy 0.
    origin
    scale
    height width

Some files have the distance of the near plane before the scale. Some have a last line 1: their poses are
world-to-camera matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, invert_rigid
from nerfgen.image import is_image
from nerfgen.interchange.posed_images import ListedImage, PosedImages

# First line of intrinsics.txt that may be the size.
_FIRST_SIZE_LINE = 2


class _Intrinsics(NamedTuple):
    """Content of ``intrinsics.txt``; ``inverted``: poses are world-to-camera matrices."""

    matrix: Float[np.ndarray, "3 3"]
    size: tuple[float, float]
    inverted: bool


def matches(folder: Path) -> bool:
    """Whether a folder has objects in this layout."""
    return folder.is_dir() and next(_objects(folder), None) is not None


def read(folder: Path) -> tuple[list[ListedImage], list[str]]:
    """The images of all objects in a folder, in order, and the names of the camera files.

    Images without pose and poses without image are listed too.

    Raises:
        InputError: there is no object, or a file is invalid.
    """
    listed: list[ListedImage] = []
    sources: list[str] = []
    for place in sorted(_objects(folder)):
        below = place.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        instance = place.resolve().name if below == "." else below
        intrinsics = _read_intrinsics(place / "intrinsics.txt")
        sources.append(f"{prefix}intrinsics.txt")
        poses = {path.stem: path for path in (place / "pose").glob("*.txt")}
        images = {
            path.stem: path.name
            for path in sorted((place / "rgb").iterdir() if (place / "rgb").is_dir() else ())
            if is_image(path.name)
        }
        for stem in sorted(poses.keys() | images.keys()):
            name = f"{prefix}rgb/{images.get(stem, f'{stem}.png')}"
            if stem not in poses:
                listed.append(ListedImage(name, instance))
                continue
            sources.append(f"{prefix}pose/{poses[stem].name}")
            pose = _read_pose(poses[stem])
            cam_to_world = invert_rigid(pose) if intrinsics.inverted else pose
            listed.append(ListedImage(name, instance, intrinsics.matrix, intrinsics.size, cam_to_world))
    if not listed:
        raise InputError(
            f"{folder} has no object in the SRN layout (a folder with rgb/, pose/ and intrinsics.txt)"
        )
    return listed, sources


def layout(posed: PosedImages) -> list[str]:
    """Path of each image in this layout: its own if it fits, else ``OBJECT/rgb/NUMBER.SUFFIX``."""
    names = [""] * len(posed.images)
    for instance, rows in posed.by_instance().items():
        own = [PurePosixPath(posed.images[row]) for row in rows]
        fits = all(path.parent == PurePosixPath(instance) / "rgb" for path in own)
        for number, (row, path) in enumerate(zip(rows, own, strict=True)):
            name = path.name if fits else f"{number:06d}{path.suffix or '.png'}"
            names[row] = f"{instance}/rgb/{name}"
    return names


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write ``intrinsics.txt`` and the poses of every object.

    Args:
        names: paths of the images, see :func:`layout`.

    Raises:
        InputError: an object's images differ in focal length or size, which the layout cannot represent.
    """
    for instance, rows in posed.by_instance().items():
        matrix, size = posed.intrinsics[rows[0]], posed.image_size[rows[0]]
        equal = np.allclose(posed.intrinsics[rows], matrix, rtol=1e-9) and (
            (posed.image_size[rows] == size).all()
        )
        if not equal or not np.isclose(matrix[0, 0], matrix[1, 1], rtol=1e-6) or abs(matrix[0, 1]) > 1e-9:
            raise InputError(
                f"the images of {instance} differ in focal length or size, or the focal lengths differ in x and y; "
                "the SRN layout cannot represent that; set `format_name` to transforms"
            )
        write_object(
            folder / instance,
            matrix,
            (int(size[0]), int(size[1])),
            {PurePosixPath(names[row]).stem: posed.cam_to_world[row] for row in rows},
        )


def write_object(
    folder: Path,
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    poses: dict[str, Float[np.ndarray, "4 4"]],
) -> None:
    """Write the text files of one object.

    Args:
        size: width and height of its images, pixels.
        poses: ``cam_to_world`` of each image, by its name without suffix.
    """
    (folder / "pose").mkdir(parents=True, exist_ok=True)
    focal, x, y = (float(intrinsics[place]) for place in ((0, 0), (0, 2), (1, 2)))
    text = f"{focal!r} {x!r} {y!r} 0.\n0. 0. 0.\n1.\n{size[1]} {size[0]}\n"
    (folder / "intrinsics.txt").write_text(text, encoding="ascii")
    for name, pose in poses.items():
        numbers = " ".join(repr(float(value)) for value in pose.ravel())
        (folder / "pose" / f"{name}.txt").write_text(numbers + "\n", encoding="ascii")


def _objects(folder: Path) -> Iterator[Path]:
    """Folders of one object each."""
    for path in [folder / "intrinsics.txt", *folder.glob("**/intrinsics.txt")]:
        if path.is_file() and (path.parent / "pose").is_dir():
            yield path.parent
            if path.parent == folder:
                return


def _read_intrinsics(path: Path) -> _Intrinsics:
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    try:
        focal, x, y = (float(word) for word in lines[0][:3])
        at = next(number for number in range(_FIRST_SIZE_LINE, len(lines)) if len(lines[number]) == 2)
        height, width = (float(word) for word in lines[at])
        inverted = len(lines) > at + 1 and lines[at + 1] == ["1"]
        if not (focal > 0 and height > 0 and width > 0):
            raise ValueError
    except (ValueError, IndexError, StopIteration) as error:
        raise InputError(
            f"{path} is not an intrinsics.txt of SRN: expected `focal cx cy 0.` in line 1 and `height width` in line 4"
        ) from error
    return _Intrinsics(intrinsic_matrix(focal, np.array([x, y])), (width, height), inverted)


def _read_pose(path: Path) -> Float[np.ndarray, "4 4"]:
    try:
        numbers = [float(word) for word in path.read_text(encoding="utf-8", errors="replace").split()]
        return np.array(numbers).reshape(4, 4)
    except ValueError as error:
        raise InputError(
            f"{path} is not a pose of SRN: expected 16 numbers, a 4 x 4 matrix row by row"
        ) from error
