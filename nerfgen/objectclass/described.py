"""What is known of a class, as a value."""

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
        bounds: half edges (x, y, z) of the box about the origin that holds the object, world units.
        reach: radius of the sphere about the origin that a photograph's window shows, world units.
        focal: focal length in units of a photograph's longer side, where nothing else is known.
        largest_angle: largest angle of a camera from the frontal one, degrees.
        turn: how far a turntable swings to either side, degrees; 180 or more is all the way round.
        mirror: whether objects are about mirror-symmetric in x.
        landmark_names: names of the method's landmarks.
        canonical: their 3D positions, world units; no rows where they are to be estimated from photographs.
        symmetry: pairs of landmarks that a mirror exchanges; all others lie on the mirror plane x = 0.
        unit: two landmarks whose distance in an image is the unit of errors; None for the root mean square
            distance of all from their centroid.
        groups: landmarks whose errors are told together, by the name of the group.
        nearest: landmarks that lie nearer to a frontal camera than the centroid of all.
        spread: root mean square distance of canonical points that were estimated from their centroid, world units.
        center: where that centroid lies, world units.
        mesh_index, mesh_canonical: dense canonical points, by index in the estimator's numbering.
        text: the file that describes the class; "" for a class that ships.
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
        """A class is its name and its file: all else follows from them."""
        return isinstance(other, ObjectClass) and (self.name, self.text) == (other.name, other.text)

    def __hash__(self) -> int:
        return hash((self.name, self.text))

    @property
    def mirrored(self) -> Int[np.ndarray, "landmarks"]:
        """Place of the landmark that each one becomes in a mirrored photograph."""
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
