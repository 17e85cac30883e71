"""Annotations as a table: one image a line."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.text import text_of
from nerfgen.errors import InputError

_IMAGE = ("image", "file", "filename")


def read_table(path: Path) -> Annotations:
    """A CSV file with a header: ``image,x0,y0,x1,y1,...`` or ``image,NAME_x,NAME_y,...``.

    An empty field or ``nan`` is a missing point; a column ``class`` is the label; others are ignored. Of several
    lines for one image the one whose points extend farthest is taken.

    Raises:
        InputError: a column is missing or a value no number; names the line.
    """
    lines = csv.reader(text_of(path).splitlines())
    header = [name.strip() for name in next(lines, [])]
    image = next((header.index(name) for name in _IMAGE if name in header), None)
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
        raise InputError(f"{path} holds no annotated image below its header")
    notes = []
    if empty:
        notes.append(f"{empty} lines without a point")
    if smaller:
        notes.append(f"{smaller} objects beside a larger one in the same image")
    return Annotations(
        tuple(rows),
        names,
        np.stack([points for points, _ in rows.values()]),
        tuple(label for _, label in rows.values()),
        tuple(notes),
    )


def extent(points: np.ndarray) -> float:
    """The longer side of the box around the points that are there; 0 for none."""
    there = points[np.isfinite(points).all(axis=-1)]
    return float(np.ptp(there, axis=0).max()) if len(there) else 0.0


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
        raise InputError(f"{path} line {line}: {text.strip()!r} is no number") from error
    if math.isinf(value):
        raise InputError(f"{path} line {line}: {text.strip()!r} is no place in an image")
    return value
