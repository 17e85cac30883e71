"""What all formats of annotations come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError


@dataclass(frozen=True)
class Annotations:
    """Annotated images, one object each.

    Attributes:
        images: paths relative to the folder of the images, ``/`` between folders.
        names: names of the landmarks; "0", "1", ... where the source does not name them.
        points: x and y in pixels of the photograph, as the source gives them; NaN where a point is missing.
        labels: class of each object, "" where the source names none.
        notes: what was left out of the source, one line each.
    """

    images: tuple[str, ...]
    names: tuple[str, ...]
    points: Float[np.ndarray, "image landmark 2"]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def with_names(self, names: Sequence[str], source: str) -> Annotations:
        """The landmarks of these names in this order. Nameless ones take the names, if there are as many.

        Args:
            source: what an error calls the annotations.

        Raises:
            InputError: a landmark is missing, or the numbers differ.
        """
        names = tuple(names)
        if self.names == tuple(str(number) for number in range(len(self.names))):
            if len(names) != len(self.names):
                raise InputError(
                    f"{source} has {len(self.names)} nameless points, but the class has {len(names)} landmarks "
                    f"({', '.join(names)}); name the columns NAME_x, NAME_y"
                )
            return replace(self, names=names)
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(
                f"{source} lacks landmark {missing[0]} of the class; it has {', '.join(self.names)}"
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
