"""Inference with a trained estimator.

The proposal network looks at windows of several sizes all over the reduced image. The landmark network then measures
each promising window in rounds, each about the similarity of the landmarks that the round before found.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from nerfgen.errors import InputError
from nerfgen.image import InputImage, resample_window
from nerfgen.landmark import similarity
from nerfgen.landmark.estimator import Detection
from nerfgen.landmark.estimator_file import TrainedEstimator, load_estimator
from nerfgen.landmark.network import LANDMARK_SIZE, PROPOSAL_SIZE, Networks, expected_points
from nerfgen.objectclass import ObjectClass

_SEARCH_SIZE = 768  # longer side to which an image is reduced for the search, pixels
_MAX_WINDOW = 1.6  # size of the largest windows of the search, in longer sides of the image
_MIN_WINDOW = 1 / 12  # size of the smallest windows, in the same unit
_MIN_WINDOW_PIXELS = 32.0  # and in pixels
_LEVEL_RATIO = 1.4  # between successive window sizes
_STRIDE = 14  # between neighbouring windows, pixels of the proposal network
_MIN_PROBABILITY = 0.1  # of an object, for a window to become a candidate
_MAX_CANDIDATES = 16
_MAX_MEASURED_TWICE = 5  # candidates that get more than one round
# Candidates whose sizes differ by a larger factor are both kept: the proposal network often takes a part of an object
# for an object, and the landmark network does not.
_SIZE_RATIO = 1.5
_ROUNDS = 3
_CERTAIN = 0.8  # score of an object that ends the search
_BATCHES = (4, 16)  # batch sizes for which the landmark network is compiled
_PROPOSAL_BATCH = 128
# Distances in window sizes that halve the trust in landmarks: between those of a window and of its mirror image, and
# between landmarks and the mean shape.
_DISAGREEMENT = 0.035
_DEFORMATION = 0.11
_MIN_OBJECT = 12.0  # extent of the landmarks in pixels, below which an object is too small
_MIN_IMAGE = 8  # shorter side in pixels, below which nothing is searched


@dataclass(frozen=True)
class DetectedObject:
    """One object in an image.

    Attributes:
        points: x, y of its landmarks in the image's pixels.
        label: 1 for the first class, and so on.
        score: 0 to 1.
        size: of its window, pixels.
    """

    points: Float[np.ndarray, "landmark 2"]
    label: int
    score: float
    size: float


class ObjectDetector:
    """Finds all objects of an estimator's classes in an image."""

    def __init__(self, trained: TrainedEstimator) -> None:
        self._parameters, self._shape = trained.parameters, trained.shape
        self._mirrored = trained.classes[0].mirrored
        self._propose, self._locate = _programs(len(trained.shape), len(trained.classes))

    def objects(self, image: InputImage) -> list[DetectedObject]:
        """All objects of an image by descending score, uncertain ones included.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        pixels, scale = image.pixels(_SEARCH_SIZE)
        found = self._objects(image, pixels, scale, self._candidates(pixels))
        if not found or found[0].score < _CERTAIN:
            # The search misses leaning objects, and some that fill the image.
            further = [
                _centered_frames(pixels),
                *(self._rotated_candidates(pixels, turns) for turns in (1, 3)),
            ]
            found += self._objects(image, pixels, scale, np.concatenate(further))
            frames = similarity.fit(self._shape, np.stack([item.points for item in found]))
            found = [found[row] for row in _distinct(frames, np.array([item.score for item in found]))]
        return found

    def _objects(
        self,
        image: InputImage,
        pixels: UInt8[np.ndarray, "height width 3"],
        scale: tuple[float, float],
        frames: Float[np.ndarray, "window 2 3"],
    ) -> list[DetectedObject]:
        """The objects about frames of an image that was reduced to ``pixels``, by descending score."""
        if not len(frames):
            return []
        smallest = float(similarity.window_size(frames).min())
        if smallest < LANDMARK_SIZE and max(image.size) > max(pixels.shape[:2]):
            # Objects that are small in the reduced image are measured at a higher resolution.
            finer, finer_scale = image.pixels(round(_SEARCH_SIZE * 1.25 * LANDMARK_SIZE / smallest))
            ratio = np.array(finer_scale) / np.array(scale)
            frames = frames * ratio[None, :, None]
            pixels, scale = finer, finer_scale
        points, probabilities, trust = self.measure(pixels, frames, rounds=1)
        promising = np.argsort(-(1 - probabilities[:, 0]) * trust, kind="stable")[:_MAX_MEASURED_TWICE]
        frames = _updated(frames, similarity.fit(self._shape, points))[promising]
        points, probabilities, trust = self.measure(pixels, frames, rounds=_ROUNDS - 1)
        labels = 1 + probabilities[:, 1:].argmax(axis=1)
        scores = probabilities[np.arange(len(points)), labels] * trust
        frames = similarity.fit(self._shape, points)
        return [
            DetectedObject(
                points[row] / scale,
                int(labels[row]),
                float(scores[row]),
                float(similarity.window_size(frames[row]) / scale[0]),
            )
            for row in _distinct(frames, scores)
        ]

    def _rotated_candidates(
        self, image: UInt8[np.ndarray, "height width 3"], turns: int
    ) -> Float[np.ndarray, "window 2 3"]:
        """Candidates in the image rotated counter-clockwise by quarter turns."""
        height, width = image.shape[:2]
        # From the rotated image to the image.
        back = {1: [[0.0, -1.0, width], [1.0, 0.0, 0.0]], 3: [[0.0, 1.0, 0.0], [-1.0, 0.0, height]]}[turns]
        frames = self._candidates(np.ascontiguousarray(np.rot90(image, turns)))
        return similarity.compose(np.broadcast_to(np.array(back), frames.shape), frames)

    def measure(
        self, image: UInt8[np.ndarray, "height width 3"], frames: Float[np.ndarray, "window 2 3"], rounds: int
    ) -> tuple[
        Float[np.ndarray, "window landmark 2"],
        Float[np.ndarray, "window labels"],
        Float[np.ndarray, " window"],
    ]:
        """Landmarks about frames, in rounds: each one starts from the frames of the landmarks before.

        Returns:
            Landmarks in the image's pixels; probabilities of no object and of each class; trust in the landmarks, 0 to
            1, by their agreement with those of the mirror image and with the mean shape.
        """
        probabilities, disagreement = [], np.zeros(len(frames))
        points = np.zeros((len(frames), *self._shape.shape))
        for _ in range(rounds):
            windows = np.stack([_upright_window(image, frame) for frame in frames])
            both = np.concatenate([windows, windows[:, :, ::-1]])
            logits, located = self._run(self._locate, both)
            own, mirrored = np.split(located, 2)
            mirrored = (mirrored * (-1, 1) + (1, 0))[:, self._mirrored]
            disagreement = np.sqrt(((own - mirrored) ** 2).sum(-1).mean(-1))
            probabilities.append(
                np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
                .reshape(2, len(frames), -1)
                .mean(0)
            )
            points = similarity.apply(frames, (own + mirrored) / 2)
            frames = _updated(frames, similarity.fit(self._shape, points))
        shape = similarity.apply(similarity.inverse(frames), points)
        deformation = np.sqrt(((shape - self._shape) ** 2).sum(-1).mean(-1))
        trust = 1 / (1 + (disagreement / _DISAGREEMENT) ** 4) / (1 + (deformation / _DEFORMATION) ** 4)
        return points, np.mean(probabilities, axis=0), trust

    def _candidates(self, image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "window 2 3"]:
        """Frames of possible objects, in the image's pixels."""
        windows, positions = [], []
        for views, position in _levels(image):
            windows.append(views)
            positions.append(position)
        if not windows:
            return np.zeros((0, 2, 3))
        position = np.concatenate(positions)
        logits, points = self._run(self._propose, np.concatenate(windows), (_PROPOSAL_BATCH,))
        probability = 1 - np.exp(logits[:, 0] - np.logaddexp.reduce(logits, axis=1))
        rows = np.flatnonzero(probability > _MIN_PROBABILITY)
        window_frames = np.zeros((len(rows), 2, 3))
        window_frames[:, 0, 0] = window_frames[:, 1, 1] = position[rows, 2]
        window_frames[:, :, 2] = position[rows, :2]
        frames = similarity.fit(self._shape, similarity.apply(window_frames, points[rows]))
        # An object that is much smaller or larger than its window belongs to another level.
        ratio = similarity.window_size(np.nan_to_num(frames)) / position[rows, 2]
        fits = similarity.is_usable(frames) & (ratio > 0.45) & (ratio < 1.4)
        frames, probability = frames[fits], probability[rows][fits]
        kept = _distinct(frames, _votes(frames, probability), size_ratio=_SIZE_RATIO)
        return frames[kept[:_MAX_CANDIDATES]]

    def _run(
        self, program: Any, windows: np.ndarray, batches: Sequence[int] = _BATCHES
    ) -> tuple[np.ndarray, np.ndarray]:
        """A network's two outputs, in padded batches of few sizes, for each of which it is compiled once."""
        outputs, start = [], 0
        while start < len(windows):
            remaining = len(windows) - start
            batch = next((size for size in batches if size >= remaining), batches[-1])
            chunk = windows[start : start + batch]
            padded = np.concatenate([chunk, np.zeros((batch - len(chunk), *chunk.shape[1:]), np.uint8)])
            outputs.append(
                [np.asarray(value, np.float64)[: len(chunk)] for value in program(self._parameters, padded)]
            )
            start += batch
        first, second = (np.concatenate(values) for values in zip(*outputs, strict=True))
        return first, second


class NetworkEstimator:
    """The :class:`nerfgen.landmark.LandmarkEstimator` of one class of a ``landmarker/1`` file.

    Of several objects the largest is used (status ``ok_largest``). Objects of the file's other classes are ignored.

    Raises:
        InputError: the file was trained for other classes, or for other landmarks.
    """

    mesh_index = np.zeros(0, np.int32)

    def __init__(self, described: ObjectClass, file: Path) -> None:
        trained = load_estimator(file)
        self._label = trained.label_of(described, file)
        self._threshold = trained.threshold
        self.names = described.landmark_names
        self._detector = ObjectDetector(trained)
        self._file = file

    def __call__(self, image: InputImage) -> Detection:
        """The landmarks of the class's largest object in an image of any size.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
            InputError: the weights in the file are not those of the networks.
        """
        found = []
        if min(image.size) >= _MIN_IMAGE:
            try:
                objects = self._detector.objects(image)
            except FlaxError as error:
                raise InputError(
                    f"{self._file}: its weights are not those of the networks; train it again"
                ) from error
            found = [item for item in objects if item.label == self._label and item.score >= self._threshold]
        if not found:
            return Detection("no_object", np.full((len(self.names), 2), np.nan), np.zeros((0, 3)))
        largest = max(found, key=lambda item: item.size)
        extent = float(np.ptp(largest.points, axis=0).max())
        usable = "ok" if len(found) == 1 else "ok_largest"
        status = usable if extent >= _MIN_OBJECT else "too_small"
        return Detection(status, largest.points, np.zeros((0, 3)), largest.score, len(found))


@functools.cache
def _programs(num_points: int, num_classes: int) -> tuple[Any, Any]:
    """The compiled networks, once per process."""
    networks = Networks(num_points, num_classes)

    def compiled(network: Any) -> Any:
        def run(parameters: Any, windows: Any) -> tuple[Any, Any]:
            logits, heatmaps = network(parameters, windows)
            return logits, expected_points(heatmaps)

        return jax.jit(run)

    return compiled(networks.propose), compiled(networks.locate)


def _levels(
    image: UInt8[np.ndarray, "height width 3"],
) -> Iterator[tuple[UInt8[np.ndarray, "window 48 48 3"], Float[np.ndarray, "window 3"]]]:
    """Windows of each size, the largest first, and their positions (x0, y0, side)."""
    height, width = image.shape[:2]
    side = _MAX_WINDOW * max(height, width)
    while side >= max(_MIN_WINDOW_PIXELS, _MIN_WINDOW * max(height, width)):
        step = side / PROPOSAL_SIZE
        # The centres of the windows lie in the image, so windows extend beyond it by half their size.
        columns, rows = (1 + int(np.ceil(length / step / _STRIDE)) for length in (width, height))
        size = PROPOSAL_SIZE + _STRIDE * (max(columns, rows) - 1)
        x0, y0 = (
            (length - (count - 1) * _STRIDE * step - side) / 2
            for length, count in ((width, columns), (height, rows))
        )
        raster, _ = resample_window(image, (x0, y0, size * step), size)
        views = sliding_window_view(raster, (PROPOSAL_SIZE, PROPOSAL_SIZE, 3))[::_STRIDE, ::_STRIDE, 0]
        views = views[:rows, :columns]
        row, column = np.mgrid[:rows, :columns] * (_STRIDE * step)
        position = np.stack([x0 + column, y0 + row, np.full(row.shape, side)], axis=-1)
        yield views.reshape(-1, PROPOSAL_SIZE, PROPOSAL_SIZE, 3), position.reshape(-1, 3)
        side /= _LEVEL_RATIO


def _upright_window(
    image: UInt8[np.ndarray, "height width 3"], frame: Float[np.ndarray, "2 3"]
) -> UInt8[np.ndarray, "96 96 3"]:
    """The window of a frame."""
    from PIL import Image

    # First an upright square around the rotated window, at twice the resolution.
    center = frame[:, :2].sum(axis=-1) / 2 + frame[:, 2]
    side = float(similarity.window_size(frame)) * np.sqrt(2.0)
    corner = center - side / 2
    size = 2 * LANDMARK_SIZE
    around, _ = resample_window(image, (*corner, side), size)
    inner = frame.copy()
    inner[:, 2] -= corner
    (a, b, c), (d, e, f) = inner * (size / side)
    values = (a / LANDMARK_SIZE, b / LANDMARK_SIZE, c, d / LANDMARK_SIZE, e / LANDMARK_SIZE, f)
    return np.asarray(
        Image.fromarray(around).transform(
            (LANDMARK_SIZE, LANDMARK_SIZE), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR
        )
    )


def _updated(
    frames: Float[np.ndarray, "window 2 3"], new: Float[np.ndarray, "window 2 3"]
) -> Float[np.ndarray, "window 2 3"]:
    """The new frames; the old ones where the new are degenerate or their sizes differ too much."""
    ratio = similarity.window_size(np.nan_to_num(new)) / similarity.window_size(frames)
    good = similarity.is_usable(new) & (ratio > 0.5) & (ratio < 2.0)
    return np.where(good[:, None, None], new, frames)


def _centered_frames(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "window 2 3"]:
    """Frames of an object that fills the image, upright or leaning."""
    height, width = image.shape[:2]
    whole = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) * max(width, height)
    whole[:, 2] = (np.array([width, height]) - max(width, height)) / 2
    sides, turns = (
        values.ravel() for values in np.meshgrid((0.75, 1.0, 1.3), np.radians((-45.0, 0.0, 45.0)))
    )
    return similarity.compose(
        np.broadcast_to(whole, (len(sides), 2, 3)),
        similarity.about_center(sides, turns, np.zeros((len(sides), 2))),
    )


def _votes(
    frames: Float[np.ndarray, "window 2 3"], probability: Float[np.ndarray, " window"]
) -> Float[np.ndarray, " window"]:
    """Sum of the probabilities of all windows with about the same frame: a true object is seen in many."""
    center = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    side = similarity.window_size(frames)
    distance = np.linalg.norm(center[:, None] - center[None], axis=-1)
    same = (distance < 0.2 * side[:, None]) & (np.abs(np.log(side[:, None] / side[None])) < np.log(1.25))
    return same @ probability


def _distinct(
    frames: Float[np.ndarray, "window 2 3"],
    scores: Float[np.ndarray, " window"],
    *,
    size_ratio: float = np.inf,
) -> list[int]:
    """Frames of different objects, by descending score.

    Args:
        size_ratio: frames whose sizes differ by a larger factor are different, wherever they are.
    """
    center = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    side = similarity.window_size(frames)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        near = [
            other
            for other in kept
            if np.linalg.norm(center[row] - center[other]) < 0.4 * max(side[row], side[other])
            and max(side[row], side[other]) < size_ratio * min(side[row], side[other])
        ]
        if not near:
            kept.append(int(row))
    return kept
