"""MediaPipe's face landmarks in images of any size, framing and orientation.

MediaPipe detects faces in the whole image, reduced to 128 pixels, so it misses faces that are small, tightly cropped or
rotated. Here the whole image comes first, which is all that a well-framed portrait costs. A small face is measured
again in a crop at full resolution. Where nothing is found, the search continues with padding, a detector for distant
faces, overlapping tiles and quarter turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.image import InputImage, resample_window
from nerfgen.landmark.estimator import Detection
from nerfgen.landmark.face_networks import NUM_POINTS, FaceBox, FaceNetworks

# Nose tip, mouth corners and iris centres in Face Mesh's numbering. "Left" is the viewer's left.
POINT_OF_NAME = {"eye_left": 468, "eye_right": 473, "nose_tip": 4, "mouth_left": 61, "mouth_right": 291}

_Coordinate = TypeVar("_Coordinate", float, np.ndarray)

_SEARCH_SIZE = 1280  # longer side to which an image is reduced for the search, pixels
_CROP_SIZE = 256  # pixels of a crop; the mesh network's own input has 192
_CROP_FACTORS = (2.0, 1.5, 2.8)  # sizes of the crop as multiples of the face's box, in the order tried
_SMALL = 0.25  # a box of a smaller fraction of the image is measured again in a crop
_MIN_TILE = 96  # size of a tile in pixels in which the detector finds a face of _MIN_FACE
_MIN_FACE = 16.0  # extent of the mesh in pixels, below which a face is too small
_MIN_IMAGE = 8  # shorter side in pixels, below which nothing is searched
# Upside-down faces do not reach this score; 1% of upright portraits do not either.
_CERTAIN = 0.83
_CONFIRMED = 0.65  # score in its own crop that something that is not a face seldom reaches


class FaceMesh:
    """The :class:`nerfgen.landmark.LandmarkEstimator` of faces: five named points and 478 dense ones.

    Of several faces the largest is used (status ``ok_largest``). A face whose mesh is smaller than 16 pixels has status
    ``too_small``; its points are reported nevertheless.

    Args:
        networks: of the installed MediaPipe.
    """

    names = tuple(POINT_OF_NAME)
    mesh_index = np.arange(NUM_POINTS, dtype=np.int32)

    def __init__(self, networks: FaceNetworks) -> None:
        self._networks = networks

    def __call__(self, image: InputImage) -> Detection:
        """The landmarks of the largest face.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        pixels, scale = image.pixels(_SEARCH_SIZE)
        if min(pixels.shape[:2]) < _MIN_IMAGE:
            return _nothing()
        mesh, boxes = self._networks.mesh(pixels)
        largest = max((box.side for box in boxes), default=0.0)
        fills = largest >= _SMALL * max(pixels.shape[:2])
        if mesh is not None and fills and boxes[0].side == largest and boxes[0].score >= _CERTAIN:
            return _detection(mesh / (*scale, scale[0]), boxes[0].score, len(_distinct(boxes)))
        near = [_at_scale(box, scale) for box in boxes]
        # With a small face, larger ones may have been missed.
        for candidates in itertools.chain([near] if fills else [], self._search(image, near)):
            found = self._largest(image, candidates)
            if found is not None:
                return found
        return _nothing()

    def _largest(self, image: InputImage, candidates: Sequence[FaceBox]) -> Detection | None:
        """The largest of the candidates in which the mesh network confirms a face."""
        boxes = _distinct(candidates)
        for rejected, box in enumerate(boxes):
            confirmed = self._in_crop(image, box)
            if confirmed is not None:
                others = boxes[rejected + 1 :]
                if self._networks.window_division > 1:
                    others = [other for other in others if self._is_face(image, other)]
                return _detection(*confirmed, 1 + len(others))
        return None

    def _is_face(self, image: InputImage, box: FaceBox) -> bool:
        """Whether a box that an unreliable detector found holds a face."""
        confirmed = self._in_crop(image, box)
        return confirmed is not None and confirmed[1] >= _CONFIRMED

    def _in_crop(self, image: InputImage, box: FaceBox) -> tuple[Float[np.ndarray, "mesh 3"], float] | None:
        """Mesh of one face, in the image's pixels, and its score, from a crop around its box."""
        width, height = image.size
        for factor in _CROP_FACTORS:
            side = factor * box.side
            # A large image is decoded at no higher resolution than the crop shows.
            pixels, (scale_x, scale_y) = image.pixels(
                int(np.ceil(max(width, height) * min(1.0, _CROP_SIZE / side)))
            )
            x0, y0 = box.x - side / 2, box.y - side / 2
            raster, _ = resample_window(pixels, (x0 * scale_x, y0 * scale_y, side * scale_x), _CROP_SIZE)
            turns = self._upright_turns(raster)
            mesh, boxes = self._networks.mesh(np.rot90(raster, -turns))
            if mesh is None:
                continue
            # The network may have chosen another face in the crop.
            middle = (mesh[:, :2].mean(axis=0) / _CROP_SIZE - 0.5) * factor
            if np.abs(middle).max() > 0.5:
                continue
            x, y = _turned_back(mesh[:, 0], mesh[:, 1], (_CROP_SIZE, _CROP_SIZE), turns)
            step = np.array([side, side * scale_x / scale_y, side]) / _CROP_SIZE
            return np.stack([x, y, mesh[:, 2]], axis=-1) * step + (x0, y0, 0.0), boxes[0].score
        return None

    def _upright_turns(self, raster: UInt8[np.ndarray, "size size 3"]) -> int:
        """Clockwise quarter turns after which the crop's face is upright.

        The networks take an upside-down face for an upright one with odd features, but with a lower score.
        """
        scores = []
        for turns in range(4):
            boxes = self._networks.near(np.rot90(raster, -turns))
            scores.append(max((box.score for box in boxes), default=0.0))
            if scores[-1] >= _CERTAIN:
                break
        return int(np.argmax(scores))

    def _search(self, image: InputImage, near: list[FaceBox]) -> Iterator[list[FaceBox]]:
        """Candidates by increasingly expensive means; the first ones include ``near``."""
        pixels, scale = image.pixels(_SEARCH_SIZE)
        height, width = pixels.shape[:2]
        longest = max(width, height)
        views = [(0.0, 0.0, 0.0), _padding(width, height)]
        if longest / 2 >= _MIN_TILE:
            views += _tiles(width, height, longest / 2)
        finer = self._networks.window_division
        for turns in range(4):
            found = [box for view in views for box in self._in_view(pixels, view, turns)]
            yield [_at_scale(box, scale) for box in found] + (near if turns == 0 else [])
            if turns == 0:
                for division in dict.fromkeys((4, 4 * finer)):
                    yield self._in_tiles(pixels, scale, division)
        if finer > 1:
            for turns in range(1, 4):
                yield self._in_tiles(pixels, scale, 4, turns)
        if max(image.size) > 1.5 * _SEARCH_SIZE:
            pixels, scale = image.pixels(2 * _SEARCH_SIZE)
            yield self._in_tiles(pixels, scale, 8 * finer)

    def _in_tiles(
        self,
        pixels: UInt8[np.ndarray, "height width 3"],
        scale: tuple[float, float],
        division: int,
        turns: int = 0,
    ) -> list[FaceBox]:
        """Faces in windows of a fraction of the longer side, in pixels of the full image."""
        height, width = pixels.shape[:2]
        side = max(width, height) / division
        if side < _MIN_TILE:
            return []
        tiles = _tiles(width, height, side)
        return [_at_scale(box, scale) for tile in tiles for box in self._in_view(pixels, tile, turns)]

    def _in_view(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        view: tuple[float, float, float],
        turns: int = 0,
    ) -> list[FaceBox]:
        """Distant faces in a window of an image (side 0: the whole image), after quarter turns."""
        x0, y0, side = view
        raster = resample_window(image, view, _CROP_SIZE)[0] if side else image
        size = raster.shape[1], raster.shape[0]
        step = side / _CROP_SIZE if side else 1.0
        seen = np.rot90(raster, -turns)
        found = []
        for box in self._networks.distant(seen):
            x, y = _turned_back(box.x, box.y, size, turns)
            found.append(FaceBox(x0 + x * step, y0 + y * step, box.side * step, box.score))
        return found


def _at_scale(box: FaceBox, scale: tuple[float, float]) -> FaceBox:
    """A box of the reduced image in pixels of the full image."""
    return FaceBox(box.x / scale[0], box.y / scale[1], box.side / scale[0], box.score)


def _distinct(boxes: Sequence[FaceBox]) -> list[FaceBox]:
    """One box for each face, the one of the highest score, by descending size."""
    kept: list[FaceBox] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(_overlap(box, other) < 0.3 for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.side)


def _overlap(a: FaceBox, b: FaceBox) -> float:
    """Area of the intersection as a fraction of the smaller box."""
    along_x = min(a.x + a.side / 2, b.x + b.side / 2) - max(a.x - a.side / 2, b.x - b.side / 2)
    along_y = min(a.y + a.side / 2, b.y + b.side / 2) - max(a.y - a.side / 2, b.y - b.side / 2)
    return max(along_x, 0.0) * max(along_y, 0.0) / min(a.side, b.side) ** 2


def _padding(width: int, height: int) -> tuple[float, float, float]:
    """The window twice as large as the image, in which a face that fills the image is found."""
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
    """Points of an image rotated clockwise by quarter turns, in the image of (width, height) itself."""
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
