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

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, invert_rigid
from nerfgen.image import is_image, match_names
from nerfgen.interchange.entries import read_text_source
from nerfgen.interchange.posed_images import ListedImage, PosedImages, is_rigid_pose
from nerfgen.untrusted import printable

# First line of intrinsics.txt that may be the size.
_FIRST_SIZE_LINE = 2

_Value = TypeVar("_Value")


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

    Images without pose and poses without image are listed too. Images whose camera files are invalid have no camera.

    Raises:
        InputError: there is no object, or a link leads out of the folder.
    """
    listed: list[ListedImage] = []
    sources: list[str] = []
    for place in sorted(_objects(folder)):
        below = place.relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        instance = place.resolve().name if below == "." else below
        intrinsics = _attempt(_read_intrinsics, folder, f"{prefix}intrinsics.txt")
        sources.append(printable(f"{prefix}intrinsics.txt"))
        poses = [path.stem for path in (place / "pose").glob("*.txt") if not path.name.startswith(".")]
        images = [
            path.name
            for path in ((place / "rgb").iterdir() if (place / "rgb").is_dir() else ())
            if is_image(path.name)
        ]
        found = {image: stem for stem, image in zip(poses, match_names(poses, images), strict=True) if image}
        # A pose whose image is absent, or one of several files, has a row under its own name.
        found |= {f"{stem}.png": stem for stem in set(poses).difference(found.values())}
        for image in sorted(found.keys() | images):
            # A name that cannot be written is escaped.
            row, shown = printable(f"{prefix}rgb/{image}"), printable(instance)
            one = ListedImage(row, shown, problem="there is no pose of its name")
            if image in found:
                name = f"{prefix}pose/{found[image]}.txt"
                sources.append(printable(name))
                one = _with_camera(one, intrinsics, _attempt(_read_pose, folder, name))
            listed.append(one)
    if not listed:
        raise InputError(
            f"{folder} has no object in the SRN layout (a folder with rgb/, pose/ and intrinsics.txt)"
        )
    return listed, sources


def _with_camera(
    one: ListedImage, intrinsics: _Intrinsics | str, pose: Float[np.ndarray, "4 4"] | str
) -> ListedImage:
    """An image with its camera, or with the problem of the camera's files."""
    if isinstance(intrinsics, str) or isinstance(pose, str):
        return one._replace(problem=next(each for each in (intrinsics, pose) if isinstance(each, str)))
    # Other poses cannot be inverted; they have no camera.
    cam_to_world = invert_rigid(pose) if intrinsics.inverted and is_rigid_pose(pose) else pose
    return one._replace(
        intrinsics=intrinsics.matrix, size=intrinsics.size, cam_to_world=cam_to_world, problem=""
    )


def _attempt(read: Callable[[Path, str], _Value], folder: Path, name: str) -> _Value | str:
    """What a reader makes of a file, or what is wrong with it."""
    try:
        return read(folder, name)
    except InputError as error:
        return str(error)


def layout(posed: PosedImages) -> list[str]:
    """Path of each image in this layout: its own if it fits, else ``OBJECT/rgb/NUMBER.SUFFIX``."""
    names = [""] * len(posed.images)
    for instance, rows in posed.by_instance().items():
        own = [PurePosixPath(posed.images[row]) for row in rows]
        fits = all(path.parent == PurePosixPath(instance) / "rgb" for path in own)
        fits = fits and len({path.stem for path in own}) == len(own)
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


def _read_intrinsics(folder: Path, name: str) -> _Intrinsics:
    lines = [line.split() for line in read_text_source(folder, name).splitlines()]
    try:
        focal, x, y = (float(word) for word in lines[0][:3])
        at = next(number for number in range(_FIRST_SIZE_LINE, len(lines)) if len(lines[number]) == 2)
        height, width = (float(word) for word in lines[at])
        inverted = len(lines) > at + 1 and lines[at + 1] == ["1"]
        if not (0 < focal < np.inf and 0 < height < np.inf and 0 < width < np.inf):
            raise ValueError
    except (ValueError, IndexError, StopIteration) as error:
        raise InputError(
            f"{folder / name} is not an intrinsics.txt of SRN: expected `focal cx cy 0.` in line 1 and `height width` "
            "in line 4"
        ) from error
    return _Intrinsics(intrinsic_matrix(focal, np.array([x, y])), (width, height), inverted)


def _read_pose(folder: Path, name: str) -> Float[np.ndarray, "4 4"]:
    try:
        numbers = [float(word) for word in read_text_source(folder, name).split()]
        return np.array(numbers).reshape(4, 4)
    except ValueError as error:
        raise InputError(
            f"{folder / name} is not a pose of SRN: expected 16 numbers, a 4 x 4 matrix row by row"
        ) from error
