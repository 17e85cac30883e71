"""The search of a trained estimator: where in an image objects may be.

The proposal network looks at windows of several sizes all over the reduced image, the largest first. A search goes on
to smaller ones where the large ones show no certain object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from nerfgen.image import resample_window
from nerfgen.landmark import similarity
from nerfgen.landmark.network import PROPOSAL_SIZE

_MAX_WINDOW = 1.6  # size of the largest windows of the search, in longer sides of the image
_MIN_WINDOW = 1 / 12  # size of the smallest windows, in the same unit
_MIN_WINDOW_PIXELS = 32.0  # and in pixels
_LEVEL_RATIO = 1.4  # between successive window sizes
# Levels of the stages: objects of half the image or more are in the first.
_STAGES = (slice(0, 4), slice(4, 6), slice(6, None))
NUM_STAGES = len(_STAGES)
_STRIDE = 14  # between neighbouring windows, pixels of the proposal network
_MIN_PROBABILITY = 0.1  # of an object, for a window to become a candidate
_MAX_CANDIDATES = 16
# Candidates whose sizes differ by a larger factor are both kept: the proposal network often takes a part of an object
# for an object, and the landmark network does not.
_SIZE_RATIO = 1.5
# Windows that are classified together, and those of which landmarks are proposed.
_CLASSIFIED, _PROPOSED = (32, 128), (8, 32)
# Fewest pixels of a reduced image in one of a window.
_REDUCED = 2.0

Program = Callable[[Any, UInt8[np.ndarray, "window size size 3"]], Any]


class Candidates(NamedTuple):
    """Possible objects, the likeliest first.

    Attributes:
        frames: see :mod:`nerfgen.landmark.similarity`.
        votes: sum of the probabilities of all windows with about the same frame.
    """

    frames: Float[np.ndarray, "candidate 2 3"]
    votes: Float[np.ndarray, "candidate"]


class WindowSearch:
    """Finds candidates.

    Args:
        classify: the proposal network's logits, of its parameters and windows.
        propose: its logits and points.
        parameters: of both networks.
        shapes: the mean shape of each class.
    """

    def __init__(
        self,
        classify: Program,
        propose: Program,
        parameters: Any,
        shapes: Float[np.ndarray, "class landmark 2"],
    ) -> None:
        self._classify, self._propose, self._parameters, self._shapes = classify, propose, parameters, shapes

    def candidates(self, image: ReducedImage, stage: int) -> Candidates:
        """Candidates in the image's pixels; the stages go from large windows to small ones."""
        height, width = image.shape
        levels = list(_levels(width, height))[_STAGES[stage]]
        if not levels:
            return Candidates(np.zeros((0, 2, 3)), np.zeros(0))
        cut = [level.windows(image) for level in levels]
        windows, position = (np.concatenate(parts) for parts in zip(*cut, strict=True))
        (logits,) = in_batches(self._classify, self._parameters, windows, _CLASSIFIED)
        probability = 1 - np.exp(logits[:, 0] - np.logaddexp.reduce(logits, axis=1))
        rows = np.flatnonzero(probability > _MIN_PROBABILITY)
        if not len(rows):
            return Candidates(np.zeros((0, 2, 3)), np.zeros(0))
        _, points = in_batches(self._propose, self._parameters, windows[rows], _PROPOSED)
        window_frames = np.zeros((len(rows), 2, 3))
        window_frames[:, 0, 0] = window_frames[:, 1, 1] = position[rows, 2]
        window_frames[:, :, 2] = position[rows, :2]
        shapes = self._shapes[logits[rows, 1:].argmax(axis=1)]
        frames = similarity.fit(shapes, similarity.apply(window_frames, points))
        # An object that is much smaller or larger than its window belongs to another level.
        ratio = similarity.window_size(np.nan_to_num(frames)) / position[rows, 2]
        fits = similarity.is_usable(frames) & (ratio > 0.45) & (ratio < 1.4)
        frames, probability = frames[fits], probability[rows][fits]
        votes = _votes(frames, probability)
        kept = distinct(frames, votes, size_ratio=_SIZE_RATIO)[:_MAX_CANDIDATES]
        return Candidates(frames[kept], votes[kept])

    def rotated(self, image: ReducedImage, turns: int, stage: int) -> Candidates:
        """Candidates in the image rotated counter-clockwise by quarter turns, in the image's pixels."""
        height, width = image.shape
        # From the rotated image to the image.
        back = {1: [[0.0, -1.0, width], [1.0, 0.0, 0.0]], 3: [[0.0, 1.0, 0.0], [-1.0, 0.0, height]]}[turns]
        found = self.candidates(image.rotated(turns), stage)
        frames = similarity.compose(np.broadcast_to(np.array(back), found.frames.shape), found.frames)
        return found._replace(frames=frames)


def in_batches(
    program: Program,
    parameters: Any,
    windows: UInt8[np.ndarray, "window size size 3"],
    batches: Sequence[int],
) -> list[Float[np.ndarray, "window ..."]]:
    """A program's outputs for each of the windows, in padded batches of few sizes, for each of which it is compiled
    once.

    Args:
        batches: the sizes, ascending.
    """
    outputs, start = [], 0
    while start < len(windows):
        remaining = len(windows) - start
        batch = next((size for size in batches if size >= remaining), batches[-1])
        chunk = windows[start : start + batch]
        padded = np.concatenate([chunk, np.zeros((batch - len(chunk), *chunk.shape[1:]), np.uint8)])
        outputs.append([np.asarray(value, np.float64)[: len(chunk)] for value in program(parameters, padded)])
        start += batch
    return [np.concatenate(values) for values in zip(*outputs, strict=True)]


class ReducedImage:
    """An image, with itself reduced by powers of two as they are needed."""

    def __init__(self, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        self._pixels = [np.ascontiguousarray(pixels)]
        self._rotated: dict[int, ReducedImage] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width, _ = self._pixels[0].shape
        return height, width

    def rotated(self, turns: int) -> ReducedImage:
        """The image rotated counter-clockwise by quarter turns."""
        if turns not in self._rotated:
            self._rotated[turns] = ReducedImage(np.rot90(self._pixels[0], turns))
        return self._rotated[turns]

    def window(self, window: Float[np.ndarray, " 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
        """A square window (x0, y0, side), as of :func:`nerfgen.image.resample_window`."""
        from PIL import Image

        halvings = max(0, int(np.log2(max(window[2] / size / _REDUCED, 1.0))))
        while len(self._pixels) <= halvings and min(self._pixels[-1].shape[:2]) > 1:
            self._pixels.append(np.asarray(Image.fromarray(self._pixels[-1]).reduce(2)))
        halvings = min(halvings, len(self._pixels) - 1)
        return resample_window(self._pixels[halvings], window / 2**halvings, size)[0]


class _Level(NamedTuple):
    """Windows of one size all over an image.

    Attributes:
        side: of the windows, pixels of the image.
        columns, rows: numbers of windows.
        x0, y0: corner of the first.
    """

    side: float
    columns: int
    rows: int
    x0: float
    y0: float

    def windows(
        self, image: ReducedImage
    ) -> tuple[UInt8[np.ndarray, "window 48 48 3"], Float[np.ndarray, "window 3"]]:
        """The windows and their positions (x0, y0, side)."""
        step = self.side / PROPOSAL_SIZE
        size = PROPOSAL_SIZE + _STRIDE * (max(self.columns, self.rows) - 1)
        raster = image.window(np.array([self.x0, self.y0, size * step]), size)
        views = sliding_window_view(raster, (PROPOSAL_SIZE, PROPOSAL_SIZE, 3))[::_STRIDE, ::_STRIDE, 0]
        views = views[: self.rows, : self.columns]
        row, column = np.mgrid[: self.rows, : self.columns] * (_STRIDE * step)
        position = np.stack([self.x0 + column, self.y0 + row, np.full(row.shape, self.side)], axis=-1)
        return views.reshape(-1, PROPOSAL_SIZE, PROPOSAL_SIZE, 3), position.reshape(-1, 3)


def _levels(width: int, height: int) -> Iterator[_Level]:
    """Windows of each size, the largest first."""
    side = _MAX_WINDOW * max(height, width)
    while side >= max(_MIN_WINDOW_PIXELS, _MIN_WINDOW * max(height, width)):
        # The centres of the windows lie in the image, so windows extend beyond it by half their size.
        stride = _STRIDE * side / PROPOSAL_SIZE
        columns, rows = (1 + int(np.ceil(length / stride)) for length in (width, height))
        x0, y0 = (
            (length - (count - 1) * stride - side) / 2 for length, count in ((width, columns), (height, rows))
        )
        yield _Level(side, columns, rows, x0, y0)
        side /= _LEVEL_RATIO


def centered_frames(image: ReducedImage) -> Float[np.ndarray, "window 2 3"]:
    """Frames of an object that fills the image, upright or leaning."""
    height, width = image.shape
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


def distinct(
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
