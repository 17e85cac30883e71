"""Annotated images, whatever format they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError


@dataclass(frozen=True)
class Annotations:
    """Annotated images, one object each.

    Attributes:
        images: paths relative to the folder of the images, ``/`` between folders.
        names: names of the landmarks; "0", "1", ... where the source does not name them.
        points: x and y in the image's pixels, as the source gives them; NaN where a point is missing.
        labels: class of each object; "" where the source names none.
        notes: what of the source was skipped, one line each.
    """

    images: tuple[str, ...]
    names: tuple[str, ...]
    points: Float[np.ndarray, "image landmark 2"]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def with_names(self, names: Sequence[str], source: str) -> Annotations:
        """The landmarks of these names in this order. Unnamed landmarks take the names if their numbers are equal.

        Args:
            source: names the annotations in errors.

        Raises:
            InputError: a landmark is missing, or the numbers of landmarks differ.
        """
        names = tuple(names)
        if self.names == tuple(str(number) for number in range(len(self.names))):
            if len(names) != len(self.names):
                raise InputError(
                    f"{source} has {len(self.names)} unnamed points, but the class has {len(names)} landmarks "
                    f"({', '.join(names)}); name the columns NAME_x, NAME_y"
                )
            return replace(self, names=names)
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(
                f"{source} lacks the landmark {missing[0]} of the class; it has {', '.join(self.names)}"
            )
        places = [self.names.index(name) for name in names]
        return replace(self, names=names, points=self.points[:, places])

    def rows(self, chosen: Sequence[int]) -> Annotations:
        """Only these rows, in this order."""
        return replace(
            self,
            images=tuple(self.images[row] for row in chosen),
            points=self.points[list(chosen)],
            labels=tuple(self.labels[row] for row in chosen),
        )


def read_text(path: Path) -> str:
    """The text of an annotation file.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error


def extent(points: Float[np.ndarray, "landmark 2"]) -> float:
    """The longer side of the bounding box of the points that are not missing; 0 if all are."""
    known = points[np.isfinite(points).all(axis=-1)]
    return float(np.ptp(known, axis=0).max()) if len(known) else 0.0
