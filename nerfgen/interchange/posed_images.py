"""Images with their cameras: the value that every format is read into and written from."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import storage
from nerfgen.image import EXTENSIONS, InputImage, UnreadableImageError, is_figure, is_image, match_names
from nerfgen.interchange.settings import FARTHEST
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.untrusted import is_inside, printable

# Largest relative difference between the aspect ratios of an image and of its camera: sizes are whole pixels.
_ASPECT_TOLERANCE = 0.02
# Largest ratio of an image's side to its focal length, and of that and the principal point to the side.
_LARGEST_RATIO = 1e4
# Largest skew, in units of the image's side.
_SKEW_TOLERANCE = 1e-6
# Largest deviation of a pose from a rotation; many files have few digits.
_ROTATION_TOLERANCE = 1e-3

# Upright pixel axes in stored ones, for the EXIF orientations that do not mirror.
TURNS = {
    1: np.eye(2),
    3: -np.eye(2),
    6: np.array([[0.0, -1.0], [1.0, 0.0]]),
    8: np.array([[0.0, 1.0], [-1.0, 0.0]]),
}
OPPOSITE_TURNS = {1: 1, 3: 3, 6: 8, 8: 6}
_Camera = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]


@dataclass(frozen=True)
class PosedImages:
    """Images of one folder with their cameras, usable or not.

    Attributes:
        images: paths relative to the folder, with ``/``.
        status: ``ok``, or why an image is unusable.
        instance: name of the object that each image shows.
        image_size: width and height, pixels; 0 if the image is absent or unreadable.
        intrinsics: pinhole matrices for that size, pixel centres at +0.5; NaN without camera.
        cam_to_world: poses, OpenCV axes; NaN without camera.
        masks: path of each image's mask, relative to the folder; the image's own path if its alpha channel is the
            mask; "" without mask.
    """

    images: list[str]
    status: list[str]
    instance: list[str]
    image_size: Int[np.ndarray, "images 2"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    masks: list[str]

    @property
    def usable(self) -> Bool[np.ndarray, "images"]:
        """Which images have a usable camera."""
        return storage.usable(self.status)

    def subset(self, chosen: Iterable[int]) -> PosedImages:
        """The images at these indices, in the given order."""
        rows = [int(row) for row in chosen]
        return PosedImages(
            [self.images[row] for row in rows],
            [self.status[row] for row in rows],
            [self.instance[row] for row in rows],
            self.image_size[rows],
            self.intrinsics[rows],
            self.cam_to_world[rows],
            [self.masks[row] for row in rows],
        )

    def by_instance(self) -> dict[str, list[int]]:
        """Image indices of each object, in the order of first appearance."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.instance):
            rows.setdefault(name, []).append(row)
        return rows


class ListedImage(NamedTuple):
    """An image as a format lists it. Its camera is for the stored pixels, before any EXIF orientation.

    Attributes:
        image: path relative to the folder.
        instance: name of the object.
        intrinsics: pinhole matrix for an image of ``size``; None if not listed.
        size: width and height of ``intrinsics``; (1, 1) if they are in units of the image's width and height.
        cam_to_world: pose, OpenCV axes; None if not listed.
        mask: path of a mask; "" without.
        world: images with the same name have cameras in one world.
        problem: why the camera cannot be used; "" if it is valid or its values tell.
    """

    image: str
    instance: str
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    size: tuple[float, float] = (1.0, 1.0)
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    mask: str = ""
    world: str = ""
    problem: str = ""


class ImageFile(NamedTuple):
    """An image file as it is stored.

    Attributes:
        status: ``ok``, ``absent``, ``bad_name``, ``outside`` or ``unreadable``.
        size: stored width and height, pixels; 0 unless ``ok``.
        orientation: EXIF orientation that makes the stored pixels upright.
        has_alpha: whether its opacity varies.
        problem: why it cannot be read.
    """

    status: str
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    has_alpha: bool = False
    problem: str = ""


def measure_images(
    folder: Path, listed: Sequence[ListedImage], *, progress: Progress = silent
) -> tuple[PosedImages, list[str]]:
    """Read the sizes of listed images, and express their cameras for the upright images of these sizes.

    Returns:
        The images, and what is wrong with each; "" for those that are usable.
    """
    count = len(listed)
    status: list[str] = []
    problems: list[str] = []
    masks: list[str] = []
    sizes = np.zeros((count, 2), np.int64)
    intrinsics, poses = np.full((count, 3, 3), np.nan), np.full((count, 4, 4), np.nan)
    files = map_threads(partial(read_image_file, folder), [one.image for one in listed], progress=progress)
    for row, (one, file) in enumerate(zip(listed, files, strict=True)):
        sizes[row] = file.size if file.orientation < 5 else file.size[::-1]
        reason, problem = file.status, file.problem
        if reason == "ok":
            reason, problem, camera = _upright_camera(one, file)
            if camera is not None:
                intrinsics[row], poses[row] = camera
        status.append(reason)
        problems.append(problem)
        masks.append(one.mask or (one.image if file.has_alpha else ""))
    posed = PosedImages(
        [one.image for one in listed],
        status,
        [one.instance for one in listed],
        sizes,
        intrinsics,
        poses,
        masks,
    )
    return posed, problems


def read_image_file(folder: Path, image: str) -> ImageFile:
    """Size, orientation and transparency of an image of a folder."""
    try:
        opened = InputImage(image, folder)
        alpha = opened.alpha
        varied = alpha is not None and bool(alpha.min() < alpha.max())
        size, orientation = opened.size, opened.orientation
        return ImageFile("ok", size if orientation < 5 else size[::-1], orientation, varied)
    except UnreadableImageError as error:
        return ImageFile(error.status, problem=error.reason)


def _upright_camera(one: ListedImage, file: ImageFile) -> tuple[str, str, _Camera | None]:
    """Status, problem and camera of a readable image."""
    if one.problem:
        return "no_camera", one.problem, None
    if one.intrinsics is None or one.cam_to_world is None:
        missing = "focal length" if one.intrinsics is None else "pose"
        return "no_camera", f"it has no {missing}", None
    if not is_rigid_pose(one.cam_to_world):
        return "no_camera", "its pose is no rotation: it scales, shears or mirrors, or is not finite", None
    size, orientation = file.size, file.orientation
    if one.size != (1.0, 1.0) and not _same_shape(one.size, size):
        # Some programs apply the orientation before they compute cameras.
        if orientation < 5 or not _same_shape(one.size, size[::-1]):
            return "wrong_shape", f"its camera is for {one.size[0]:g} x {one.size[1]:g} pixels", None
        size, orientation = size[::-1], 1
    with np.errstate(all="ignore"):  # what overflows is no pinhole
        matrix = np.array([size[0] / one.size[0], size[1] / one.size[1], 1.0])[:, None] * one.intrinsics
    if not _is_pinhole(matrix, size):
        return "no_camera", "its focal length or principal point is not that of a pinhole camera", None
    if orientation not in TURNS:
        return "no_camera", "its EXIF orientation mirrors it, which no camera does; save it upright", None
    return "ok", "", turn_camera(matrix, one.cam_to_world, size, orientation)


def turn_camera(
    intrinsics: Float[np.ndarray, "3 3"],
    cam_to_world: Float[np.ndarray, "4 4"],
    size: tuple[int, int],
    orientation: int,
) -> _Camera:
    """The camera of an image after its pixels are turned upright.

    Args:
        intrinsics: pinhole matrix for the stored pixels.
        cam_to_world: pose for the stored pixels, OpenCV axes.
        size: stored width and height, pixels.
        orientation: EXIF orientation, a key of :data:`TURNS`. The one of the opposite turn takes a camera back.
    """
    axes, pixels = np.eye(4), np.eye(3)
    axes[:2, :2] = pixels[:2, :2] = turn = TURNS[orientation]
    pixels[:2, 2] = -np.minimum(turn @ size, 0.0)
    return pixels @ intrinsics @ axes[:3, :3].T, cam_to_world @ axes.T


def _same_shape(stated: tuple[float, float], size: tuple[int, int]) -> bool:
    log_ratio = math.log(stated[0]) - math.log(stated[1]) - math.log(size[0] / size[1])
    # Sizes are rounded to whole pixels.
    return abs(log_ratio) <= _ASPECT_TOLERANCE + 1 / min(size)


def _is_pinhole(matrix: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> bool:
    """Whether a matrix has the form of a pinhole camera's, without skew, and an angle of view that images have."""
    side = max(size)
    return bool(
        np.isfinite(matrix).all()
        and np.allclose(matrix[(0, 1, 2, 2), (1, 0, 0, 1)], 0.0, atol=_SKEW_TOLERANCE * side)
        and np.isclose(matrix[2, 2], 1.0)
        and (matrix.diagonal()[:2] > side / _LARGEST_RATIO).all()
        and (np.abs(matrix[:2]) < side * _LARGEST_RATIO).all()
    )


def is_rigid_pose(matrix: Float[np.ndarray, "rows columns"]) -> bool:
    """Whether a matrix is a 4 x 4 rotation and translation: right-handed, neither scaled nor sheared, not too far."""
    rotation = matrix[:3, :3]
    return bool(
        matrix.shape == (4, 4)
        and np.isfinite(matrix).all()
        and np.abs(rotation).max() <= 1 + _ROTATION_TOLERANCE
        and np.abs(matrix[:3, 3]).max() <= FARTHEST
        and np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6)
        and np.abs(rotation.T @ rotation - np.eye(3)).max() <= _ROTATION_TOLERANCE
        and np.linalg.det(rotation) > 0
    )


def with_files(
    folder: Path, listed: Sequence[ListedImage], companions: Iterable[str] = ()
) -> list[ListedImage]:
    """Listed images and masks by the names of their files, and the images beside them that are not listed.

    Args:
        companions: names of files beside the images that are no images of their own, such as depth maps.
    """
    images = existing_names(folder, [one.image for one in listed])
    others = existing_names(folder, [*(one.mask for one in listed), *companions])
    found = [
        one._replace(image=image, mask=mask) for one, image, mask in zip(listed, images, others, strict=False)
    ]
    known = {*images, *others}
    parents = {PurePosixPath(image).parent for image in images}
    beside = {
        (parent / path.name).as_posix()
        for parent in parents
        if (parent == PurePosixPath() or is_inside(folder, parent.as_posix()))
        and os.path.isdir(folder / parent)
        for path in (folder / parent).iterdir()
        if is_image(path.name) and not is_figure(path)
    }
    return found + [
        ListedImage(name, name, problem="no camera is listed for it")
        for name in sorted(map(printable, beside - known))  # a name that cannot be written is escaped
    ]


def existing_names(folder: Path, names: Sequence[str]) -> list[str]:
    """Names of files as the folder spells them; unchanged where no file or several files are meant.

    A name without image suffix that means no file gets the suffix ``.png``.
    """
    exact = {name for name in names if name and os.path.isfile(folder / name)}
    if len(exact) == len({*names} - {""}):
        return list(names)
    present = exact.union(
        PurePosixPath(os.path.relpath(os.path.join(parent, name), folder)).as_posix()
        for parent, _, files in os.walk(folder)
        for name in files
        if is_image(name)
    )
    matched = match_names(names, sorted(present))
    return [
        found or (name if not name or PurePosixPath(name).suffix[1:].lower() in EXTENSIONS else f"{name}.png")
        for name, found in zip(names, matched, strict=True)
    ]


def with_status(posed: PosedImages, rows: Iterable[int], status: str) -> PosedImages:
    """The images with another status for some of them."""
    changed = list(posed.status)
    for row in rows:
        changed[row] = status
    return replace(posed, status=changed)
