"""Pictures as files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nerfgen.artifact import atomic_path
from nerfgen.errors import InputError

# Grey levels of a depth picture to one world unit, and the farthest that 16 bits can say.
DEPTH_LEVELS = 5000
FARTHEST = (2**16 - 1) / DEPTH_LEVELS
DEPTH_TEXT = {
    "unit": f"1/{DEPTH_LEVELS} world",
    "description": f"depth along the optical axis; 0: no surface; {2**16 - 1}: {FARTHEST:g} world units or more",
}


def depth_levels(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Depth in world units as levels of 1/5000 unit; 0 stays 0, and what is beyond 16 bits is the largest level."""
    levels = np.round(depth * DEPTH_LEVELS).clip(1, 2**16 - 1)
    return np.where(depth > 0, levels, 0).astype(np.uint16)


def check_picture_name(path: Path) -> None:
    """Raise :class:`InputError` if the suffix names no image format."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise InputError(
            f"{path}: unknown picture format {path.suffix or '(no suffix)'}; end the name in .png"
        )


def save_picture(
    path: Path,
    image: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"],
    *,
    text: Mapping[str, str] | None = None,
    tidy: bool = True,
) -> None:
    """Write an image whole or not at all; the format follows the suffix.

    Args:
        image: grey, RGB or RGBA, or grey in 16 bits.
        text: words to be kept in a PNG.
        tidy: see :func:`nerfgen.artifact.atomic_path`.

    Raises:
        InputError: the suffix names no image format.
    """
    check_picture_name(path)
    with atomic_path(path, tidy=tidy) as temporary:
        Image.fromarray(image).save(temporary, **_kept(text))


def png_bytes(
    image: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"],
    text: Mapping[str, str] | None = None,
) -> bytes:
    """What :func:`save_picture` would write to a PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", **_kept(text))
    return stream.getvalue()


def _kept(text: Mapping[str, str] | None) -> dict[str, Any]:
    """Words for a PNG as an argument of Pillow; nothing for other formats, which have none."""
    if not text:
        return {}
    kept = PngInfo()
    for name, words in text.items():
        kept.add_text(name, words)
    return {"pnginfo": kept}
