"""What views show behind objects in place of the model's own background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageColor, ImageOps

from nerfgen.errors import InputError
from nerfgen.geometry import pixel_centers, pixel_rays
from nerfgen.image import UnreadableImageError, decode
from nerfgen.model import Model
from nerfgen.render.object_renderer import ObjectRenderer
from nerfgen.render.views import Views
from nerfgen.settings import SettingError

# No table has more rows.
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Backdrop:
    """A colour, an image, or the background of a training object.

    Attributes:
        values: of a colour (1, 1, 3) or an image (height, width, 3), in [0, 1]; None for that of a row.
        row: of the model's table.
    """

    values: Float[np.ndarray, "height width 3"] | None = None
    row: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it is an image."""
        return self.values is not None and self.values.size > 3

    def behind(
        self,
        views: Views,
        model: Model | None,
        intrinsics: Float[np.ndarray, "views 3 3"],
        cam_to_world: Float[np.ndarray, "views 4 4"],
        antialias: int = 1,
    ) -> Views:
        """Views over this backdrop. An image fills each view: its larger side is cropped alike at both ends.

        Args:
            views: of one object, or a single one without an axis of views.
            model: whose row it is; None for a colour or an image.
            intrinsics: of the views, in their pixels.
            antialias: rays per pixel along each axis, which are averaged.

        """
        if self.values is not None:
            return self.over_image(views)
        assert model is not None
        size = views.opacity.shape[-1]
        colors = _backgrounds(model, self.row, intrinsics, cam_to_world, size, antialias)
        return views.over(colors if views.opacity.ndim == 3 else colors[0])

    def over_image(self, views: Views) -> Views:
        """Views, with any axes before their lines and columns, over a colour or an image."""
        assert self.values is not None
        colors = self.values
        if self.is_image:
            size = views.opacity.shape[-1]
            image = Image.fromarray(np.round(colors * 255).astype(np.uint8))
            fitted = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
            colors = np.asarray(fitted, np.float32) / 255.0
        return views.over(colors)


def find_backdrop(word: str, rows: int | None = None, *, with_files: bool = True) -> Backdrop:
    """The backdrop that a word names: a row of the table, a colour as CSS writes it, or an image file.

    Args:
        rows: of the table; None where they are checked elsewhere.
        with_files: whether the word may name a file.

    Raises:
        SettingError: it names none of them.
        InputError: the file can't be used as an image.
    """
    if word.isascii() and word.isdigit():
        row = int(word[:_MOST_DIGITS])
        if rows is not None and row >= rows:
            raise SettingError(f"`background` {word}: the model's rows are 0 to {rows - 1}")
        return Backdrop(row=row)
    color = named_color(word)
    if color is not None:
        return Backdrop(np.array(color, np.float32).reshape(1, 1, 3) / 255.0)
    if not with_files:
        raise SettingError(
            f"`background` {word} is no colour and no row; give one such as white, #4080c0 or 3"
        )
    path = Path(word)
    if not path.is_file():
        raise SettingError(
            f"`background` {word} is no colour, no row and no file; give one such as white, #4080c0, 3 or sky.jpg"
        )
    try:
        return Backdrop(decode(path).astype(np.float32) / 255.0)
    except UnreadableImageError as error:
        raise InputError(f"`background` {word}: {error}; give another image") from error


def named_color(word: str) -> tuple[int, int, int] | None:
    """A colour as CSS writes it (``white``, ``#4080c0``, ``rgb(64, 128, 192)``), each part from 0 to 255; None for
    other words."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(word)
    except ValueError:
        return None
    return red, green, blue


def _backgrounds(
    model: Model,
    row: int,
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
    size: int,
    antialias: int,
) -> Float[np.ndarray, "views size size 3"]:
    """The background of a row, as cameras see it."""
    renderer = ObjectRenderer(model, model.latents[row])
    fine = np.array([[antialias], [antialias], [1.0]])
    centers = pixel_centers(size * antialias)
    colors = []
    for matrix, pose in zip(intrinsics, cam_to_world, strict=True):
        _, directions = pixel_rays(centers, matrix * fine, pose)
        rays = renderer.background(directions).reshape(size, antialias, size, antialias, 3)
        colors.append(rays.mean(axis=(1, 3)))
    return np.stack(colors)
