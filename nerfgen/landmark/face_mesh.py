"""MediaPipe Face Mesh on photographs of any size, framing and orientation.

Face Mesh looks for faces in the whole image reduced to 128 pixels, so by itself it misses
small, tightly cropped and turned ones. Here the whole image comes first, which serves a
well-framed portrait at Face Mesh's own cost; a face that is small in it is measured again in a
crop from the full-resolution photograph; and where nothing is found, padding, a detector for
distant faces, overlapping tiles and quarter turns follow, until something is.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.landmark.estimator import Detection
from nerfgen.mediapipe_graph import Graph, silenced
from nerfgen.photo import Photograph, resample_window

NUM_POINTS = 478
# Nose tip, mouth corners and iris centres in Face Mesh's numbering. "Left" is the viewer's left.
POINT_OF_NAME = {"eye_left": 468, "eye_right": 473, "nose_tip": 4, "mouth_left": 61, "mouth_right": 291}

_Coordinate = TypeVar("_Coordinate", float, np.ndarray)

_MAX_SIDE = 1280  # pixels to which a photograph is reduced for the search
_CROP_SIDE = 256  # pixels of a crop; Face Mesh itself sees the face at 192
_CROP_FACTORS = (2.0, 1.5, 2.8)  # side of the crop as a multiple of the face box, in the order tried
_SMALL = 0.25  # a face box below this part of the photograph is measured again in a crop
_MIN_TILE = 96  # pixels of a tile, in which the detector finds a face of _MIN_FACE
_MIN_FACE = 16.0  # extent of the mesh in pixels, below which a face is too small to be of use
_MIN_PHOTO = 8  # shortest side in pixels, below which there is nothing to look for
_MIN_SCORE = 0.5
# A score that faces standing on their heads don't reach; 1% of upright portraits fall short of it.
_CERTAIN = 0.83

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


@dataclass(frozen=True)
class _Box:
    """A face's box: centre and side in pixels."""

    x: float
    y: float
    side: float
    score: float


class FaceMesh:
    """The :class:`nerfgen.landmark.Landmarker` of faces: five named points and 478 dense ones.

    Of several faces the largest is taken (status ``ok_largest``). A face whose mesh extends
    over less than 16 pixels has status ``too_small``; its points are reported nevertheless.
    """

    names = tuple(POINT_OF_NAME)
    mesh_index = np.arange(NUM_POINTS, dtype=np.int32)

    def __init__(self) -> None:
        with silenced():
            self._mesh = Graph(
                "mediapipe/modules/face_landmark/face_landmark_front_cpu.binarypb",
                protobufs=_MESH_PROTOBUFS,
                outputs=("multi_face_landmarks", "all_face_detections"),
                side_inputs={"num_faces": 1, "with_attention": True, "use_prev_landmarks": False},
            )
            # The networks are loaded, and speak, with the first image.
            self._mesh.run(np.zeros((128, 128, 3), np.uint8))
        self._near: Graph | None = None
        self._distant: Graph | None = None
        self._has_found = False

    def __call__(self, photo: Photograph) -> Detection:
        """The landmarks of the largest face.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        image, scale = photo.pixels(_MAX_SIDE)
        if min(image.shape[:2]) < _MIN_PHOTO:
            return _nothing()
        mesh, boxes = self._face_mesh(image)
        largest = max((box.side for box in boxes), default=0.0)
        fills = largest >= _SMALL * max(image.shape[:2])
        if mesh is not None and fills and boxes[0].side == largest and boxes[0].score >= _CERTAIN:
            return _detection(mesh / (*scale, scale[0]), boxes[0].score, len(_distinct(boxes)))
        near = [_at_scale(box, scale) for box in boxes]
        # Beside a small face others, larger ones too, may have been overlooked.
        for candidates in itertools.chain([near] if fills else [], self._search(photo, near)):
            found = self._largest(photo, candidates)
            if found is not None:
                return found
        return _nothing()

    def _face_mesh(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> tuple[Float[np.ndarray, "mesh 3"] | None, list[_Box]]:
        """Mesh of the most certain face, in pixels of ``image``, and the boxes of all, that one first."""
        height, width = image.shape[:2]
        # The mesh network's calculators speak once, with the first face.
        with contextlib.nullcontext() if self._has_found else silenced():
            result = self._mesh.run(image)
        boxes = _boxes(result["all_face_detections"], width, height)
        if not result["multi_face_landmarks"]:
            return None, boxes
        self._has_found = True
        # The depth is in units of the image's width.
        return _points(result["multi_face_landmarks"][0]) * (width, height, width), boxes

    def _largest(self, photo: Photograph, candidates: Sequence[_Box]) -> Detection | None:
        """The largest of the candidates in which Face Mesh confirms a face."""
        boxes = _distinct(candidates)
        for rejected, box in enumerate(boxes):
            confirmed = self._in_crop(photo, box)
            if confirmed is not None:
                mesh, score = confirmed
                return _detection(mesh, score, len(boxes) - rejected)
        return None

    def _in_crop(self, photo: Photograph, box: _Box) -> tuple[Float[np.ndarray, "mesh 3"], float] | None:
        """Mesh of one face, in pixels of the photograph, and its score, from a crop around its box."""
        width, height = photo.size
        for factor in _CROP_FACTORS:
            side = factor * box.side
            # No more of a large photograph is decoded than the crop can show.
            image, (scale_x, scale_y) = photo.pixels(
                int(np.ceil(max(width, height) * min(1.0, _CROP_SIDE / side)))
            )
            x0, y0 = box.x - side / 2, box.y - side / 2
            raster, _ = resample_window(image, (x0 * scale_x, y0 * scale_y, side * scale_x), _CROP_SIDE)
            turns = self._upright_turns(raster)
            mesh, boxes = self._face_mesh(np.rot90(raster, -turns))
            if mesh is None:
                continue
            # Face Mesh may have chosen a neighbour that the crop shows too.
            middle = (mesh[:, :2].mean(axis=0) / _CROP_SIDE - 0.5) * factor
            if np.abs(middle).max() > 0.5:
                continue
            x, y = _turned_back(mesh[:, 0], mesh[:, 1], (_CROP_SIDE, _CROP_SIDE), turns)
            step = np.array([side, side * scale_x / scale_y, side]) / _CROP_SIDE
            return np.stack([x, y, mesh[:, 2]], axis=-1) * step + (x0, y0, 0.0), boxes[0].score
        return None

    def _upright_turns(self, raster: UInt8[np.ndarray, "size size 3"]) -> int:
        """Clockwise quarter turns after which the crop's face is upright.

        The networks take a face that stands on its head for an upright one with odd features, but
        are less sure of it.
        """
        scores = []
        for turns in range(4):
            boxes = self._near_faces(np.rot90(raster, -turns))
            scores.append(max((box.score for box in boxes), default=0.0))
            if scores[-1] >= _CERTAIN:
                break
        return int(np.argmax(scores))

    def _search(self, photo: Photograph, near: list[_Box]) -> Iterator[list[_Box]]:
        """Candidates found by ever more expensive means, the first of them together with ``near``."""
        image, scale = photo.pixels(_MAX_SIDE)
        height, width = image.shape[:2]
        longest = max(width, height)
        views = [(0.0, 0.0, 0.0), _padding(width, height)]
        if longest / 2 >= _MIN_TILE:
            views += _tiles(width, height, longest / 2)
        for turns in range(4):
            found = [box for view in views for box in self._in_view(image, view, turns)]
            yield [_at_scale(box, scale) for box in found] + (near if turns == 0 else [])
            if turns == 0 and longest / 4 >= _MIN_TILE:
                tiles = _tiles(width, height, longest / 4)
                yield [_at_scale(box, scale) for tile in tiles for box in self._in_view(image, tile)]
        if max(photo.size) > 1.5 * _MAX_SIDE:
            image, scale = photo.pixels(2 * _MAX_SIDE)
            height, width = image.shape[:2]
            tiles = _tiles(width, height, max(width, height) / 8)
            yield [_at_scale(box, scale) for tile in tiles for box in self._in_view(image, tile)]

    def _in_view(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        view: tuple[float, float, float],
        turns: int = 0,
    ) -> list[_Box]:
        """Distant faces in a window of an image (side 0: the whole), seen after quarter turns."""
        x0, y0, side = view
        raster = resample_window(image, view, _CROP_SIDE)[0] if side else image
        size = raster.shape[1], raster.shape[0]
        step = side / _CROP_SIDE if side else 1.0
        if self._distant is None:
            self._distant = _detector("full_range")
        seen = np.rot90(raster, -turns)
        found = []
        for box in _boxes(self._distant.run(seen)["detections"], seen.shape[1], seen.shape[0]):
            x, y = _turned_back(box.x, box.y, size, turns)
            found.append(_Box(x0 + x * step, y0 + y * step, box.side * step, box.score))
        return found

    def _near_faces(self, image: UInt8[np.ndarray, "height width 3"]) -> list[_Box]:
        """Boxes by the detector that Face Mesh itself uses."""
        if self._near is None:
            self._near = _detector("short_range")
        return _boxes(self._near.run(image)["detections"], image.shape[1], image.shape[0])


def _detector(reach: str) -> Graph:
    """One of MediaPipe's two face detectors."""
    with silenced():
        detector = Graph(
            f"mediapipe/modules/face_detection/face_detection_{reach}_cpu.binarypb",
            protobufs=_DETECTOR_PROTOBUFS,
            outputs=("detections",),
        )
        detector.run(np.zeros((_CROP_SIDE, _CROP_SIDE, 3), np.uint8))
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


def _boxes(detections: Sequence | None, width: int, height: int) -> list[_Box]:
    """MediaPipe's detections, relative to an image, as boxes in its pixels."""
    boxes = []
    for detection in detections or ():
        score = float(detection.score[0])
        if score < _MIN_SCORE:
            continue
        box = detection.location_data.relative_bounding_box
        x, y = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
        boxes.append(_Box(x, y, max(box.width * width, box.height * height), min(score, 1.0)))
    return boxes


def _at_scale(box: _Box, scale: tuple[float, float]) -> _Box:
    """A box of the reduced image in pixels of the full photograph."""
    return _Box(box.x / scale[0], box.y / scale[1], box.side / scale[0], box.score)


def _distinct(boxes: Sequence[_Box]) -> list[_Box]:
    """Boxes, the largest first, without those of the same face that are less certain."""
    kept: list[_Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(_overlap(box, other) < 0.3 for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.side)


def _overlap(a: _Box, b: _Box) -> float:
    """Shared area as a part of the smaller box."""
    along_x = min(a.x + a.side / 2, b.x + b.side / 2) - max(a.x - a.side / 2, b.x - b.side / 2)
    along_y = min(a.y + a.side / 2, b.y + b.side / 2) - max(a.y - a.side / 2, b.y - b.side / 2)
    return max(along_x, 0.0) * max(along_y, 0.0) / min(a.side, b.side) ** 2


def _padding(width: int, height: int) -> tuple[float, float, float]:
    """The window twice as large as the image: a face that fills the photograph becomes findable."""
    side = 2.0 * max(width, height)
    return (width - side) / 2, (height - side) / 2, side


def _tiles(width: int, height: int, side: float) -> Iterator[tuple[float, float, float]]:
    """Square windows that overlap by half and cover the image."""
    for y0 in _starts(height, side):
        for x0 in _starts(width, side):
            yield x0, y0, side


def _starts(length: int, side: float) -> list[float]:
    if length <= side:
        return [(length - side) / 2]
    return np.linspace(0, length - side, int(np.ceil(2 * length / side)) - 1).tolist()


def _turned_back(
    x: _Coordinate, y: _Coordinate, size: tuple[int, int], turns: int
) -> tuple[_Coordinate, _Coordinate]:
    """Points of an image of (width, height), turned clockwise by ``turns`` quarters, in the image itself."""
    width, height = size
    if turns == 1:
        return y, height - x
    if turns == 2:
        return width - x, height - y
    if turns == 3:
        return width - y, x
    return x, y


def _detection(mesh: Float[np.ndarray, "mesh 3"], score: float, num_objects: int) -> Detection:
    extent = float(np.ptp(mesh[:, :2], axis=0).max())
    usable = "ok" if num_objects == 1 else "ok_largest"
    status = usable if extent >= _MIN_FACE else "too_small"
    return Detection(status, mesh[list(POINT_OF_NAME.values()), :2], mesh, score, num_objects)


def _nothing() -> Detection:
    return Detection("no_object", np.full((len(POINT_OF_NAME), 2), np.nan), np.full((NUM_POINTS, 3), np.nan))
