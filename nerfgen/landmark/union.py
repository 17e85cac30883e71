"""The landmarks of several classes that one estimator finds: those of one name are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.landmark import similarity
from nerfgen.objectclass import ObjectClass


@dataclass(frozen=True)
class LandmarkUnion:
    """All landmarks of some classes, in the order in which the classes name them.

    Attributes:
        class_names: of the classes.
        names: of the landmarks.
        places: of each class's landmarks among them.
        mirrored: the landmark that each becomes in a mirrored image.
    """

    class_names: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[Int[np.ndarray, " own"], ...]
    mirrored: Int[np.ndarray, " landmark"]

    @classmethod
    def of(cls, classes: Sequence[ObjectClass]) -> LandmarkUnion:
        """The landmarks of these classes.

        Raises:
            InputError: a mirror exchanges a landmark with different ones of two classes.
        """
        names = tuple(dict.fromkeys(name for described in classes for name in described.landmark_names))
        partner: dict[str, str] = {}
        for described in classes:
            own = described.landmark_names
            for name, place in zip(own, described.mirrored, strict=True):
                other = partner.setdefault(name, own[place])
                if other != own[place]:
                    raise InputError(
                        f"a mirror exchanges landmark {name} with {own[place]} in class {described.name}, and with "
                        f"{other} in another; give them different names"
                    )
        place = {name: number for number, name in enumerate(names)}
        return cls(
            tuple(described.name for described in classes),
            names,
            tuple(np.array([place[name] for name in each.landmark_names], np.int64) for each in classes),
            np.array([place[partner[name]] for name in names], np.int64),
        )

    @property
    def is_shared(self) -> bool:
        """Whether all classes have the same landmarks, in one order."""
        return all(np.array_equal(own, np.arange(len(self.names))) for own in self.places)

    def spread(
        self, label: int, points: Float[np.ndarray, "*batch own 2"]
    ) -> Float[np.ndarray, "*batch landmark 2"]:
        """Points of a class's landmarks among all; NaN for those of other classes."""
        found = np.full((*points.shape[:-2], len(self.names), 2), np.nan)
        found[..., self.places[label - 1], :] = points
        return found

    def mean_shapes(
        self, points: Float[np.ndarray, "image landmark 2"], labels: Int[np.ndarray, " image"]
    ) -> Float[np.ndarray, "class landmark 2"]:
        """The mean shape of each class (:func:`nerfgen.landmark.similarity.mean_shape`), NaN for landmarks of other
        classes. Classes with the same landmarks have one.

        Raises:
            InputError: a class has no images.
        """
        if self.is_shared:
            return np.tile(similarity.mean_shape(points), (len(self.places), 1, 1))
        shapes = []
        for label, own in enumerate(self.places, 1):
            images = points[labels == label][:, own]
            if not len(images):
                raise InputError(
                    f"no image of class {self.class_names[label - 1]} is left to train on; add some"
                )
            shapes.append(self.spread(label, similarity.mean_shape(images)))
        return np.stack(shapes)
