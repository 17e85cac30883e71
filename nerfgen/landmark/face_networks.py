"""The networks of a face estimator, and which of MediaPipe's interfaces runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.pretrained import FACE_LANDMARKER, TASKS, PublishedNetwork, mediapipe_interface

NUM_POINTS = 478
MIN_SCORE = 0.5


@dataclass(frozen=True)
class FaceBox:
    """A face that a detector found: centre and side of its box in pixels, score from 0 to 1."""

    x: float
    y: float
    side: float
    score: float


class FaceNetworks(Protocol):
    """A mesh network and face detectors. All pixels are those of the image that is given.

    Attributes:
        window_division: 1 if ``distant`` finds small faces reliably. Else it finds a face of the same size in windows
            that are smaller by this factor, and what it finds has to be confirmed.
    """

    window_division: int

    def mesh(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> tuple[Float[np.ndarray, "mesh 3"] | None, list[FaceBox]]:
        """Mesh of the most certain face, and the boxes of all faces, the most certain first.

        x and y are pixels; z is relative depth in the same unit, smaller is nearer. The mesh is None where there is no
        face, or where the mesh network rejects what the detector found.
        """
        ...

    def near(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """Faces that fill a good part of the image, by the detector that precedes the mesh network."""
        ...

    def distant(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """Faces, smaller ones included where the installed MediaPipe has a detector for them."""
        ...


def face_networks() -> PublishedNetwork:
    """The implementation of :class:`FaceNetworks` by the MediaPipe that is installed."""
    if mediapipe_interface(required=False) == TASKS:
        return PublishedNetwork(
            "nerfgen.landmark.face_tasks",
            "FaceTasks",
            f"mediapipe-face-landmarker-{FACE_LANDMARKER.sha256[:8]}",
            FACE_LANDMARKER.name,
        )
    return PublishedNetwork("nerfgen.landmark.face_graphs", "FaceGraphs", "mediapipe-face-mesh-0.10.21")
