"""What a landmark estimator is, and which one serves a class."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from nerfgen.artifact import file_digest
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
    """Where an estimator is defined, so that it is imported only where it runs.

    Attributes:
        module, name: of the estimator's class.
        identity: what landmarks come from, for the provenance of files.
        arguments: what the class is made with, in every worker process.
        needs_mediapipe: whether MediaPipe runs it.
    """

    module: str
    name: str
    identity: str
    arguments: tuple[Any, ...] = ()
    needs_mediapipe: bool = False

    def load(self) -> Any:
        """The estimator's class, whose ``mesh_index`` can be read without making one.

        Raises:
            MissingDependencyError: a package or library that it needs is absent.
        """
        return getattr(importlib.import_module(self.module), self.name)

    def make(self) -> Landmarker:
        """A new estimator.

        Raises:
            MissingDependencyError: a package or library that it needs is absent.
            InputError: its file does not fit the class.
        """
        return self.load()(*self.arguments)

    def warnings(self) -> list[str]:
        """What is odd about the installation without being an obstacle, one line each."""
        return installation_warnings() if self.needs_mediapipe else []


_FACE_MESH = EstimatorEntry(
    "nerfgen.landmark.face_mesh", "FaceMesh", "mediapipe-face-mesh-0.10.21", needs_mediapipe=True
)


def estimator_for(described: ObjectClass, model: Path | None = None) -> EstimatorEntry:
    """The landmark estimator of a class.

    Args:
        model: file of `nerfgen train-landmarker`, for any class with landmarks.

    Raises:
        InputError: there is none, it has to be trained, or the model is one of other landmarks or classes.
    """
    if model:
        from nerfgen.landmarker import load_landmarker  # imports the networks

        if not model.is_file():
            raise InputError(f"{model} does not exist; make it with `{_training(described)} -o {model}`")
        load_landmarker(model).label_of(described, model)
        identity = f"trained-{file_digest(model)[1]}"
        return EstimatorEntry("nerfgen.landmark.trained", "Trained", identity, (described, model))
    if described.landmarker == "face_mesh":
        return _FACE_MESH
    if described.landmarker == "trained":
        raise InputError(
            f"the landmark estimator of class {described.name} has to be trained: give --model FILE, made by "
            f"`{_training(described)} -o FILE`"
        )
    raise InputError(f"there is no landmark estimator for class {described.name}")


def _training(described: ObjectClass) -> str:
    return f"nerfgen train-landmarker IMAGES ANNOTATIONS --class {described.name}"
