"""What is known of a class of objects. Plain data: imports no network."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError

CLASS_NAMES = ("face", "car")


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects.

    Attributes:
        name, description: for people.
        landmarker, segmenter: default estimators, "" where there is none.
        bounds: half edges (x, y, z) of the box about the origin that holds the object, world units.
        reach: radius of the sphere about the origin that a photograph's window shows, world units.
        focal: focal length in units of a photograph's longer side, where nothing else is known.
        largest_angle: largest angle of a camera from the frontal one, degrees.
        turn: how far a turntable swings to either side, degrees; 180 or more is all the way round.
        mirror: whether objects are about mirror-symmetric in x.
        landmark_names: names of the method's landmarks.
        canonical: their 3D positions, world units.
        mesh_index, mesh_canonical: dense canonical points, by index in the estimator's numbering.
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
    canonical: Float[np.ndarray, "landmarks 3"]
    mesh_index: Int[np.ndarray, "mesh"]
    mesh_canonical: Float[np.ndarray, "mesh 3"]


def object_class(name: str) -> ObjectClass:
    """The class of that name.

    Raises:
        InputError: there is none.
    """
    if name not in CLASS_NAMES:
        raise InputError(f"there is no object class {name!r}; the classes are {', '.join(CLASS_NAMES)}")
    folder = files("nerfgen.objectclass")
    values = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    mesh = np.zeros((0, 4))
    if "mesh" in values:
        lines = (folder / values["mesh"]).read_text(encoding="utf-8").splitlines()
        mesh = np.loadtxt(
            [line for line in lines if not line.startswith(("#", "index"))], delimiter=",", ndmin=2
        )
    landmarks: dict[str, int] = values.get("landmarks", {})
    x, y, z = (float(edge) for edge in values["bounds"])
    index = mesh[:, 0].astype(np.int64)
    place = {int(value): row for row, value in enumerate(index)}
    return ObjectClass(
        name=values["name"],
        description=values["description"],
        landmarker=values.get("landmarker", ""),
        segmenter=values.get("segmenter", ""),
        bounds=(x, y, z),
        reach=float(values["reach"]),
        focal=float(values["focal"]),
        largest_angle=float(values["largest_angle"]),
        turn=float(values["turn"]),
        mirror=bool(values.get("mirror", False)),
        landmark_names=tuple(landmarks),
        canonical=mesh[[place[value] for value in landmarks.values()], 1:],
        mesh_index=index,
        mesh_canonical=mesh[:, 1:],
    )
