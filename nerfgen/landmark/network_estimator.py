"""Inference with a trained estimator.

The proposal network looks at windows of several sizes all over the reduced image. The landmark network then measures
each promising window in rounds, each about the similarity of the landmarks that the round before found.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Float, UInt8

from nerfgen.errors import InputError
from nerfgen.image import InputImage, resample_window
from nerfgen.landmark import similarity
from nerfgen.landmark.estimator import Detection
from nerfgen.landmark.estimator_file import TrainedEstimator, load_estimator
from nerfgen.landmark.network import LANDMARK_SIZE, Networks, expected_points
from nerfgen.landmark.search import WindowSearch, centered_frames, distinct, in_batches
from nerfgen.objectclass import ObjectClass

_SEARCH_SIZE = 768  # longer side to which an image is reduced for the search, pixels
# Candidates with a smaller fraction of the most votes are measured only where the others are no certain objects.
_WEAK = 0.2
_MAX_MEASURED_TWICE = 5  # candidates that get more than one round
_ROUNDS = 3
_CERTAIN = 0.8  # score of an object that ends the search
_BATCHES = (4, 8, 16)  # batch sizes for which the landmark network is compiled
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
        classify, propose, self._locate = _programs(len(trained.shape), len(trained.classes))
        self._search = WindowSearch(classify, propose, self._parameters, self._shape)

    def objects(self, image: InputImage) -> list[DetectedObject]:
        """All objects of an image by descending score, uncertain ones included.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        pixels, scale = image.pixels(_SEARCH_SIZE)
        found: list[DetectedObject] = []
        for candidates in self._search.stages(pixels):
            strong = candidates.votes >= _WEAK * candidates.votes.max(initial=0.0)
            for some in (strong, ~strong):
                found += self._objects(image, pixels, scale, candidates.frames[some])
                if any(item.score >= _CERTAIN for item in found):
                    return self._distinct(found)
        # The search misses leaning objects, and some that fill the image.
        further = [self._search.rotated(pixels, turns).frames for turns in (1, 3)]
        found += self._objects(image, pixels, scale, np.concatenate([centered_frames(pixels), *further]))
        return self._distinct(found)

    def _distinct(self, found: list[DetectedObject]) -> list[DetectedObject]:
        """Different objects by descending score."""
        frames = similarity.fit(self._shape, np.stack([item.points for item in found]))
        return [found[row] for row in distinct(frames, np.array([item.score for item in found]))]

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
            for row in distinct(frames, scores)
        ]

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
            logits, located = in_batches(self._locate, self._parameters, both, _BATCHES)
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
def _programs(num_points: int, num_classes: int) -> tuple[Any, Any, Any]:
    """The compiled networks, once per process: the proposal network's classes alone, both of its outputs, and the
    landmark network."""
    networks = Networks(num_points, num_classes)

    def compiled(network: Any) -> Any:
        def run(parameters: Any, windows: Any) -> tuple[Any, Any]:
            logits, heatmaps = network(parameters, windows)
            return logits, expected_points(heatmaps)

        return jax.jit(run)

    def classes(parameters: Any, windows: Any) -> tuple[Any]:
        return (networks.propose(parameters, windows)[0],)

    return jax.jit(classes), compiled(networks.propose), compiled(networks.locate)


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
