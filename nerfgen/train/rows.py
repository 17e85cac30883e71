"""Which object each image of a run shows: several photographs of one object share its row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from nerfgen.train.start import Start


@dataclass(frozen=True)
class TableRows:
    """Rows of the table by image.

    Attributes:
        of: row of every image: of the photographs, then of the pictures of a former model's objects.
        first: the first photograph of each row that is new, in the order of the rows.
        former: rows of a former model, which come first and stay as they are.
        pictures: the last so many images show these; half of every batch is drawn from them.
    """

    of: Int[np.ndarray, "images"]
    first: Int[np.ndarray, "new"]
    former: int = 0
    pictures: int = 0

    @property
    def count(self) -> int:
        """Rows of the table."""
        return self.former + len(self.first)

    @property
    def photographs(self) -> int:
        """Images that are not pictures of former rows."""
        return len(self.of) - self.pictures

    @property
    def further(self) -> Int[np.ndarray, "further"]:
        """Photographs of objects that an earlier one shows already."""
        return np.setdiff1d(np.arange(self.photographs), self.first)

    @property
    def one_an_image(self) -> bool:
        """Whether row and image are the same number."""
        return self.former == 0 and len(self.first) == len(self.of)


def table_rows(instances: Sequence[str], start: Start | None = None) -> TableRows:
    """The rows of photographs that show these objects, numbered as they first appear, after those of ``start``.

    Args:
        instances: object that each photograph shows.
    """
    numbers: dict[str, int] = {}
    new = np.array([numbers.setdefault(name, len(numbers)) for name in instances], np.int64)
    first = np.unique(new, return_index=True)[1]
    if start is None:
        return TableRows(new, first)
    former = len(start.model.images)
    return TableRows(np.concatenate([former + new, start.rows]), first, former, len(start.rows))


def separate_rows(count: int) -> TableRows:
    """The rows of so many photographs of as many objects."""
    return TableRows(np.arange(count), np.arange(count))
