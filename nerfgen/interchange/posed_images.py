"""Images with their cameras: the value that every format is read into and written from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import storage
from nerfgen.image import InputImage, UnreadableImageError, is_image
from nerfgen.parallel import Progress, map_threads, silent

# Largest relative difference between the aspect ratios of an image and of its camera: sizes are whole pixels.
_ASPECT_TOLERANCE = 0.02
# Largest deviation of a pose from a rotation; many files have few digits.
_ROTATION_TOLERANCE = 1e-3


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
    """An image as a format lists it.

    Attributes:
        image: path relative to the folder.
        instance: name of the object.
        intrinsics: pinhole matrix for an image of ``size``; None if not listed.
        size: width and height of ``intrinsics``; (1, 1) if they are in units of the image's width and height.
        cam_to_world: pose, OpenCV axes; None if not listed.
        mask: path of a mask; "" without.
    """

    image: str
    instance: str
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    size: tuple[float, float] = (1.0, 1.0)
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    mask: str = ""


class _ImageFile(NamedTuple):
    status: str
    size: tuple[int, int]
    has_alpha: bool


def measure_images(
    folder: Path, listed: Sequence[ListedImage], *, progress: Progress = silent
) -> PosedImages:
    """Read the sizes of listed images and scale their intrinsics to these sizes."""
    count = len(listed)
    status: list[str] = []
    masks: list[str] = []
    sizes = np.zeros((count, 2), np.int64)
    intrinsics, poses = np.full((count, 3, 3), np.nan), np.full((count, 4, 4), np.nan)
    files = map_threads(partial(_read_image_file, folder), [one.image for one in listed], progress=progress)
    for row, (one, file) in enumerate(zip(listed, files, strict=True)):
        sizes[row] = file.size
        reason = file.status
        if reason == "ok":
            reason = _camera_status(one, file.size)
        if reason == "ok":
            assert one.intrinsics is not None
            scale = np.array([file.size[0] / one.size[0], file.size[1] / one.size[1], 1.0])
            intrinsics[row], poses[row] = scale[:, None] * one.intrinsics, one.cam_to_world
        status.append(reason)
        masks.append(one.mask or (one.image if file.has_alpha else ""))
    return PosedImages(
        [one.image for one in listed],
        status,
        [one.instance for one in listed],
        sizes,
        intrinsics,
        poses,
        masks,
    )


def _read_image_file(folder: Path, image: str) -> _ImageFile:
    path = folder / image
    if not path.is_file():
        return _ImageFile("absent", (0, 0), False)
    try:
        opened = InputImage(path)
        alpha = opened.alpha
        varied = alpha is not None and bool(alpha.min() < alpha.max())
        return _ImageFile("ok", opened.size, varied)
    except UnreadableImageError:
        return _ImageFile("unreadable", (0, 0), False)


def _camera_status(one: ListedImage, size: tuple[int, int]) -> str:
    if one.intrinsics is None or one.cam_to_world is None or not is_rigid_pose(one.cam_to_world):
        return "no_camera"
    matrix = one.intrinsics
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        return "no_camera"
    if one.size == (1.0, 1.0):
        return "ok"
    log_ratio = math.log((one.size[0] / one.size[1]) / (size[0] / size[1]))
    # Sizes are rounded to whole pixels.
    return "ok" if abs(log_ratio) <= _ASPECT_TOLERANCE + 1 / min(size) else "wrong_shape"


def is_rigid_pose(matrix: Float[np.ndarray, "rows columns"]) -> bool:
    """Whether a matrix is a 4 x 4 rotation and translation: finite, right-handed, neither scaled nor sheared."""
    rotation = matrix[:3, :3]
    return bool(
        matrix.shape == (4, 4)
        and np.isfinite(matrix).all()
        and np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6)
        and np.abs(rotation.T @ rotation - np.eye(3)).max() <= _ROTATION_TOLERANCE
        and np.linalg.det(rotation) > 0
    )


def unlisted_images(folder: Path, images: Iterable[str], companions: Iterable[str] = ()) -> list[str]:
    """Images beside the listed ones that are neither listed nor ``companions`` (masks, depth maps), sorted."""
    listed = set(images)
    found = {
        (parent / path.name).as_posix()
        for parent in {Path(image).parent for image in listed}
        if (folder / parent).is_dir()
        for path in (folder / parent).iterdir()
        if is_image(path.name)
    }
    return sorted(found - listed - set(companions))


def with_status(posed: PosedImages, rows: Iterable[int], status: str) -> PosedImages:
    """The images with another status for some of them."""
    changed = list(posed.status)
    for row in rows:
        changed[row] = status
    return replace(posed, status=changed)
