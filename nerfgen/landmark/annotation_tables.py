"""Annotations as plain text: tables (CSV), CelebA's lists, and the files of the CAT dataset."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np

from nerfgen.errors import InputError
from nerfgen.landmark.annotations import Annotations, Collected
from nerfgen.untrusted import excerpt, printable, read_text_input

_HEADER = "the header is image,x0,y0,x1,y1,... or image,NAME_x,NAME_y,..."
_IMAGE_COLUMNS = ("image", "file", "filename")


def read_table(path: Path, images: Path) -> Annotations:
    """A CSV file with a header: ``image,x0,y0,x1,y1,...`` or ``image,NAME_x,NAME_y,...``.

    An empty field or ``nan`` is a missing point. The column ``class`` is the label; further columns are ignored. Of
    several lines for one image, the one with the largest extent is taken. Lines that cannot be used are skipped.

    Args:
        images: folder of the images.

    Raises:
        InputError: a column is missing, or no line can be used; names the line.
    """
    lines = csv.reader(io.StringIO(read_text_input(path), newline=""))
    try:
        header = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise InputError(f"{path} line 1: {error}; {_HEADER}") from error
    places = {name: place for place, name in enumerate(header)}
    image = next((places[name] for name in _IMAGE_COLUMNS if name in places), None)
    if image is None:
        raise InputError(f"{path} line 1: no column 'image'; {_HEADER}")
    names, columns = _columns(path, header, places)
    label = places.get("class")
    collected = Collected(path, images, names)
    while True:
        with collected.entry():
            try:
                values = next(lines)
            except StopIteration:
                break
            except csv.Error as error:
                raise InputError(f"line {lines.line_num}: {error}") from error
            if not any(value.strip() for value in values):
                continue
            where = f"line {lines.line_num}"
            if len(values) != len(header):
                raise InputError(f"{where}: {len(values)} fields, but the header has {len(header)}")
            points = np.array([[_number(where, values[column]) for column in pair] for pair in columns])
            points[np.isnan(points).any(axis=1)] = np.nan
            name = "" if label is None else values[label].strip()
            collected.add(where, values[image].strip(), points, label=name)
    return collected.annotations()


def _columns(
    path: Path, header: list[str], places: dict[str, int]
) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """Names of the landmarks and the columns of their x and y."""
    numbered = [name[1:] for name in header if re.fullmatch("x[0-9]{1,6}", name)]
    if numbered:
        names = sorted(numbered, key=int)
        pairs = [(f"x{number}", f"y{number}") for number in names]
    else:
        names = [name[:-2] for name in header if name.endswith("_x") and name[:-2] + "_y" in places]
        pairs = [(f"{name}_x", f"{name}_y") for name in names]
    absent = [y for _, y in pairs if y not in places]
    if absent or not pairs:
        what = f"no column {excerpt(absent[0])}" if absent else "no columns of points"
        raise InputError(f"{path} line 1: {what}; {_HEADER}")
    used = {*_IMAGE_COLUMNS, "class", *(name for pair in pairs for name in pair)}
    twice = next((name for name, count in Counter(header).items() if count > 1 and name in used), None)
    if twice is not None:
        raise InputError(f"{path} line 1: two columns {excerpt(twice)}; remove one")
    return tuple(names), [(places[x], places[y]) for x, y in pairs]


def _number(where: str, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: {excerpt(text.strip())} is not a number") from error
    if math.isinf(value):
        raise InputError(f"{where}: {excerpt(text.strip())} is not a position in an image")
    return value


# "Left" is the viewer's in CelebA as in nerfgen.
_CELEBA_NAMES = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")
_MOST_WORDS = 40
_CELEBA_COLUMNS = [
    f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
]


def is_celeba(beginning: str) -> bool:
    """Whether a file begins like a CelebA list: with its header, after a line with the number of images or not."""
    return any(map(_is_celeba_header, beginning.splitlines()[:2]))


def read_celeba(path: Path, images: Path) -> Annotations:
    """``list_landmarks_align_celeba.txt`` or ``list_landmarks_celeba.txt``: number, header, then ``IMAGE x y x y ...``.

    The same list separated by commas (``.csv``) is read too. Lines that cannot be used are skipped.

    Args:
        images: folder of the images.

    Raises:
        InputError: no line can be used; says why the first cannot.
    """
    lines = enumerate(io.StringIO(read_text_input(path), newline=None), start=1)
    next((number for number, line in lines if _is_celeba_header(line)), None)
    collected = Collected(path, images, _CELEBA_NAMES)
    for number, line in lines:
        with collected.entry():
            image, *words = _words(line) or [""]
            if not image:
                continue
            where = f"line {number}"
            if len(words) != len(_CELEBA_COLUMNS):
                raise InputError(f"{where}: {len(words)} numbers, but a line is IMAGE and ten numbers")
            points = np.array([_number(where, word) for word in words]).reshape(-1, 2)
            collected.add(where, image, points)
    return collected.annotations()


def _is_celeba_header(line: str) -> bool:
    return _words(line)[-len(_CELEBA_COLUMNS) :] == _CELEBA_COLUMNS


def _words(line: str) -> list[str]:
    """The words of a line; of a longer one than any in a list, the first."""
    return [word for word in re.split(r"[\s,]+", line.strip(), maxsplit=_MOST_WORDS) if word]


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
CAT_SUFFIX = ".cat"


def read_cat_folder(folder: Path, images: Path) -> Annotations:
    """All ``IMAGE.cat`` files below a folder: ``9 x y x y ...``, whole pixels. Files of another form are skipped.

    Args:
        images: folder of the images, in the same subfolders as their annotations.

    Raises:
        InputError: there are none, or none can be used.
    """
    files = sorted(path for path in folder.rglob(f"*{CAT_SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise InputError(
            f"{folder} has no .cat files; give the folder of the CAT dataset or a .csv or .json file"
        )
    base = images if folder.is_relative_to(images) else folder
    collected = Collected(folder, images, _CAT_NAMES)
    for path in files:
        with collected.entry():
            name = path.relative_to(base).as_posix()
            where = printable(name)
            collected.add(where, name.removesuffix(CAT_SUFFIX), _cat_points(where, path))
    return collected.annotations()


def _cat_points(where: str, path: Path) -> np.ndarray:
    expected = 1 + 2 * len(_CAT_NAMES)
    words = read_text_input(path).split(maxsplit=expected)
    values = [_number(where, word) for word in words[:expected]]
    if len(words) != expected or values[0] != len(_CAT_NAMES):
        raise InputError(
            f"{where}: {len(words)} numbers, but a .cat file has {expected}: '{len(_CAT_NAMES)} x y x y ...'"
        )
    return np.array(values[1:]).reshape(-1, 2)
