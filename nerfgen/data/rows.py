"""Rows of the table of latent codes: which image belongs to which, and those that a base model brings.

Several images of one object share a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.errors import InputError
from nerfgen.model import Model
from nerfgen.storage import InputRecord


@dataclass(frozen=True)
class BaseModel:
    """A model to continue, with its rehearsal renderings.

    Attributes:
        model: its rows come first in the new table, and stay as they are.
        record: provenance of its file.
        seed: of the rows and cameras of the renderings.
        size: of the renderings, pixels.
        rows: row that each rendering shows.
        intrinsics, cam_to_world: cameras of the renderings.
        render: makes the renderings.
    """

    model: Model
    record: InputRecord
    seed: int
    size: int
    rows: Int[np.ndarray, "renderings"]
    intrinsics: Float[np.ndarray, "renderings 3 3"]
    cam_to_world: Float[np.ndarray, "renderings 4 4"]
    render: Callable[[], UInt8[np.ndarray, "renderings size size 4"]]

    @cached_property
    def renderings(self) -> UInt8[np.ndarray, "renderings size size 4"]:
        """Red, green, blue and opacity times 255; rendered at first use: a run whose pixels are cached needs none."""
        return self.render()

    @property
    def identity(self) -> dict[str, int]:
        """What determines the renderings, together with the model."""
        return {"count": len(self.rows), "seed": self.seed}

    @property
    def names(self) -> list[str]:
        """Names of the renderings among the images."""
        return [f"row {row} of {self.record['file']}, picture {place}" for place, row in enumerate(self.rows)]

    def known(self, images: list[str], digests: Mapping[str, str]) -> list[bool]:
        """Which images of a folder are rows of the model already, whatever their names.

        Args:
            digests: SHA-256 of each image's file.

        Raises:
            InputError: a new image has the path of a row.
        """
        names, contents = set(self.model.images), {*self.model.digests, *self.model.further_digests}
        found = [digests[image] in contents for image in images]
        for image, is_known in zip(images, found, strict=True):
            if not is_known and image in names:
                raise InputError(
                    f"{image} has the name of another image, row {self.model.images.index(image)} of "
                    f"{self.record['file']}; rename it, or put the new images into a folder within `data`"
                )
        return found


@dataclass(frozen=True)
class TableRows:
    """Rows of the table by image. Rows of a base model come first; its rehearsal renderings are the last images.

    Attributes:
        of_image: row of every image.
        first_image: the first image of each new row, in the order of the rows.
        num_base: rows of a base model, which stay as they are.
        num_rehearsal: number of trailing images that are rehearsal renderings.
    """

    of_image: Int[np.ndarray, "images"]
    first_image: Int[np.ndarray, "new"]
    num_base: int = 0
    num_rehearsal: int = 0

    @property
    def count(self) -> int:
        """Rows of the table."""
        return self.num_base + len(self.first_image)

    @property
    def num_images(self) -> int:
        """Images of the run, rehearsal renderings included."""
        return len(self.of_image)

    @property
    def num_inputs(self) -> int:
        """Images that are not rehearsal renderings."""
        return len(self.of_image) - self.num_rehearsal

    @property
    def additional_images(self) -> Int[np.ndarray, "additional"]:
        """Images of objects that an earlier image shows already."""
        return np.setdiff1d(np.arange(self.num_inputs), self.first_image)

    @property
    def one_image_per_row(self) -> bool:
        """Whether row and image are the same number."""
        return self.num_base == 0 and len(self.first_image) == len(self.of_image)

    @property
    def lookup(self) -> Int[np.ndarray, "images"]:
        """Row of every image as devices hold it; empty where row and image are the same number."""
        return np.asarray([] if self.one_image_per_row else self.of_image, np.int32)


def table_rows(instances: Sequence[str], base: BaseModel | None = None) -> TableRows:
    """Rows of images that show these objects, numbered as they first appear, after those of ``base``.

    Args:
        instances: object that each image shows.
    """
    numbers: dict[str, int] = {}
    new = np.array([numbers.setdefault(name, len(numbers)) for name in instances], np.int64)
    first = np.unique(new, return_index=True)[1]
    if base is None:
        return TableRows(new, first)
    count = len(base.model.images)
    return TableRows(np.concatenate([count + new, base.rows]), first, count, len(base.rows))


def separate_rows(count: int) -> TableRows:
    """Rows of ``count`` images, each of another object."""
    return TableRows(np.arange(count), np.arange(count))
