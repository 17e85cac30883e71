"""Face networks by the graphs of MediaPipe 0.10.21, whose wheel carries the models.

Importing this module raises :class:`nerfgen.errors.MissingDependencyError` where MediaPipe can't be loaded, so it is
imported inside functions, never at the top of a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.landmark.face_networks import MIN_SCORE, NUM_POINTS, FaceBox
from nerfgen.pretrained import silenced
from nerfgen.pretrained.graphs import Graph

_WARM_UP = 128  # sides in pixels of the images with which the networks are loaded
_DETECTOR_WARM_UP = 256

_POINT = np.dtype(
    [("header", "S3"), ("x", "<f4"), ("tag_y", "u1"), ("y", "<f4"), ("tag_z", "u1"), ("z", "<f4")]
)

_DETECTOR_PROTOBUFS = (
    "calculators.core.constant_side_packet_calculator_pb2",
    "calculators.core.gate_calculator_pb2",
    "calculators.core.split_vector_calculator_pb2",
    "calculators.tensor.image_to_tensor_calculator_pb2",
    "calculators.tensor.inference_calculator_pb2",
    "calculators.tensor.tensors_to_detections_calculator_pb2",
    "calculators.tflite.ssd_anchors_calculator_pb2",
    "calculators.util.logic_calculator_pb2",
    "calculators.util.non_max_suppression_calculator_pb2",
    "modules.face_detection.face_detection_pb2",
)
_MESH_PROTOBUFS = (
    *_DETECTOR_PROTOBUFS,
    "calculators.tensor.tensors_to_classification_calculator_pb2",
    "calculators.tensor.tensors_to_landmarks_calculator_pb2",
    "calculators.util.association_calculator_pb2",
    "calculators.util.detections_to_rects_calculator_pb2",
    "calculators.util.landmarks_refinement_calculator_pb2",
    "calculators.util.rect_transformation_calculator_pb2",
    "calculators.util.thresholding_calculator_pb2",
)


class FaceGraphs:
    """The :class:`nerfgen.landmark.face_networks.FaceNetworks` of the wheel."""

    window_division = 1

    def __init__(self) -> None:
        with silenced():
            self._mesh = Graph(
                "mediapipe/modules/face_landmark/face_landmark_front_cpu.binarypb",
                protobufs=_MESH_PROTOBUFS,
                outputs=("multi_face_landmarks", "all_face_detections"),
                side_inputs={"num_faces": 1, "with_attention": True, "use_prev_landmarks": False},
            )
            # The networks are loaded, and write to standard error, with the first image.
            self._mesh.run(np.zeros((_WARM_UP, _WARM_UP, 3), np.uint8))
        self._near: Graph | None = None
        self._distant: Graph | None = None

    def mesh(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> tuple[Float[np.ndarray, "mesh 3"] | None, list[FaceBox]]:
        """Mesh of the most certain face, in pixels of ``image``, and the boxes of all, that one first."""
        height, width = image.shape[:2]
        # The mesh network's calculators write to standard error with the first face.
        with silenced():
            result = self._mesh.run(image)
        boxes = _boxes(result["all_face_detections"], width, height)
        if not result["multi_face_landmarks"]:
            return None, boxes
        # The depth is in units of the image's width.
        return _points(result["multi_face_landmarks"][0]) * (width, height, width), boxes

    def near(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """Boxes by the detector that Face Mesh itself uses."""
        if self._near is None:
            self._near = _detector("short_range")
        return _boxes(self._near.run(image)["detections"], image.shape[1], image.shape[0])

    def distant(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """Boxes by the detector for faces up to five metres away."""
        if self._distant is None:
            self._distant = _detector("full_range")
        return _boxes(self._distant.run(image)["detections"], image.shape[1], image.shape[0])


def _detector(reach: str) -> Graph:
    """One of MediaPipe's two face detectors."""
    with silenced():
        detector = Graph(
            f"mediapipe/modules/face_detection/face_detection_{reach}_cpu.binarypb",
            protobufs=_DETECTOR_PROTOBUFS,
            outputs=("detections",),
        )
        detector.run(np.zeros((_DETECTOR_WARM_UP, _DETECTOR_WARM_UP, 3), np.uint8))
    return detector


def _points(landmarks: Any) -> Float[np.ndarray, "mesh 3"]:
    """MediaPipe's list of landmarks as an array, relative to the image.

    The serialized list is read as a table, twenty times as fast as asking every point for its
    coordinates: a point is two bytes of header, then tag and float of x, of y and of z.
    """
    serialized = landmarks.SerializeToString()
    if len(serialized) == NUM_POINTS * _POINT.itemsize:
        table = np.frombuffer(serialized, _POINT)
        if (table["header"] == b"\x0a\x0f\x0d").all() and (table["tag_y"] == 0x15).all():
            return np.stack([table["x"], table["y"], table["z"]], axis=-1).astype(np.float64)
    return np.array([(point.x, point.y, point.z) for point in landmarks.landmark])


def _boxes(detections: Sequence | None, width: int, height: int) -> list[FaceBox]:
    """MediaPipe's detections, relative to an image, as boxes in its pixels."""
    boxes = []
    for detection in detections or ():
        score = float(detection.score[0])
        if score < MIN_SCORE:
            continue
        box = detection.location_data.relative_bounding_box
        x, y = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
        boxes.append(FaceBox(x, y, max(box.width * width, box.height * height), min(score, 1.0)))
    return boxes
