"""What a landmark estimator is, and which one serves a class."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.mediapipe_check import installation_warnings
from nerfgen.objectclass import ObjectClass
from nerfgen.photo import Photograph


@dataclass(frozen=True)
class Detection:
    """What an estimator found in one photograph; points in its pixels, NaN where nothing was found.

    Attributes:
        status: one of ``nerfgen.artifact.STATUSES``.
        landmarks: x, y of the class's named points.
        mesh: x, y and relative depth (smaller is nearer) of the estimator's dense points.
        score: confidence of the detection, 0 to 1.
        num_objects: objects of the class that were found.
    """

    status: str
    landmarks: Float[np.ndarray, "landmark 2"]
    mesh: Float[np.ndarray, "mesh 3"]
    score: float = 0.0
    num_objects: int = 0


class Landmarker(Protocol):
    """A landmark estimator of one class. It is made once in every worker process."""

    names: tuple[str, ...]
    mesh_index: Int[np.ndarray, " mesh"]

    def __call__(self, photo: Photograph) -> Detection:
        """The landmarks of the class's largest object in a photograph of any size.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        ...


@dataclass(frozen=True)
class EstimatorEntry:
    """Where an estimator is defined, so that it is imported only where it runs."""

    module: str
    name: str
    identity: str

    def load(self) -> Any:
        """The estimator's class, whose ``names`` and ``mesh_index`` can be read without making one.

        Raises:
            MissingDependencyError: a package or library that it needs is absent.
        """
        return getattr(importlib.import_module(self.module), self.name)

    def warnings(self) -> list[str]:
        """What is odd about the installation without being an obstacle, one line each."""
        return installation_warnings()


_FACE_MESH = EstimatorEntry("nerfgen.landmark.face_mesh", "FaceMesh", "mediapipe-face-mesh-0.10.21")
_ESTIMATORS = {"face_mesh": _FACE_MESH}


def estimator_for(described: ObjectClass) -> EstimatorEntry:
    """The landmark estimator of a class.

    Raises:
        InputError: there is none.
    """
    if described.landmarker not in _ESTIMATORS:
        raise InputError(f"there is no landmark estimator for class {described.name}")
    return _ESTIMATORS[described.landmarker]
