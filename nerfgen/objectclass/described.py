"""What is known of an object class, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class ObjectClass:
    """A class of objects.

    Attributes:
        name, description: for people.
        landmarker: default estimator: ``face_mesh``, ``trained`` (by `nerfgen train-landmarker`), or "" for none.
        segmenter: default method of `nerfgen segment`.
        bounds: half sizes (x, y, z) of the box about the origin that holds the object, world units.
        reach: radius of the sphere about the origin that an image's window shows, world units.
        focal: focal length in units of an image's longer side, if nothing else is known.
        largest_angle: largest angle of a camera from the frontal one, degrees.
        turn: range of a turntable to either side, degrees; 180 or more is a full turn.
        mirror: whether objects are about mirror-symmetric in x.
        landmark_names: names of the method's landmarks.
        canonical: their 3D positions, world units; no rows if they are estimated from images.
        symmetry: pairs of landmarks that a mirror exchanges; all others lie on the mirror plane x = 0.
        unit: two landmarks whose distance in an image is the unit of errors; None for the root mean square
            distance of all from their centroid.
        groups: landmarks whose errors are reported together, by the name of the group.
        nearest: landmarks that lie nearer to a frontal camera than the centroid of all.
        spread: root mean square distance of canonical points that were estimated from their centroid, world units.
        center: where that centroid lies, world units.
        mesh_index, mesh_canonical: dense canonical points, by index in the estimator's numbering.
        text: content of the file that describes the class; "" for a class that ships with nerfgen.
    """

    name: str
    description: str
    landmarker: str
    segmenter: str
    bounds: tuple[float, float, float]
    reach: float
    focal: float
    largest_angle: float
    turn: float
    mirror: bool
    landmark_names: tuple[str, ...]
    canonical: Float[np.ndarray, "points 3"]
    symmetry: tuple[tuple[str, str], ...]
    unit: tuple[str, str] | None
    groups: dict[str, tuple[str, ...]]
    nearest: tuple[str, ...]
    spread: float
    center: tuple[float, float, float]
    mesh_index: Int[np.ndarray, "mesh"]
    mesh_canonical: Float[np.ndarray, "mesh 3"]
    text: str = ""

    def __eq__(self, other: object) -> bool:
        """Classes are equal if their names and files are: all else follows from them."""
        return isinstance(other, ObjectClass) and (self.name, self.text) == (other.name, other.text)

    def __hash__(self) -> int:
        return hash((self.name, self.text))

    @property
    def mirrored(self) -> Int[np.ndarray, "landmarks"]:
        """Index of the landmark that each landmark becomes in a mirrored image."""
        partner = {name: other for pair in self.symmetry for name, other in (pair, pair[::-1])}
        place = {name: index for index, name in enumerate(self.landmark_names)}
        return np.array([place[partner.get(name, name)] for name in self.landmark_names], np.int64)

    def units(self, landmarks: Float[np.ndarray, "images landmarks 2"]) -> Float[np.ndarray, "images"]:
        """The unit of errors in each image, pixels."""
        if self.unit:
            first, second = (landmarks[:, self.landmark_names.index(name)] for name in self.unit)
            return np.linalg.norm(first - second, axis=-1)
        centred = landmarks - landmarks.mean(axis=1, keepdims=True)
        return np.sqrt((centred**2).sum(-1).mean(-1))
