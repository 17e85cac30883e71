"""Images with their cameras: the one value that every format is read into and written from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import artifact
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.photo import EXTENSIONS, Photograph, UnreadableImageError

# By how much the proportions of a picture may differ from those that its camera is for: sizes are whole pixels.
_PROPORTION = 0.02
# How far a pose's axes may be from a rotation's; files are often written with few digits.
_ORTHONORMAL = 1e-3


@dataclass(frozen=True)
class PosedImages:
    """Images of one folder with what is known of their cameras, whether usable or not.

    Attributes:
        images: paths relative to the folder, with ``/``.
        status: ``ok``, or why an image can't be used.
        instance: name of the object that each image shows.
        image_size: width and height, pixels; 0 where the image is absent or unreadable.
        intrinsics: pinhole matrices of pictures of that size, pixel centres at +0.5; NaN where there is no camera.
        cam_to_world: poses, OpenCV axes; NaN where there is none.
        masks: path of each image's mask, relative to the folder; the image's own path where its alpha channel is
            the mask; "" where there is none.
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
        """Which images have a camera that may be used."""
        return artifact.usable(self.status)

    def rows(self, chosen: Iterable[int]) -> PosedImages:
        """Some of the images, in the order given."""
        at = [int(row) for row in chosen]
        return PosedImages(
            [self.images[row] for row in at],
            [self.status[row] for row in at],
            [self.instance[row] for row in at],
            self.image_size[at],
            self.intrinsics[at],
            self.cam_to_world[at],
            [self.masks[row] for row in at],
        )

    def by_instance(self) -> dict[str, list[int]]:
        """The rows of each object, objects in the order in which they first appear."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.instance):
            rows.setdefault(name, []).append(row)
        return rows


class Listed(NamedTuple):
    """What a format says of one image.

    Attributes:
        image, instance: as in :class:`PosedImages`.
        intrinsics: of a picture of ``size``; None where the format doesn't say.
        size: width and height that ``intrinsics`` are for; (1, 1) where they are in units of the picture's edges.
        cam_to_world: pose, OpenCV axes; None where the format doesn't say.
        mask: path of a mask; "" where there is none.
    """

    image: str
    instance: str
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    size: tuple[float, float] = (1.0, 1.0)
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    mask: str = ""


class _Measured(NamedTuple):
    status: str
    size: tuple[int, int]
    has_alpha: bool


def gathered(folder: Path, listed: Sequence[Listed], *, progress: Progress = silent) -> PosedImages:
    """Look at the images that a format lists, and bring their intrinsics to the images' own sizes."""
    count = len(listed)
    status: list[str] = []
    masks: list[str] = []
    sizes = np.zeros((count, 2), np.int64)
    intrinsics, poses = np.full((count, 3, 3), np.nan), np.full((count, 4, 4), np.nan)
    measured = map_threads(partial(_measure, folder), [one.image for one in listed], progress=progress)
    for row, (one, seen) in enumerate(zip(listed, measured, strict=True)):
        sizes[row] = seen.size
        reason = seen.status
        if reason == "ok":
            reason = _camera_status(one, seen.size)
        if reason == "ok":
            assert one.intrinsics is not None
            scale = np.array([seen.size[0] / one.size[0], seen.size[1] / one.size[1], 1.0])
            intrinsics[row], poses[row] = scale[:, None] * one.intrinsics, one.cam_to_world
        status.append(reason)
        masks.append(one.mask or (one.image if seen.has_alpha else ""))
    return PosedImages(
        [one.image for one in listed],
        status,
        [one.instance for one in listed],
        sizes,
        intrinsics,
        poses,
        masks,
    )


def _measure(folder: Path, image: str) -> _Measured:
    path = folder / image
    if not path.is_file():
        return _Measured("absent", (0, 0), False)
    try:
        photo = Photograph(path)
        alpha = photo.alpha
        varied = alpha is not None and bool(alpha.min() < alpha.max())
        return _Measured("ok", photo.size, varied)
    except UnreadableImageError:
        return _Measured("unreadable", (0, 0), False)


def _camera_status(one: Listed, size: tuple[int, int]) -> str:
    if one.intrinsics is None or one.cam_to_world is None or not is_pose(one.cam_to_world):
        return "no_camera"
    matrix = one.intrinsics
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        return "no_camera"
    if one.size == (1.0, 1.0):
        return "ok"
    proportion = math.log((one.size[0] / one.size[1]) / (size[0] / size[1]))
    # Whole pixels: a side of n pixels is known to half a pixel.
    return "ok" if abs(proportion) <= _PROPORTION + 1 / min(size) else "wrong_shape"


def is_pose(matrix: Float[np.ndarray, "4 4"]) -> bool:
    """Whether a matrix is a rotation and a translation: finite, right-handed, neither scaled nor sheared."""
    rotation = matrix[:3, :3]
    return bool(
        matrix.shape == (4, 4)
        and np.isfinite(matrix).all()
        and np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6)
        and np.abs(rotation.T @ rotation - np.eye(3)).max() <= _ORTHONORMAL
        and np.linalg.det(rotation) > 0
    )


def images_beside(folder: Path, images: Iterable[str], companions: Iterable[str] = ()) -> list[str]:
    """Images in the same folders as those listed that are neither listed nor ``companions``, sorted.

    Hidden files and unfinished outputs are left out.
    """
    listed = set(images)
    known = listed | set(companions)
    found: set[str] = set()
    for parent in {Path(image).parent for image in listed}:
        if (folder / parent).is_dir():
            found |= {
                (parent / path.name).as_posix()
                for path in (folder / parent).iterdir()
                if path.suffix[1:].lower() in EXTENSIONS
                and not path.name.startswith(".")
                and ".partial." not in path.name
            }
    return sorted(found - known)


def with_status(posed: PosedImages, rows: Iterable[int], status: str) -> PosedImages:
    """The same with another status for some images."""
    changed = list(posed.status)
    for row in rows:
        changed[row] = status
    return replace(posed, status=changed)
