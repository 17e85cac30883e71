"""Inference with a trained estimator.

The proposal network looks at windows of several sizes all over the reduced image. The landmark network then measures
each promising window in rounds, each about the similarity of the landmarks that the round before found.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Float, UInt8

from nerfgen.errors import InputError
from nerfgen.image import InputImage
from nerfgen.landmark import similarity
from nerfgen.landmark.estimator import Detection
from nerfgen.landmark.estimator_file import TrainedEstimator, load_estimator
from nerfgen.landmark.network import LANDMARK_SIZE, Networks, expected_points
from nerfgen.landmark.search import (
    NUM_STAGES,
    ReducedImage,
    WindowSearch,
    centered_frames,
    distinct,
    in_batches,
)
from nerfgen.objectclass import ObjectClass

_SEARCH_SIZE = 768  # longer side to which an image is reduced for the search, pixels
# Candidates with a smaller fraction of the most votes are measured only where the others are no certain objects.
_WEAK = 0.2
_HOPELESS = 0.02  # product of probability and trust after the first round, below which there are no others
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
        points: x, y of all landmarks in the image's pixels; NaN for those of other classes.
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
        self._parameters, self._shapes = trained.parameters, trained.shapes
        self._mirrored = trained.landmarks.mirrored
        classify, propose, self._locate = _programs(len(trained.landmarks.names), len(trained.classes))
        self._search = WindowSearch(classify, propose, self._parameters, self._shapes)

    def objects(self, image: InputImage) -> list[DetectedObject]:
        """All objects of an image by descending score, uncertain ones included.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        seen = _Seen(image, *image.pixels(_SEARCH_SIZE))
        found: list[DetectedObject] = []
        for frames in self._candidates(seen):
            found += self._objects(seen, frames)
            if any(item.score >= _CERTAIN for item in found):
                break
        return self._distinct(found)

    def _candidates(self, seen: _Seen) -> Iterator[Float[np.ndarray, "candidate 2 3"]]:
        """Frames of possible objects, the likeliest first: of upright objects, then of others, which a search for
        upright ones misses; those of large objects before those of small ones."""
        pixels = seen.pixels
        for stage in range(NUM_STAGES):
            found = self._search.candidates(pixels, stage)
            strong = found.votes >= _WEAK * found.votes.max(initial=0.0)
            yield found.frames[strong]
            yield found.frames[~strong]
            rotated = [self._search.rotated(pixels, turns, stage).frames for turns in (1, 3)]
            # Some objects that fill the image are missed too.
            yield np.concatenate([*([centered_frames(pixels)] if stage == 0 else []), *rotated])

    def _objects(self, seen: _Seen, frames: Float[np.ndarray, "window 2 3"]) -> list[DetectedObject]:
        """The objects about frames in the reduced image, by descending score."""
        if not len(frames):
            return []
        pixels, scale = seen.at(frames)
        frames = frames * (np.array(scale) / np.array(seen.scale))[None, :, None]
        first = self._measure(pixels, frames, mirrored=False)
        likely = (1 - first.probabilities[:, 0]) * first.trust
        several = [int(row) for row in np.argsort(-likely, kind="stable") if likely[row] > _HOPELESS]
        # One window of each object, and the others where that ends with no certain object: some starts go astray.
        ones = [row for row in distinct(first.frames, likely) if row in several][:_MAX_MEASURED_TWICE]
        found: list[DetectedObject] = []
        for rows in (ones, [row for row in several if row not in ones][:_MAX_MEASURED_TWICE]):
            found += self._refined(pixels, scale, first.frames[rows])
            if any(item.score >= _CERTAIN for item in found):
                break
        return self._distinct(found)

    def _refined(
        self, pixels: ReducedImage, scale: tuple[float, float], frames: Float[np.ndarray, "window 2 3"]
    ) -> list[DetectedObject]:
        """Objects about frames, measured in rounds: each one starts from the frames of the landmarks before."""
        if not len(frames):
            return []
        rounds = []
        for _ in range(_ROUNDS - 1):
            rounds.append(self._measure(pixels, frames, mirrored=True))
            frames = rounds[-1].frames
        last, probabilities = rounds[-1], np.mean([each.probabilities for each in rounds], axis=0)
        labels = 1 + probabilities[:, 1:].argmax(axis=1)
        scores = probabilities[np.arange(len(frames)), labels] * last.trust
        points = np.where(np.isfinite(self._shapes[labels - 1]), last.points, np.nan)
        sizes = similarity.window_size(similarity.fit(self._shapes[labels - 1], points)) / scale[0]
        return [
            DetectedObject(points[row] / scale, int(labels[row]), float(scores[row]), float(sizes[row]))
            for row in range(len(frames))
        ]

    def _distinct(self, found: list[DetectedObject]) -> list[DetectedObject]:
        """Different objects by descending score."""
        if not found:
            return []
        shapes = self._shapes[[item.label - 1 for item in found]]
        frames = similarity.fit(shapes, np.stack([item.points for item in found]))
        return [found[row] for row in distinct(frames, np.array([item.score for item in found]))]

    def _measure(
        self, image: ReducedImage, frames: Float[np.ndarray, "window 2 3"], *, mirrored: bool
    ) -> _Measured:
        """Landmarks about frames.

        Args:
            mirrored: average with what the mirrored windows show.
        """
        windows = np.stack([_upright_window(image, frame) for frame in frames])
        given = np.concatenate([windows, windows[:, :, ::-1]]) if mirrored else windows
        logits, located = in_batches(self._locate, self._parameters, given, _BATCHES)
        probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        apart = np.zeros_like(located)
        if mirrored:
            located, other = np.split(located, 2)
            other = (other * (-1, 1) + (1, 0))[:, self._mirrored]
            probabilities = probabilities.reshape(2, len(frames), -1).mean(0)
            apart, located = located - other, (located + other) / 2
        shapes = self._shapes[probabilities[:, 1:].argmax(axis=1)]
        points = similarity.apply(frames, located)
        frames = _updated(frames, similarity.fit(shapes, points))
        own = similarity.apply(similarity.inverse(frames), points)
        # Landmarks of other classes, which the shape lacks, do not count.
        known = np.isfinite(shapes).all(-1)
        disagreement, deformation = (
            np.sqrt(np.mean((offset**2).sum(-1), axis=-1, where=known)) for offset in (apart, own - shapes)
        )
        trust = 1 / (1 + (disagreement / _DISAGREEMENT) ** 4) / (1 + (deformation / _DEFORMATION) ** 4)
        return _Measured(points, frames, probabilities, trust)


class _Measured(NamedTuple):
    """Landmarks about frames.

    Attributes:
        points: in the image's pixels.
        frames: of the landmarks; those that were given where they are degenerate.
        probabilities: of no object and of each class.
        trust: 0 to 1, by the agreement of the landmarks with those of the mirror image and with the mean shape.
    """

    points: Float[np.ndarray, "window landmark 2"]
    frames: Float[np.ndarray, "window 2 3"]
    probabilities: Float[np.ndarray, "window labels"]
    trust: Float[np.ndarray, " window"]


class _Seen:
    """An image as the search sees it, and at higher resolutions.

    Attributes:
        pixels: the reduced image.
        scale: its pixels in one of the image's, in x and y.
    """

    def __init__(
        self, image: InputImage, pixels: UInt8[np.ndarray, "height width 3"], scale: tuple[float, float]
    ) -> None:
        self._image, self.pixels, self.scale = image, ReducedImage(pixels), scale

    def at(self, frames: Float[np.ndarray, "window 2 3"]) -> tuple[ReducedImage, tuple[float, float]]:
        """The image in the resolution in which frames are measured, and its scale: objects that are small in the
        reduced image are measured at a higher resolution."""
        smallest = float(similarity.window_size(frames).min())
        if smallest >= LANDMARK_SIZE or max(self._image.size) <= max(self.pixels.shape):
            return self.pixels, self.scale
        pixels, scale = self._image.pixels(round(_SEARCH_SIZE * 1.25 * LANDMARK_SIZE / smallest))
        return ReducedImage(pixels), scale


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
        self._own = trained.landmarks.places[self._label - 1]
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
        points = largest.points[self._own]
        extent = float(np.ptp(points, axis=0).max())
        usable = "ok" if len(found) == 1 else "ok_largest"
        status = usable if extent >= _MIN_OBJECT else "too_small"
        return Detection(status, points, np.zeros((0, 3)), largest.score, len(found))


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


def _upright_window(image: ReducedImage, frame: Float[np.ndarray, "2 3"]) -> UInt8[np.ndarray, "96 96 3"]:
    """The window of a frame."""
    from PIL import Image

    # First an upright square around the rotated window, at twice the resolution.
    center = frame[:, :2].sum(axis=-1) / 2 + frame[:, 2]
    side = float(similarity.window_size(frame)) * np.sqrt(2.0)
    corner = center - side / 2
    size = 2 * LANDMARK_SIZE
    around = image.window(np.array([*corner, side]), size)
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
