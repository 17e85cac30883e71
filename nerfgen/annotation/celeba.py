"""CelebA's lists of five points a face."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.text import text_of
from nerfgen.errors import InputError

# "Left" is the viewer's in CelebA as in nerfgen.
NAMES = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")
_COLUMNS = [
    f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]


def is_celeba(beginning: str) -> bool:
    """Whether a file begins as such a list does, with or without the number of its lines, blanks or commas between."""
    return any(_words(line)[-len(_COLUMNS) :] == _COLUMNS for line in beginning.splitlines()[:2])


def read_celeba(path: Path) -> Annotations:
    """``list_landmarks_align_celeba.txt`` or ``list_landmarks_celeba.txt``: number, header, then ``IMAGE x y x y ...``.

    The same as a table with commas (``.csv``) is read too.

    Raises:
        InputError: a line is of another form; names it.
    """
    lines = text_of(path).splitlines()
    header = next(number for number, line in enumerate(lines) if _words(line)[-len(_COLUMNS) :] == _COLUMNS)
    images, rows = [], []
    for number, line in enumerate(lines[header + 1 :], start=header + 2):
        if not line.strip():
            continue
        image, *words = _words(line)
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}; a line is IMAGE and ten numbers") from error
        if len(values) != len(_COLUMNS):
            raise InputError(
                f"{path} line {number}: {len(values)} numbers, but a line is IMAGE and ten numbers"
            )
        images.append(image.replace("\\", "/"))
        rows.append(values)
    if not images:
        raise InputError(f"{path} holds no image below its header")
    points = np.array(rows).reshape(-1, len(NAMES), 2)
    return Annotations(tuple(images), NAMES, points, ("",) * len(images))


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", line.strip()) if word]
