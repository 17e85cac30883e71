"""The folders of Scene Representation Networks: one per object, with ``rgb``, ``pose`` and ``intrinsics.txt``.

``pose/NAME.txt`` holds the 16 numbers of a camera-to-world matrix, row by row, OpenCV axes. ``intrinsics.txt`` holds
the focal length and the principal point of a picture of the size in its last line, height before width::

    focal cx cy 0.
    origin
    scale
    height width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix
from nerfgen.interchange.posed import Listed, PosedImages
from nerfgen.photo import EXTENSIONS

# Lines of intrinsics.txt.
_CAMERA, _SIZE = 0, 3


def finds(folder: Path) -> bool:
    """Whether a folder holds objects in this layout."""
    return folder.is_dir() and next(_objects(folder), None) is not None


def read(folder: Path) -> tuple[list[Listed], list[str]]:
    """The images of all objects below a folder, in order, and the files that say their cameras.

    A picture without pose and a pose without picture are listed too.

    Raises:
        InputError: there is no object, or a file has other content.
    """
    listed: list[Listed] = []
    sources: list[str] = []
    for place in sorted(_objects(folder)):
        below = place.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        instance = place.resolve().name if below == "." else below
        camera, size = _read_intrinsics(place / "intrinsics.txt")
        sources.append(f"{prefix}intrinsics.txt")
        poses = {path.stem: path for path in (place / "pose").glob("*.txt")}
        pictures = {
            path.stem: path.name
            for path in sorted((place / "rgb").iterdir() if (place / "rgb").is_dir() else ())
            if path.suffix[1:].lower() in EXTENSIONS and not path.name.startswith(".")
        }
        for stem in sorted(poses.keys() | pictures.keys()):
            name = f"{prefix}rgb/{pictures.get(stem, f'{stem}.png')}"
            if stem not in poses:
                listed.append(Listed(name, instance))
                continue
            sources.append(f"{prefix}pose/{poses[stem].name}")
            listed.append(Listed(name, instance, camera, size, _read_pose(poses[stem])))
    if not listed:
        raise InputError(
            f"{folder} holds no object in the SRN layout (rgb/, pose/ and intrinsics.txt in a folder of its own)"
        )
    return listed, sources


def layout(posed: PosedImages) -> list[str]:
    """Where each image lies in this layout: ``OBJECT/rgb/NUMBER.SUFFIX``, or where it is, if it is so already."""
    names = [""] * len(posed.images)
    for instance, rows in posed.by_instance().items():
        own = [PurePosixPath(posed.images[row]) for row in rows]
        kept = all(path.parent == PurePosixPath(instance) / "rgb" for path in own)
        for number, (row, path) in enumerate(zip(rows, own, strict=True)):
            name = path.name if kept else f"{number:06d}{path.suffix or '.png'}"
            names[row] = f"{instance}/rgb/{name}"
    return names


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write ``intrinsics.txt`` and the poses of every object.

    Args:
        names: where the images lie, see :func:`layout`.

    Raises:
        InputError: the layout can't say these cameras: it has one focal length and one size for an object.
    """
    for instance, rows in posed.by_instance().items():
        matrix, size = posed.intrinsics[rows[0]], posed.image_size[rows[0]]
        alike = np.allclose(posed.intrinsics[rows], matrix, rtol=1e-9) and (
            (posed.image_size[rows] == size).all()
        )
        if not alike or not np.isclose(matrix[0, 0], matrix[1, 1], rtol=1e-6) or abs(matrix[0, 1]) > 1e-9:
            raise InputError(
                f"the SRN layout has one focal length for x and y and all pictures of an object; those of {instance} "
                "differ; give --format transforms"
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
        size: width and height of its pictures, pixels.
        poses: ``cam_to_world`` of each picture, by its name without suffix.
    """
    (folder / "pose").mkdir(parents=True, exist_ok=True)
    focal, x, y = (float(intrinsics[place]) for place in ((0, 0), (0, 2), (1, 2)))
    text = f"{focal!r} {x!r} {y!r} 0.\n0. 0. 0.\n1.\n{size[1]} {size[0]}\n"
    (folder / "intrinsics.txt").write_text(text, encoding="ascii")
    for name, pose in poses.items():
        numbers = " ".join(repr(float(value)) for value in pose.ravel())
        (folder / "pose" / f"{name}.txt").write_text(numbers + "\n", encoding="ascii")


def _objects(folder: Path) -> Iterator[Path]:
    """Folders that hold one object each."""
    for path in [folder / "intrinsics.txt", *folder.glob("**/intrinsics.txt")]:
        if path.is_file() and (path.parent / "pose").is_dir():
            yield path.parent
            if path.parent == folder:
                return


def _read_intrinsics(path: Path) -> tuple[Float[np.ndarray, "3 3"], tuple[float, float]]:
    """The pinhole matrix, and the width and height that it is for."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        focal, x, y = (float(word) for word in lines[_CAMERA].split()[:3])
        height, width = (float(word) for word in lines[_SIZE].split()[:2])
        if not (focal > 0 and height > 0 and width > 0):
            raise ValueError
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path} is not SRN's: its first line is `focal cx cy 0.`, its fourth `height width`"
        ) from error
    return intrinsic_matrix(focal, np.array([x, y])), (width, height)


def _read_pose(path: Path) -> Float[np.ndarray, "4 4"]:
    try:
        numbers = [float(word) for word in path.read_text(encoding="utf-8", errors="replace").split()]
        return np.array(numbers).reshape(4, 4)
    except ValueError as error:
        raise InputError(f"{path} is not SRN's: a pose is 16 numbers, a 4 x 4 matrix row by row") from error
