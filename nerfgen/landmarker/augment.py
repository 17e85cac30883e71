"""Random windows of examples, and windows that show no object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from nerfgen.landmarker import frame
from nerfgen.landmarker.example import Examples
from nerfgen.landmarker.network import FINDER_SIZE, MEASURER_SIZE


class Jitter(NamedTuple):
    """How far windows stray from the object's frame: factors of the scale, degrees, part of the window's side."""

    smallest: float
    largest: float
    turn: float
    shift: float


# The finder sees windows of a coarse search, in which objects lean, and looks at a little more than the frame, so that
# the landmarks are within; the measurer sees windows that the finder found.
FINDER_JITTER = Jitter(0.95, 1.65, 25.0, 0.17)
MEASURER_JITTER = Jitter(0.78, 1.28, 25.0, 0.11)


class Windows(NamedTuple):
    """Windows of one network: pixels, landmarks in the unit window (NaN: not there), label (0: no object)."""

    pixels: UInt8[np.ndarray | Array, "window size size 3"]
    points: Float[np.ndarray | Array, "window landmark 2"]
    labels: Int[np.ndarray | Array, " window"]


class Batch(NamedTuple):
    """What one step learns from."""

    finder: Windows
    measurer: Windows


class Augmenter:
    """Draws batches; the same seed and step give the same batch.

    Args:
        mirrored: place of the landmark that each one becomes in a mirrored window.
        negatives: pictures (RGB) that show no object.
        mirror: whether mirrored objects are objects of the class.
        batch: objects that the measurer sees in a step.
    """

    def __init__(
        self,
        examples: Examples,
        mirrored: Int[np.ndarray, " landmark"],
        negatives: Sequence[Image.Image],
        *,
        mirror: bool,
        batch: int,
        seed: int,
    ) -> None:
        self._examples, self._mirrored, self._negatives, self._mirror = examples, mirrored, negatives, mirror
        self._batch, self._seed = batch, seed

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        random = np.random.default_rng((self._seed, step))
        # What is no object is rarer where the measurer looks, because the finder has passed over most of it.
        size = self._batch
        finder = self._windows(
            random, FINDER_SIZE, FINDER_JITTER, size * 4 // 3, size * 4 // 3, upright=False
        )
        measurer = self._windows(random, MEASURER_SIZE, MEASURER_JITTER, size, -(-size // 3), upright=True)
        return Batch(finder, measurer)

    def _windows(
        self,
        random: np.random.Generator,
        size: int,
        jitter: Jitter,
        objects: int,
        others: int,
        *,
        upright: bool,
    ) -> Windows:
        examples = self._examples
        chosen = random.integers(len(examples.pictures), size=objects)
        base = examples.frames[chosen]
        if not upright:
            base = _level(base)
        moved = _strayed(random, jitter, objects)
        mirror = (random.random(objects) < 0.5) if self._mirror else np.zeros(objects, bool)
        moved = np.where(
            mirror[:, None, None], frame.compose(moved, np.broadcast_to(frame.MIRROR, moved.shape)), moved
        )
        frames = frame.compose(base, moved)
        points = frame.apply(frame.inverse(frames), examples.points[chosen])
        points[mirror] = points[mirror][:, self._mirrored]
        pixels = [
            self._cut(random, examples.pictures[index], frames[row], size) for row, index in enumerate(chosen)
        ]
        pixels += [self._other(random, size, jitter, upright) for _ in range(others)]
        empty = np.full((others, *points.shape[1:]), np.nan)
        labels = np.concatenate([examples.labels[chosen], np.zeros(others, np.int64)])
        return Windows(
            np.stack(pixels), np.concatenate([points, empty]).astype(np.float32), labels.astype(np.int32)
        )

    def _cut(
        self, random: np.random.Generator, picture: Image.Image, window: np.ndarray, size: int
    ) -> np.ndarray:
        """A window of an example; beyond the photograph's edge often something else."""
        rgba = cut(picture, window, size)
        beyond = rgba[..., 3:] < 128
        if beyond.any() and random.random() < 0.6:
            return np.where(beyond, self._texture(random, size), rgba[..., :3])
        return rgba[..., :3]

    def _other(self, random: np.random.Generator, size: int, jitter: Jitter, upright: bool) -> np.ndarray:
        """A window without an object in its middle."""
        kind = random.random()
        if kind < 0.4 and self._negatives:
            return self._texture(random, size)
        index = random.integers(len(self._examples.pictures))
        picture, base = self._examples.pictures[index], self._examples.frames[index]
        if not upright:
            base = _level(base)
        if kind < 0.7:
            # An object that is too far from the middle, too small, too large, or stands on its head.
            moved = _strayed(random, jitter, 1)[0]
            away = random.integers(4)
            angle = random.uniform(0, 2 * np.pi)
            distance = random.uniform(0.4, 0.9)
            shift = np.array([np.cos(angle), np.sin(angle)]) * distance
            scale = (1.0, random.uniform(2.2, 3.2), random.uniform(0.25, 0.5), 1.0)[away]
            turn = random.uniform(0.6, 1.4) * np.pi if away == 3 else 0.0
            placed = frame.about_middle(np.array(scale), np.array(turn), shift if away != 3 else 0 * shift)
            return self._cut(random, picture, frame.compose(base, frame.compose(placed, moved)), size)
        # The object's own parts in disorder.
        window = self._cut(random, picture, frame.compose(base, _strayed(random, jitter, 1)[0]), size)
        pieces = int(random.choice((2, 3, 4)))
        edge = size // pieces
        blocks = window[: edge * pieces, : edge * pieces].reshape(pieces, edge, pieces, edge, 3)
        blocks = blocks.swapaxes(1, 2).reshape(-1, edge, edge, 3)
        order = random.permutation(len(blocks))
        mixed = blocks[order].reshape(pieces, pieces, edge, edge, 3).swapaxes(1, 2)
        result = window.copy()
        result[: edge * pieces, : edge * pieces] = mixed.reshape(edge * pieces, edge * pieces, 3)
        return result

    def _texture(self, random: np.random.Generator, size: int) -> np.ndarray:
        """A window of a picture without an object."""
        picture = self._negatives[random.integers(len(self._negatives))]
        side = min(picture.size) * np.exp(random.uniform(np.log(0.25), np.log(1.0)))
        corner = np.array([random.uniform(0, max(length - side, 0)) for length in picture.size])
        flip = -1 if random.random() < 0.5 else 1
        window = np.array([[flip * side, 0, corner[0] + (side if flip < 0 else 0)], [0, side, corner[1]]])
        return cut(picture, window, size)[..., :3]


def cut(
    picture: Image.Image, window: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    """Pixels of the unit window under a frame, by bilinear interpolation; 0 beyond the picture."""
    (a, b, c), (d, e, f) = window
    values = (a / size, b / size, c, d / size, e / size, f)
    return np.asarray(
        picture.transform((size, size), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR)
    )


def recolored(
    key: Array, windows: UInt8[np.ndarray | Array, "window size size 3"]
) -> Float[Array, "window size size 3"]:
    """Windows under another light and another camera: gain, offset, gamma, colour, blur, noise; 0 to 255."""
    count, size = windows.shape[:2]
    keys = jax.random.split(key, 8)

    def uniform(place: int, low: float, high: float, channels: int = 1) -> Array:
        return jax.random.uniform(keys[place], (count, 1, 1, channels), minval=low, maxval=high)

    x = jnp.asarray(windows, jnp.float32) / 255
    x = jnp.power(x + 1e-4, jnp.exp(uniform(0, -0.5, 0.5)))
    x = x * jnp.exp(uniform(1, -0.2, 0.2, 3))
    grey = x.mean(axis=-1, keepdims=True)
    x = grey + (x - grey) * uniform(2, 0.0, 1.5)
    # Blur, from none to that of an enlarged thumbnail.
    thumbnail = jax.image.resize(x, (count, size // 3, size // 3, 3), "linear")
    blurred = jax.image.resize(thumbnail, x.shape, "linear")
    x = x + (blurred - x) * jnp.maximum(uniform(3, -1.0, 1.0), 0.0)
    x = x + jax.random.normal(keys[4], x.shape) * jnp.maximum(uniform(5, -0.05, 0.06), 0.0)
    x = (x - 0.5) * jnp.exp(uniform(6, -0.4, 0.3)) + 0.5 + uniform(7, -0.15, 0.15)
    return jnp.clip(x, 0.0, 1.0) * 255


def _strayed(random: np.random.Generator, jitter: Jitter, count: int) -> Float[np.ndarray, "count 2 3"]:
    scale = np.exp(random.uniform(np.log(jitter.smallest), np.log(jitter.largest), count))
    turn = np.radians(random.uniform(-jitter.turn, jitter.turn, count))
    shift = random.uniform(-jitter.shift, jitter.shift, (count, 2))
    return frame.about_middle(scale, turn, shift)


def _level(frames: Float[np.ndarray, "*batch 2 3"]) -> Float[np.ndarray, "*batch 2 3"]:
    """The same middle and side, not turned."""
    side = frame.side(frames)
    middle = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    level = np.zeros_like(frames)
    level[..., 0, 0] = level[..., 1, 1] = side
    level[..., 2] = middle - side[..., None] / 2
    return level
