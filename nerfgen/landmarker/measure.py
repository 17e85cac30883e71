"""A trained estimator at work: it finds objects in a photograph and measures their landmarks."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from nerfgen.landmarker import frame
from nerfgen.landmarker.network import FINDER_SIZE, MEASURER_SIZE, Networks, expected_points
from nerfgen.photo import Photograph, resample_window

_SEARCH_SIDE = 768  # pixels to which a photograph is reduced for the search
_LARGEST = 1.6  # side of the largest window of the search, in longer sides of the photograph
_SMALLEST = 1 / 12  # and of the smallest one
_MIN_WINDOW = 32.0  # pixels of a window below which there is nothing to be seen
_LEVEL = 1.4  # from one size of windows to the next
_STRIDE = 14  # pixels of the finder's windows from one to the next
_CANDIDATE = 0.1  # probability of the finder from which on a window is looked at again
_CANDIDATES = 16
_PROMISING = 5  # candidates that are measured more than once
# Candidates whose sides differ by more than this factor are both measured: the finder often sees an object in a part
# of one, which the measurer does not.
_ALIKE = 1.5
_ROUNDS = 3
_CERTAIN = 0.8  # score of an object from which on nothing else is looked for
_BATCHES = (4, 16)  # windows that a network sees at a time: the programs that are compiled
_FINDER_BATCH = 128
# Distances in sides of the window at which the trust in landmarks halves: between those of a window and of its
# mirror image, and between landmarks and the mean shape.
_DISAGREEMENT = 0.035
_DEFORMATION = 0.11


@dataclass(frozen=True)
class Found:
    """One object: x, y of its landmarks in pixels of the photograph, its class's place, its score (0 to 1), and the
    side of its window in pixels."""

    points: Float[np.ndarray, "landmark 2"]
    label: int
    score: float
    side: float


class Estimator:
    """Both networks of an estimator, ready to be used.

    Args:
        parameters: of ``finder`` and ``measurer``.
        shape: the mean shape in the unit window.
        mirrored: place of the landmark that each one becomes in a mirrored window.
        num_classes: classes that the networks tell apart.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        shape: Float[np.ndarray, "landmark 2"],
        mirrored: Int[np.ndarray, " landmark"],
        num_classes: int,
    ) -> None:
        self._parameters, self._shape, self._mirrored = parameters, shape, mirrored
        self._find, self._measure = _programs(len(shape), num_classes)

    def objects(self, photo: Photograph) -> list[Found]:
        """All objects of a photograph, the most certain first; the score says which to trust.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        image, scale = photo.pixels(_SEARCH_SIDE)
        found = self._objects(photo, image, scale, self._candidates(image))
        if not found or found[0].score < _CERTAIN:
            # Leaning heads are overlooked, and so are some that fill a photograph cropped to them.
            further = [_centred(image), *(self._turned_candidates(image, turns) for turns in (1, 3))]
            found += self._objects(photo, image, scale, np.concatenate(further))
            frames = frame.fit_frames(self._shape, np.stack([item.points for item in found]))
            found = [found[row] for row in _distinct(frames, np.array([item.score for item in found]))]
        return found

    def _objects(
        self,
        photo: Photograph,
        image: UInt8[np.ndarray, "height width 3"],
        scale: tuple[float, float],
        frames: Float[np.ndarray, "window 2 3"],
    ) -> list[Found]:
        """What there is about frames of a photograph that was reduced to ``image``, the most certain first."""
        if not len(frames):
            return []
        smallest = float(frame.side(frames).min())
        if smallest < MEASURER_SIZE and max(photo.size) > max(image.shape[:2]):
            # Small in the photograph as it was searched: measured at the full resolution.
            finer, finer_scale = photo.pixels(round(_SEARCH_SIDE * 1.25 * MEASURER_SIZE / smallest))
            ratio = np.array(finer_scale) / np.array(scale)
            frames = frames * ratio[None, :, None]
            image, scale = finer, finer_scale
        points, chances, trust = self.measured(image, frames, rounds=1)
        promising = np.argsort(-(1 - chances[:, 0]) * trust, kind="stable")[:_PROMISING]
        frames = _sound(frame.fit_frames(self._shape, points), frames)[promising]
        points, chances, trust = self.measured(image, frames, rounds=_ROUNDS - 1)
        labels = 1 + chances[:, 1:].argmax(axis=1)
        scores = chances[np.arange(len(points)), labels] * trust
        frames = frame.fit_frames(self._shape, points)
        return [
            Found(
                points[row] / scale,
                int(labels[row]),
                float(scores[row]),
                float(frame.side(frames[row]) / scale[0]),
            )
            for row in _distinct(frames, scores)
        ]

    def _turned_candidates(
        self, image: UInt8[np.ndarray, "height width 3"], turns: int
    ) -> Float[np.ndarray, "window 2 3"]:
        """Frames of objects that stand upright after so many quarter turns of the image counter-clockwise."""
        height, width = image.shape[:2]
        # Where a point (x, y) of the turned image is in the image itself.
        back = {1: [[0.0, -1.0, width], [1.0, 0.0, 0.0]], 3: [[0.0, 1.0, 0.0], [-1.0, 0.0, height]]}[turns]
        frames = self._candidates(np.ascontiguousarray(np.rot90(image, turns)))
        return frame.compose(np.broadcast_to(np.array(back), frames.shape), frames)

    def measured(
        self, image: UInt8[np.ndarray, "height width 3"], frames: Float[np.ndarray, "window 2 3"], rounds: int
    ) -> tuple[
        Float[np.ndarray, "window landmark 2"],
        Float[np.ndarray, "window class+1"],
        Float[np.ndarray, " window"],
    ]:
        """Landmarks in windows about which objects are thought to be, in rounds, each about what the former one found.

        Returns:
            Landmarks in pixels of the image, probabilities of no object and of each class, and the trust in the
            landmarks, 0 to 1: how well those of mirror images agree, and how near they are to the class's shape.
        """
        chances, disagreement = [], np.zeros(len(frames))
        points = np.zeros((len(frames), *self._shape.shape))
        for _ in range(rounds):
            pixels = np.stack([_upright(image, window) for window in frames])
            both = np.concatenate([pixels, pixels[:, :, ::-1]])
            odds, places = self._run(self._measure, both)
            own, mirrored = np.split(places, 2)
            mirrored = (mirrored * (-1, 1) + (1, 0))[:, self._mirrored]
            disagreement = np.sqrt(((own - mirrored) ** 2).sum(-1).mean(-1))
            chances.append(
                np.exp(odds - np.logaddexp.reduce(odds, axis=1, keepdims=True))
                .reshape(2, len(frames), -1)
                .mean(0)
            )
            points = frame.apply(frames, (own + mirrored) / 2)
            frames = _sound(frame.fit_frames(self._shape, points), frames)
        shape = frame.apply(frame.inverse(frames), points)
        deformation = np.sqrt(((shape - self._shape) ** 2).sum(-1).mean(-1))
        trust = 1 / (1 + (disagreement / _DISAGREEMENT) ** 4) / (1 + (deformation / _DEFORMATION) ** 4)
        return points, np.mean(chances, axis=0), trust

    def _candidates(self, image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "window 2 3"]:
        """Frames about which there may be an object, in pixels of the image."""
        windows, places = [], []
        for pixels, where in _levels(image):
            windows.append(pixels)
            places.append(where)
        if not windows:
            return np.zeros((0, 2, 3))
        where = np.concatenate(places)
        odds, points = self._run(self._find, np.concatenate(windows), (_FINDER_BATCH,))
        chance = 1 - np.exp(odds[:, 0] - np.logaddexp.reduce(odds, axis=1))
        rows = np.flatnonzero(chance > _CANDIDATE)
        level = np.zeros((len(rows), 2, 3))
        level[:, 0, 0] = level[:, 1, 1] = where[rows, 2]
        level[:, :, 2] = where[rows, :2]
        frames = frame.fit_frames(self._shape, frame.apply(level, points[rows]))
        # An object much smaller or larger in its window belongs to another level, which sees it better.
        ratio = frame.side(np.nan_to_num(frames)) / where[rows, 2]
        fits = frame.usable(frames) & (ratio > 0.45) & (ratio < 1.4)
        frames, chance = frames[fits], chance[rows][fits]
        return frames[_distinct(frames, _votes(frames, chance), alike=_ALIKE)[:_CANDIDATES]]

    def _run(
        self, program: Any, windows: np.ndarray, batches: Sequence[int] = _BATCHES
    ) -> tuple[np.ndarray, np.ndarray]:
        """A network's two outputs, in batches of sizes that are compiled once."""
        outputs, start = [], 0
        while start < len(windows):
            rest = len(windows) - start
            batch = next((size for size in batches if size >= rest), batches[-1])
            chunk = windows[start : start + batch]
            filled = np.concatenate([chunk, np.zeros((batch - len(chunk), *chunk.shape[1:]), np.uint8)])
            outputs.append(
                [np.asarray(value, np.float64)[: len(chunk)] for value in program(self._parameters, filled)]
            )
            start += batch
        first, second = (np.concatenate(values) for values in zip(*outputs, strict=True))
        return first, second


@functools.cache
def _programs(num_points: int, num_classes: int) -> tuple[Any, Any]:
    """The compiled networks, made once in a process."""
    networks = Networks(num_points, num_classes)

    def placed(network: Any) -> Any:
        def run(parameters: Any, windows: Any) -> tuple[Any, Any]:
            odds, heat = network(parameters, windows)
            return odds, expected_points(heat)

        return jax.jit(run)

    return placed(networks.find), placed(networks.measure)


def _levels(
    image: UInt8[np.ndarray, "height width 3"],
) -> Iterator[tuple[UInt8[np.ndarray, "window 48 48 3"], Float[np.ndarray, "window 3"]]]:
    """Windows of one size after the other, the largest first, and where they are: x0, y0, side."""
    height, width = image.shape[:2]
    side = _LARGEST * max(height, width)
    while side >= max(_MIN_WINDOW, _SMALLEST * max(height, width)):
        step = side / FINDER_SIZE
        # Windows whose middles lie in the photograph: half a window more on every side.
        columns, rows = (1 + int(np.ceil(length / step / _STRIDE)) for length in (width, height))
        size = FINDER_SIZE + _STRIDE * (max(columns, rows) - 1)
        x0, y0 = (
            (length - (count - 1) * _STRIDE * step - side) / 2
            for length, count in ((width, columns), (height, rows))
        )
        raster, _ = resample_window(image, (x0, y0, size * step), size)
        views = sliding_window_view(raster, (FINDER_SIZE, FINDER_SIZE, 3))[::_STRIDE, ::_STRIDE, 0]
        views = views[:rows, :columns]
        row, column = np.mgrid[:rows, :columns] * (_STRIDE * step)
        where = np.stack([x0 + column, y0 + row, np.full(row.shape, side)], axis=-1)
        yield views.reshape(-1, FINDER_SIZE, FINDER_SIZE, 3), where.reshape(-1, 3)
        side /= _LEVEL


def _upright(image: UInt8[np.ndarray, "height width 3"], window: Float[np.ndarray, "2 3"]) -> np.ndarray:
    """A frame's window in which the object stands upright."""
    from PIL import Image

    # A square about the turned window, at twice the pixels, and from it the window.
    middle = window[:, :2].sum(axis=-1) / 2 + window[:, 2]
    side = float(frame.side(window)) * np.sqrt(2.0)
    corner = middle - side / 2
    size = 2 * MEASURER_SIZE
    around, _ = resample_window(image, (*corner, side), size)
    inner = window.copy()
    inner[:, 2] -= corner
    (a, b, c), (d, e, f) = inner * (size / side)
    values = (a / MEASURER_SIZE, b / MEASURER_SIZE, c, d / MEASURER_SIZE, e / MEASURER_SIZE, f)
    return np.asarray(
        Image.fromarray(around).transform(
            (MEASURER_SIZE, MEASURER_SIZE), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR
        )
    )


def _sound(frames: Float[np.ndarray, "window 2 3"], former: Float[np.ndarray, "window 2 3"]) -> np.ndarray:
    """The new frames, or the former one where the new one is none or leapt away."""
    ratio = frame.side(np.nan_to_num(frames)) / frame.side(former)
    good = frame.usable(frames) & (ratio > 0.5) & (ratio < 2.0)
    return np.where(good[:, None, None], frames, former)


def _centred(image: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "window 2 3"]:
    """Frames of an object in the middle of a photograph that is about as large as it, upright or leaning."""
    height, width = image.shape[:2]
    whole = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) * max(width, height)
    whole[:, 2] = (np.array([width, height]) - max(width, height)) / 2
    sides, turns = (
        values.ravel() for values in np.meshgrid((0.75, 1.0, 1.3), np.radians((-45.0, 0.0, 45.0)))
    )
    return frame.compose(
        np.broadcast_to(whole, (len(sides), 2, 3)),
        frame.about_middle(sides, turns, np.zeros((len(sides), 2))),
    )


def _votes(
    frames: Float[np.ndarray, "window 2 3"], chance: Float[np.ndarray, " window"]
) -> Float[np.ndarray, " window"]:
    """Sum of the chances of all windows that see about the same object: a true one is seen by many."""
    middle = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    side = frame.side(frames)
    away = np.linalg.norm(middle[:, None] - middle[None], axis=-1)
    same = (away < 0.2 * side[:, None]) & (np.abs(np.log(side[:, None] / side[None])) < np.log(1.25))
    return same @ chance


def _distinct(
    frames: Float[np.ndarray, "window 2 3"], scores: Float[np.ndarray, " window"], *, alike: float = np.inf
) -> list[int]:
    """Windows of different objects, the most certain first.

    Args:
        alike: windows whose sides differ by a larger factor are different, wherever they are.
    """
    middle = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    side = frame.side(frames)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        near = [
            other
            for other in kept
            if np.linalg.norm(middle[row] - middle[other]) < 0.4 * max(side[row], side[other])
            and max(side[row], side[other]) < alike * min(side[row], side[other])
        ]
        if not near:
            kept.append(int(row))
    return kept
