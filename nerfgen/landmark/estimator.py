"""What a landmark estimator is, and which one serves a class."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.image import InputImage
from nerfgen.landmark.face_networks import face_networks
from nerfgen.objectclass import ObjectClass
from nerfgen.pretrained import PublishedNetwork, installation_warnings
from nerfgen.storage import file_digest

# Raised when a trained estimator finds other landmarks in equal images.
_SEARCH_VERSION = 2


@dataclass(frozen=True)
class Detection:
    """What an estimator found in one image; points in its pixels, NaN where nothing was found.

    Attributes:
        status: one of ``nerfgen.storage.STATUSES``.
        landmarks: x, y of the class's named points.
        mesh: x, y and relative depth (smaller is nearer) of the estimator's dense points.
        score: confidence of the detection, 0 to 1.
        num_objects: objects of the class that were found.
        image_size: width and height of the upright image; 0 for an unreadable one.
        reason: why the file can't be used as an image; empty for every other status.
    """

    status: str
    landmarks: Float[np.ndarray, "landmark 2"]
    mesh: Float[np.ndarray, "mesh 3"]
    score: float = 0.0
    num_objects: int = 0
    image_size: tuple[int, int] = (0, 0)
    reason: str = ""


class LandmarkEstimator(Protocol):
    """Finds the landmarks of one class. It is built once in every worker process."""

    names: tuple[str, ...]
    mesh_index: Int[np.ndarray, " mesh"]

    def __call__(self, image: InputImage) -> Detection:
        """The landmarks of the class's largest object in an image of any size.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        ...


@dataclass(frozen=True)
class EstimatorSpec:
    """An estimator before it is built: a value that is sent to worker processes, which import what they need.

    Attributes:
        module, name: where the estimator's class is defined.
        identity: what the landmarks depend on beside the image, for the provenance of files.
        arguments: of the class.
        network: the published network that the class takes as its last argument.
        models: the network's model file or a folder that holds it; searched for if None.
    """

    module: str
    name: str
    identity: str
    arguments: tuple[Any, ...] = ()
    network: PublishedNetwork | None = None
    models: Path | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """What every worker imports beforehand."""
        return (self.module, *self.network.modules) if self.network else (self.module,)

    @property
    def mesh_index(self) -> Int[np.ndarray, " mesh"]:
        """Indices of the dense points that the estimator finds.

        Raises:
            MissingDependencyError: a package or library that it needs is absent.
        """
        return getattr(importlib.import_module(self.module), self.name).mesh_index

    def prepared(self, notify: Callable[[str], None] = lambda line: None) -> EstimatorSpec:
        """The same with the path of the network's model file, which is downloaded if need be.

        Args:
            notify: called with one line before a download starts.

        Raises:
            InputError: the model file is missing from ``models`` or damaged.
            MissingDependencyError: MediaPipe or a system library is absent, or the file can't be downloaded.
        """
        return replace(self, models=self.network.prepare(self.models, notify)) if self.network else self

    def build(self) -> LandmarkEstimator:
        """A new estimator, for one process, of a prepared spec.

        Raises:
            MissingDependencyError: a package or library that it needs is absent.
            InputError: its file does not fit the class.
        """
        arguments = (*self.arguments, self.network.build(self.models)) if self.network else self.arguments
        return getattr(importlib.import_module(self.module), self.name)(*arguments)

    def warnings(self) -> list[str]:
        """What is incomplete in the installation without being an obstacle, one line each."""
        return installation_warnings() if self.network else []


def estimator_for(
    described: ObjectClass, file: Path | None = None, *, models: Path | None = None
) -> EstimatorSpec:
    """The landmark estimator of a class.

    Args:
        file: a trained estimator (``landmarker/1``), for any class with landmarks.
        models: the model file of a published network or a folder that holds it; searched for if None.

    Raises:
        InputError: the class has none, it has to be trained, or the file is for other landmarks or classes.
    """
    if file:
        from nerfgen.landmark.estimator_file import load_estimator

        if not file.is_file():
            raise InputError(f"{file} does not exist; make it with `{_training(described)} -o {file}`")
        load_estimator(file).label_of(described, file)
        identity = f"trained-{_SEARCH_VERSION}-{file_digest(file)[1]}"
        module = "nerfgen.landmark.network_estimator"
        return EstimatorSpec(module, "NetworkEstimator", identity, (described, file))
    if described.landmarker == "face_mesh":
        network = face_networks()
        module = "nerfgen.landmark.face_mesh"
        return EstimatorSpec(module, "FaceMesh", network.identity, network=network, models=models)
    if described.landmarker == "trained":
        raise InputError(
            f"the landmark estimator of class {described.name} has to be trained: give the file that "
            f"`{_training(described)} -o FILE` writes"
        )
    raise InputError(f"there is no landmark estimator for class {described.name}")


def _training(described: ObjectClass) -> str:
    return f"nerfgen train-landmarker IMAGES ANNOTATIONS --class {described.name}"
