"""What a segmenter is, and what it is told of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.photo import Photograph

Window = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A photograph, where to look in it, and what is known of the object there.

    Attributes:
        photo: the photograph.
        window: (x0, y0, side) in the photograph's pixels; beyond it nothing is foreground.
        size: pixels along either side of the mask that is wanted.
        path: the photograph's path relative to its folder, with ``/`` between folders.
        bounds: half edges of the box about the world's origin that holds the object, world units.
        intrinsics, cam_to_world: the photograph's camera, pixels; None where there is none.
        landmarks: points on the object, pixels; NaN where not found, no rows where there are none.
    """

    photo: Photograph
    window: Window
    size: int
    path: str = ""
    bounds: tuple[float, float, float] = (1.0, 1.0, 1.0)
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    cam_to_world: Float[np.ndarray, "4 4"] | None = None
    landmarks: Float[np.ndarray, "points 2"] | None = None


@dataclass(frozen=True)
class Segmentation:
    """A mask in the raster of the window that was asked for, or the status that says why there is none.

    ``method`` is the method that decided.
    """

    status: str
    mask: UInt8[np.ndarray, "size size"] | None = None
    method: str = ""


class Segmenter(Protocol):
    """A way to tell foreground from background. It is made once in every worker process."""

    def __call__(self, scene: Scene) -> Segmentation:
        """The foreground of a scene.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        ...
