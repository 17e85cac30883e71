"""What a segmenter is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.image import InputImage

Window = tuple[float, float, float]


@dataclass(frozen=True)
class SegmentationRequest:
    """An image, the window of it that is segmented, and what is known of the object there.

    Attributes:
        image: the image.
        window: (x0, y0, side) in the image's pixels; beyond it nothing is foreground.
        size: pixels along either side of the mask.
        path: the image's path relative to its folder, with ``/`` between folders.
        bounds: half sizes of the box about the world's origin that holds the object, world units.
        intrinsics, cam_to_world: the image's camera, pixels; None where unknown.
        landmarks: points on the object, pixels; NaN where not found, None where unknown.
    """

    image: InputImage
    window: Window
    size: int
    path: str = ""
    bounds: tuple[float, float, float] = (1.0, 1.0, 1.0)
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    landmarks: Float[np.ndarray, "points 2"] | None = None


@dataclass(frozen=True)
class Segmentation:
    """The mask of a request's window, or the status that says why there is none.

    Attributes:
        status: one of ``nerfgen.storage.STATUSES``.
        mask: 0 to 255.
        method: the method that decided.
        image_size: width and height of the upright image; 0 for an unreadable one.
        reason: why the file can't be used as an image or mask; empty for every other status.
    """

    status: str
    mask: UInt8[np.ndarray, "size size"] | None = None
    method: str = ""
    image_size: tuple[int, int] = (0, 0)
    reason: str = ""


class Segmenter(Protocol):
    """Separates foreground from background. It is built once in every worker process."""

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The foreground of a request's window.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        ...
