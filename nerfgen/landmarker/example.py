"""Annotated photographs as they are trained on: small pictures around the objects, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from nerfgen.landmarker import frame
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.photo import UnreadableImageError, decode, resample_window

# A picture shows so many window sides around the object's middle, at so many pixels a side of the window.
_REACH = 1.8
_PIXELS = 100
SIZE = round(_REACH * _PIXELS)


@dataclass(frozen=True)
class Examples:
    """Pictures around annotated objects.

    Attributes:
        pictures: RGBA, ``SIZE`` pixels; opaque where the photograph is, its edge continued beyond.
        points: x, y in pixels of the pictures; NaN where missing.
        frames: from the unit window to pixels of the pictures, the object upright in the window.
        labels: 1 for the first class, and so on.
    """

    pictures: list[Image.Image]
    points: Float[np.ndarray, "example landmark 2"]
    frames: Float[np.ndarray, "example 2 3"]
    labels: Int[np.ndarray, " example"]


def load_examples(
    paths: Sequence[Path],
    points: Float[np.ndarray, "image landmark 2"],
    labels: Int[np.ndarray, " image"],
    shape: Float[np.ndarray, "landmark 2"],
    *,
    progress: Progress = silent,
) -> tuple[Examples, list[Path]]:
    """Cut the pictures out of the photographs.

    Args:
        points: in pixels of the photographs.
        shape: the mean shape, in the unit window.

    Returns:
        The examples, and the photographs that can't be decoded, which are left out.
    """
    frames = frame.fit_frames(shape, points)
    middle = frame.apply(frames, np.array([[0.5, 0.5]]))[:, 0]
    side = _REACH * frame.side(frames)
    windows = np.concatenate([middle - side[:, None] / 2, side[:, None]], axis=1)
    jobs = list(zip(paths, windows, strict=True))
    pictures = list(map_threads(_picture, jobs, progress=progress))
    there = np.array([picture is not None for picture in pictures], bool)
    scale = SIZE / side
    to_picture = np.zeros((len(paths), 2, 3))
    to_picture[:, 0, 0] = to_picture[:, 1, 1] = scale
    to_picture[:, :, 2] = -windows[:, :2] * scale[:, None]
    examples = Examples(
        [picture for picture in pictures if picture is not None],
        frame.apply(to_picture, points)[there],
        frame.compose(to_picture, frames)[there],
        np.asarray(labels)[there],
    )
    return examples, [path for path, known in zip(paths, there, strict=True) if not known]


def _picture(job: tuple[Path, np.ndarray]) -> Image.Image | None:
    path, window = job
    try:
        image = decode(path)
    except UnreadableImageError:
        return None
    raster, valid = resample_window(image, window, SIZE)
    return Image.fromarray(np.concatenate([raster, 255 * valid[..., None].astype(np.uint8)], axis=-1))
