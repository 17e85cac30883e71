"""What a segmenter is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from nerfgen.photo import Photograph

Window = tuple[float, float, float]


@dataclass(frozen=True)
class Segmentation:
    """A mask in the raster of the window that was asked for, or the status that says why there is none."""

    status: str
    mask: UInt8[np.ndarray, "size size"] | None = None


class Segmenter(Protocol):
    """A way to tell foreground from background. It is made once in every worker process."""

    def __call__(self, photo: Photograph, window: Window, size: int) -> Segmentation:
        """The foreground in a window of a photograph.

        Args:
            window: (x0, y0, side) in the photograph's pixels; beyond it nothing is foreground.
            size: pixels along either side of the mask.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        ...
