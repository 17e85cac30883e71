"""The CAT dataset (Zhang, Sun and Tang, ECCV 2008): a small text file beside every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.text import text_of
from nerfgen.errors import InputError

NAMES = (
    "eye_left",
    "eye_right",
    "mouth",
    "ear_left_outer",
    "ear_left_tip",
    "ear_left_inner",
    "ear_right_inner",
    "ear_right_tip",
    "ear_right_outer",
)
_SUFFIX = ".cat"


def read_cat_folder(folder: Path, images: Path) -> Annotations:
    """All ``IMAGE.cat`` files below a folder: ``9 x y x y ...``, whole pixels.

    Args:
        images: the folder that holds the images, which lie as their annotations do.

    Raises:
        InputError: there are none, or one of them is of another form.
    """
    files = sorted(path for path in folder.rglob(f"*{_SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise InputError(
            f"{folder} holds no .cat files; give the folder of the CAT dataset or a .csv or .json file"
        )
    points = np.stack([_points(path) for path in files])
    base = images if folder.is_relative_to(images) else folder
    names = tuple(path.relative_to(base).as_posix().removesuffix(_SUFFIX) for path in files)
    return Annotations(names, NAMES, points, ("",) * len(files))


def _points(path: Path) -> np.ndarray:
    text = text_of(path).split()
    expected = 1 + 2 * len(NAMES)
    try:
        values = [float(word) for word in text]
    except ValueError as error:
        raise InputError(f"{path} line 1: {error}; a .cat file is '{len(NAMES)} x y x y ...'") from error
    if len(values) != expected or values[0] != len(NAMES):
        raise InputError(
            f"{path} line 1: {len(values)} numbers, but a .cat file is '{len(NAMES)} x y x y ...', {expected} numbers"
        )
    return np.array(values[1:]).reshape(-1, 2)
