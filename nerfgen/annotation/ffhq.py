"""FFHQ's ``ffhq-dataset-v2.json``: 68 points a face, in the numbering of the iBUG 300-W faces that dlib uses."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.text import text_of
from nerfgen.errors import InputError

# The points whose mean each landmark is; sides are the viewer's, who sees the person's right eye to the left.
LANDMARKS = {
    "eye_left": range(36, 42),
    "eye_right": range(42, 48),
    "nose_tip": range(30, 31),
    "mouth_left": range(48, 49),
    "mouth_right": range(54, 55),
}
_POINTS = 68


def is_ffhq(beginning: str) -> bool:
    """Whether a file begins as this one: an object of entries that are called by number."""
    return re.match(r'\s*\{\s*"\d+"\s*:\s*\{', beginning) is not None


def read_ffhq(path: Path, images: Path) -> Annotations:
    """The points of the aligned images, of their thumbnails, or of the photographs in the wild: whichever lie there.

    Args:
        images: folder of the images, laid out as the file says, or the one of its folders that holds them.

    Raises:
        InputError: the file is of another form.
    """
    try:
        entries = list(json.loads(text_of(path)).values())
        kind = _kind(entries, images)
        found = [_entry(entry, kind, images) for entry in entries]
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not FFHQ's: each entry holds image and in_the_wild with file_path and {_POINTS} face_landmarks"
        ) from error
    names, points = zip(*found, strict=True)
    return Annotations(
        tuple(names), tuple(LANDMARKS), np.stack(points), ("",) * len(names), (f"points of {kind}",)
    )


def _kind(entries: list[dict[str, Any]], images: Path) -> str:
    """Which of the sets of images is there; the aligned ones if none is."""
    for kind in ("image", "thumbnail", "in_the_wild"):
        if any(
            (images / _below(entry[kind]["file_path"], images)).is_file()
            for entry in entries
            if kind in entry
        ):
            return kind
    return "image"


def _entry(entry: dict[str, Any], kind: str, images: Path) -> tuple[str, Float[np.ndarray, "landmarks 2"]]:
    # Thumbnails are the aligned images made smaller, and have no points of their own.
    own = entry["in_the_wild" if kind == "in_the_wild" else "image"]
    points = np.array(own["face_landmarks"], dtype=float).reshape(_POINTS, 2)
    if kind == "thumbnail":
        points = points * (np.array(entry[kind]["pixel_size"]) / np.array(own["pixel_size"]))
    place = _below(entry[kind]["file_path"], images)
    return place, np.stack([points[list(chosen)].mean(axis=0) for chosen in LANDMARKS.values()])


def _below(file_path: str, images: Path) -> str:
    """An image's path relative to ``images``, which may be the first folder of it."""
    path = PurePosixPath(file_path)
    return (path.relative_to(path.parts[0]) if images.name == path.parts[0] else path).as_posix()
