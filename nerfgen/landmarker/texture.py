"""Pictures without an object, made up: coloured noise and scenes of ellipses, boxes and triangles."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SIZE = 128


def textures(count: int, seed: int) -> list[Image.Image]:
    """So many different ones."""
    return [_texture(np.random.default_rng((seed, index))) for index in range(count)]


def _texture(random: np.random.Generator) -> Image.Image:
    picture = _clouds(random)
    if random.random() < 0.7:
        _draw_shapes(picture, random)
    if random.random() < 0.5:
        half = picture.crop((0, 0, _SIZE // 2, _SIZE))
        picture.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (_SIZE // 2, 0))
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5)))


def _clouds(random: np.random.Generator) -> Image.Image:
    """Coloured noise of a few scales, wider than high or the other way round."""
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


def _draw_shapes(picture: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(picture)
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
