"""Annotations as plain text: tables (CSV), CelebA's lists, and the files of the CAT dataset."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np

from nerfgen.errors import InputError
from nerfgen.landmark.annotations import Annotations, extent, read_text

_IMAGE_COLUMNS = ("image", "file", "filename")


def read_table(path: Path) -> Annotations:
    """A CSV file with a header: ``image,x0,y0,x1,y1,...`` or ``image,NAME_x,NAME_y,...``.

    An empty field or ``nan`` is a missing point. The column ``class`` is the label; further columns are ignored. Of
    several lines for one image, the one with the largest extent is taken.

    Raises:
        InputError: a column is missing or a value is not a number; names the line.
    """
    lines = csv.reader(read_text(path).splitlines())
    header = [name.strip() for name in next(lines, [])]
    image = next((header.index(name) for name in _IMAGE_COLUMNS if name in header), None)
    if image is None:
        raise InputError(
            f"{path} line 1: no column 'image'; the header is image,x0,y0,x1,y1,... or image,NAME_x,NAME_y,..."
        )
    names, columns = _columns(path, header)
    label = header.index("class") if "class" in header else None
    rows: dict[str, tuple[np.ndarray, str]] = {}
    smaller = empty = 0
    for values in lines:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(header):
            raise InputError(
                f"{path} line {lines.line_num}: {len(values)} fields, but the header has {len(header)}"
            )
        points = np.array(
            [[_number(path, lines.line_num, values[column]) for column in pair] for pair in columns]
        )
        points[np.isnan(points).any(axis=1)] = np.nan
        name = values[image].strip().replace("\\", "/")
        if np.isnan(points).all():
            empty += 1
            continue
        known = rows.get(name)
        smaller += known is not None
        if known is None or extent(points) > extent(known[0]):
            rows[name] = (points, values[label].strip() if label is not None else "")
    if not rows:
        raise InputError(f"{path} has no annotated image below its header")
    notes = []
    if empty:
        notes.append(f"{empty} lines without a point")
    if smaller:
        notes.append(f"{smaller} objects with a larger one in the same image")
    return Annotations(
        tuple(rows),
        names,
        np.stack([points for points, _ in rows.values()]),
        tuple(label for _, label in rows.values()),
        tuple(notes),
    )


def _columns(path: Path, header: list[str]) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """Names of the landmarks and the columns of their x and y."""
    numbered = sorted(int(name[1:]) for name in header if re.fullmatch(r"x\d+", name))
    if numbered:
        names, pairs = (
            [str(number) for number in numbered],
            [(f"x{number}", f"y{number}") for number in numbered],
        )
    else:
        names = [name[:-2] for name in header if name.endswith("_x") and name[:-2] + "_y" in header]
        pairs = [(f"{name}_x", f"{name}_y") for name in names]
    absent = [y for _, y in pairs if y not in header]
    if absent or not pairs:
        what = f"no column {absent[0]!r}" if absent else "no columns of points"
        raise InputError(
            f"{path} line 1: {what}; the header is image,x0,y0,x1,y1,... or image,NAME_x,NAME_y,..."
        )
    return tuple(names), [(header.index(x), header.index(y)) for x, y in pairs]


def _number(path: Path, line: int, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{path} line {line}: {text.strip()!r} is not a number") from error
    if math.isinf(value):
        raise InputError(f"{path} line {line}: {text.strip()!r} is not a position in an image")
    return value


# "Left" is the viewer's in CelebA as in nerfgen.
_CELEBA_NAMES = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")
_CELEBA_COLUMNS = [
    f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]


def is_celeba(beginning: str) -> bool:
    """Whether a file begins like a CelebA list: with its header, after a line with the number of images or not."""
    return any(
        _words(line)[-len(_CELEBA_COLUMNS) :] == _CELEBA_COLUMNS for line in beginning.splitlines()[:2]
    )


def read_celeba(path: Path) -> Annotations:
    """``list_landmarks_align_celeba.txt`` or ``list_landmarks_celeba.txt``: number, header, then ``IMAGE x y x y ...``.

    The same list separated by commas (``.csv``) is read too.

    Raises:
        InputError: a line has another form; names it.
    """
    lines = read_text(path).splitlines()
    header = next(
        number
        for number, line in enumerate(lines)
        if _words(line)[-len(_CELEBA_COLUMNS) :] == _CELEBA_COLUMNS
    )
    images, rows = [], []
    for number, line in enumerate(lines[header + 1 :], start=header + 2):
        if not line.strip():
            continue
        image, *words = _words(line)
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}; a line is IMAGE and ten numbers") from error
        if len(values) != len(_CELEBA_COLUMNS):
            raise InputError(
                f"{path} line {number}: {len(values)} numbers, but a line is IMAGE and ten numbers"
            )
        images.append(image.replace("\\", "/"))
        rows.append(values)
    if not images:
        raise InputError(f"{path} has no image below its header")
    points = np.array(rows).reshape(-1, len(_CELEBA_NAMES), 2)
    return Annotations(tuple(images), _CELEBA_NAMES, points, ("",) * len(images))


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", line.strip()) if word]


# The CAT dataset (Zhang, Sun and Tang, ECCV 2008): a small text file beside every image.
_CAT_NAMES = (
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
_CAT_SUFFIX = ".cat"


def read_cat_folder(folder: Path, images: Path) -> Annotations:
    """All ``IMAGE.cat`` files below a folder: ``9 x y x y ...``, whole pixels.

    Args:
        images: folder of the images, in the same subfolders as their annotations.

    Raises:
        InputError: there are none, or one of them has another form.
    """
    files = sorted(path for path in folder.rglob(f"*{_CAT_SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise InputError(
            f"{folder} has no .cat files; give the folder of the CAT dataset or a .csv or .json file"
        )
    points = np.stack([_cat_points(path) for path in files])
    base = images if folder.is_relative_to(images) else folder
    names = tuple(path.relative_to(base).as_posix().removesuffix(_CAT_SUFFIX) for path in files)
    return Annotations(names, _CAT_NAMES, points, ("",) * len(files))


def _cat_points(path: Path) -> np.ndarray:
    text = read_text(path).split()
    expected = 1 + 2 * len(_CAT_NAMES)
    try:
        values = [float(word) for word in text]
    except ValueError as error:
        raise InputError(f"{path} line 1: {error}; a .cat file is '{len(_CAT_NAMES)} x y x y ...'") from error
    if len(values) != expected or values[0] != len(_CAT_NAMES):
        raise InputError(
            f"{path} line 1: {len(values)} numbers, but a .cat file has {expected}: '{len(_CAT_NAMES)} x y x y ...'"
        )
    return np.array(values[1:]).reshape(-1, 2)
