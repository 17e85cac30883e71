"""Batches for training: windows of examples at random places and in random light, and windows without an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFilter

from nerfgen.landmark import similarity
from nerfgen.landmark.network import LANDMARK_SIZE, PROPOSAL_SIZE
from nerfgen.landmark.training_images import Examples

_SIZE = 128


def draw_textures(count: int, seed: int) -> list[Image.Image]:
    """Images without an object: coloured noise, ellipses, boxes and triangles.

    Args:
        count: number of images, all different.
    """
    return [_texture(np.random.default_rng((seed, index))) for index in range(count)]


def _texture(random: np.random.Generator) -> Image.Image:
    image = _clouds(random)
    if random.random() < 0.7:
        _draw_shapes(image, random)
    if random.random() < 0.5:
        half = image.crop((0, 0, _SIZE // 2, _SIZE))
        image.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (_SIZE // 2, 0))
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5)))


def _clouds(random: np.random.Generator) -> Image.Image:
    """Coloured noise of three scales, each of a random aspect ratio."""
    total = np.zeros((_SIZE, _SIZE, 3))
    for _ in range(3):
        shape = (int(random.integers(2, 48)), int(random.integers(2, 48)), 3)
        noise = Image.fromarray(random.integers(0, 256, shape, np.uint8))
        total += random.random() * np.asarray(noise.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC), float)
    low, high = total.min(), total.max()
    grey = total.mean(axis=-1, keepdims=True)
    total = grey + (total - grey) * random.random()
    contrast = random.uniform(0.2, 1.0)
    return Image.fromarray(
        ((total - low) / (high - low) * 255 * contrast + random.uniform(0, 1 - contrast) * 255)
        .clip(0, 255)
        .astype(np.uint8)
    )


def _draw_shapes(image: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 25))):
        x, y = random.uniform(0, _SIZE, 2)
        width, height = np.exp(random.uniform(np.log(2), np.log(80), 2))
        color = tuple(int(value) for value in random.integers(0, 256, 3))
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        kind = random.integers(3)
        if kind == 0:
            draw.ellipse(box, fill=color)
        elif kind == 1:
            draw.rectangle(box, fill=color)
        else:
            draw.polygon(
                [tuple(point) for point in random.uniform(0, 1, (3, 2)) * (width, height) + (x, y)],
                fill=color,
            )


class Jitter(NamedTuple):
    """Range of windows about the object's frame.

    Attributes:
        min_scale, max_scale: factors of the window's size.
        rotation: degrees to either side.
        translation: to either side, fraction of the window's size.
    """

    min_scale: float
    max_scale: float
    rotation: float
    translation: float


# The proposal network sees windows of a coarse search, in which objects lean, a little larger than the frame, so that
# they contain the landmarks. The landmark network sees windows that were proposed.
PROPOSAL_JITTER = Jitter(0.95, 1.65, 25.0, 0.17)
LANDMARK_JITTER = Jitter(0.78, 1.28, 25.0, 0.11)


class Windows(NamedTuple):
    """Windows of one network: pixels, landmarks in the unit window (NaN: missing), label (0: no object)."""

    pixels: UInt8[np.ndarray | Array, "window size size 3"]
    points: Float[np.ndarray | Array, "window landmark 2"]
    labels: Int[np.ndarray | Array, " window"]


class Counts(NamedTuple):
    """Windows of one network in a batch: with an object, and without."""

    objects: int
    others: int


def window_counts(batch: int) -> tuple[Counts, Counts]:
    """Of the proposal network and of the landmark network, for ``batch`` objects."""
    # The landmark network sees fewer windows without an object: most of them are not proposed.
    return Counts(batch * 4 // 3, batch * 4 // 3), Counts(batch, -(-batch // 3))


class Batch(NamedTuple):
    """The windows of one step, for each network."""

    proposal: Windows
    landmark: Windows


class Augmenter:
    """Draws batches; the same seed and step give the same batch.

    Args:
        mirrored: index of the landmark that each landmark becomes in a mirrored window.
        negatives: images (RGB) without an object.
        mirror: whether a mirrored object is an object of the class.
        batch: objects per step of the landmark network.
        hard_negatives: windows without an object that are drawn for each one of :func:`window_counts`.
    """

    def __init__(
        self,
        examples: Examples,
        mirrored: Int[np.ndarray, " landmark"],
        negatives: Sequence[Image.Image],
        *,
        mirror: bool,
        batch: int,
        hard_negatives: int = 1,
        seed: int,
    ) -> None:
        self._examples, self._mirrored, self._negatives, self._mirror = examples, mirrored, negatives, mirror
        self._batch, self._hard_negatives, self._seed = batch, hard_negatives, seed

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        random = np.random.default_rng((self._seed, step))
        proposed, located = (
            counts._replace(others=self._hard_negatives * counts.others)
            for counts in window_counts(self._batch)
        )
        proposal = self._windows(random, PROPOSAL_SIZE, PROPOSAL_JITTER, proposed, upright=False)
        landmark = self._windows(random, LANDMARK_SIZE, LANDMARK_JITTER, located, upright=True)
        return Batch(proposal, landmark)

    def _windows(
        self,
        random: np.random.Generator,
        size: int,
        jitter: Jitter,
        counts: Counts,
        *,
        upright: bool,
    ) -> Windows:
        examples, (objects, others) = self._examples, counts
        chosen = random.integers(len(examples.images), size=objects)
        base = examples.frames[chosen]
        if not upright:
            base = _without_rotation(base)
        moved = _draw_jitter(random, jitter, objects)
        mirror = (random.random(objects) < 0.5) if self._mirror else np.zeros(objects, bool)
        moved = np.where(
            mirror[:, None, None],
            similarity.compose(moved, np.broadcast_to(similarity.MIRROR, moved.shape)),
            moved,
        )
        frames = similarity.compose(base, moved)
        points = similarity.apply(similarity.inverse(frames), examples.points[chosen])
        points[mirror] = points[mirror][:, self._mirrored]
        pixels = [
            self._cut(random, examples.images[index], frames[row], size) for row, index in enumerate(chosen)
        ]
        pixels += [self._other(random, size, jitter, upright) for _ in range(others)]
        empty = np.full((others, *points.shape[1:]), np.nan)
        labels = np.concatenate([examples.labels[chosen], np.zeros(others, np.int64)])
        return Windows(
            np.stack(pixels), np.concatenate([points, empty]).astype(np.float32), labels.astype(np.int32)
        )

    def _cut(
        self, random: np.random.Generator, image: Image.Image, window: np.ndarray, size: int
    ) -> np.ndarray:
        """A window of an example; what lies beyond the image is often replaced by a texture."""
        rgba = cut(image, window, size)
        beyond = rgba[..., 3:] < 128
        if beyond.any() and random.random() < 0.6:
            return np.where(beyond, self._texture(random, size), rgba[..., :3])
        return rgba[..., :3]

    def _other(self, random: np.random.Generator, size: int, jitter: Jitter, upright: bool) -> np.ndarray:
        """A window without an object at its centre."""
        kind = random.random()
        if kind < 0.4 and self._negatives:
            return self._texture(random, size)
        index = random.integers(len(self._examples.images))
        image, base = self._examples.images[index], self._examples.frames[index]
        if not upright:
            base = _without_rotation(base)
        if kind < 0.7:
            # An object that is too far from the centre, too small, too large, or upside down.
            moved = _draw_jitter(random, jitter, 1)[0]
            away = random.integers(4)
            angle = random.uniform(0, 2 * np.pi)
            distance = random.uniform(0.4, 0.9)
            shift = np.array([np.cos(angle), np.sin(angle)]) * distance
            scale = (1.0, random.uniform(2.2, 3.2), random.uniform(0.25, 0.5), 1.0)[away]
            turn = random.uniform(0.6, 1.4) * np.pi if away == 3 else 0.0
            placed = similarity.about_center(
                np.array(scale), np.array(turn), shift if away != 3 else 0 * shift
            )
            return self._cut(random, image, similarity.compose(base, similarity.compose(placed, moved)), size)
        # The parts of the object, shuffled.
        window = self._cut(random, image, similarity.compose(base, _draw_jitter(random, jitter, 1)[0]), size)
        pieces = int(random.choice((2, 3, 4)))
        block = size // pieces
        blocks = window[: block * pieces, : block * pieces].reshape(pieces, block, pieces, block, 3)
        blocks = blocks.swapaxes(1, 2).reshape(-1, block, block, 3)
        order = random.permutation(len(blocks))
        mixed = blocks[order].reshape(pieces, pieces, block, block, 3).swapaxes(1, 2)
        result = window.copy()
        result[: block * pieces, : block * pieces] = mixed.reshape(block * pieces, block * pieces, 3)
        return result

    def _texture(self, random: np.random.Generator, size: int) -> np.ndarray:
        """A window of an image without an object."""
        image = self._negatives[random.integers(len(self._negatives))]
        side = min(image.size) * np.exp(random.uniform(np.log(0.25), np.log(1.0)))
        corner = np.array([random.uniform(0, max(length - side, 0)) for length in image.size])
        flip = -1 if random.random() < 0.5 else 1
        window = np.array([[flip * side, 0, corner[0] + (side if flip < 0 else 0)], [0, side, corner[1]]])
        return cut(image, window, size)[..., :3]


def cut(
    image: Image.Image, window: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    """Pixels of a frame's window, by bilinear interpolation; 0 beyond the image."""
    (a, b, c), (d, e, f) = window
    values = (a / size, b / size, c, d / size, e / size, f)
    return np.asarray(
        image.transform((size, size), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR)
    )


def recolor(
    key: Array, windows: UInt8[np.ndarray | Array, "window size size 3"]
) -> Float[Array, "window size size 3"]:
    """Windows with random gamma, gain, saturation, blur, noise, contrast and offset; 0 to 255."""
    count, size = windows.shape[:2]
    keys = jax.random.split(key, 8)

    def uniform(place: int, low: float, high: float, channels: int = 1) -> Array:
        return jax.random.uniform(keys[place], (count, 1, 1, channels), minval=low, maxval=high)

    x = jnp.asarray(windows, jnp.float32) / 255
    x = jnp.power(x + 1e-4, jnp.exp(uniform(0, -0.5, 0.5)))
    x = x * jnp.exp(uniform(1, -0.2, 0.2, 3))
    grey = x.mean(axis=-1, keepdims=True)
    x = grey + (x - grey) * uniform(2, 0.0, 1.5)
    # Blur, up to that of an enlarged thumbnail.
    thumbnail = jax.image.resize(x, (count, size // 3, size // 3, 3), "linear")
    blurred = jax.image.resize(thumbnail, x.shape, "linear")
    x = x + (blurred - x) * jnp.maximum(uniform(3, -1.0, 1.0), 0.0)
    x = x + jax.random.normal(keys[4], x.shape) * jnp.maximum(uniform(5, -0.05, 0.06), 0.0)
    x = (x - 0.5) * jnp.exp(uniform(6, -0.4, 0.3)) + 0.5 + uniform(7, -0.15, 0.15)
    return jnp.clip(x, 0.0, 1.0) * 255


def _draw_jitter(random: np.random.Generator, jitter: Jitter, count: int) -> Float[np.ndarray, "count 2 3"]:
    scale = np.exp(random.uniform(np.log(jitter.min_scale), np.log(jitter.max_scale), count))
    turn = np.radians(random.uniform(-jitter.rotation, jitter.rotation, count))
    shift = random.uniform(-jitter.translation, jitter.translation, (count, 2))
    return similarity.about_center(scale, turn, shift)


def _without_rotation(frames: Float[np.ndarray, "*batch 2 3"]) -> Float[np.ndarray, "*batch 2 3"]:
    """Frames of the same centre and size, without rotation."""
    size = similarity.window_size(frames)
    center = frames[..., :2].sum(axis=-1) / 2 + frames[..., 2]
    upright = np.zeros_like(frames)
    upright[..., 0, 0] = upright[..., 1, 1] = size
    upright[..., 2] = center - size[..., None] / 2
    return upright
