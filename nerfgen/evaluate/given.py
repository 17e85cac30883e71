"""Tables that users bring: pairs of photographs, and true keypoints, as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs (source, target) of photographs of one object each, from columns of these names.

    Raises:
        InputError: it can't be read, has no such columns or no rows, or a cell is empty; it names the line.
    """
    columns, lines = _read(path)
    if not {"source", "target"} <= set(columns):
        raise InputError(f"{path}: give columns source and target; it has {', '.join(columns)}")
    at = columns.index("source"), columns.index("target")
    pairs = []
    for number, cells in lines:
        source, target = (cells[place].strip() for place in at)
        if not source or not target:
            raise InputError(f"{path}, line {number}: give a source and a target")
        pairs.append((source, target))
    return pairs


def read_keypoints(path: Path) -> dict[str, Float[np.ndarray, "keypoints 3"]]:
    """Keypoints (x, y, depth) of each image: x and y in pixels, depth in any unit, growing away from the camera.

    The columns are ``image, x0, y0, z0, x1, y1, z1, ...``; a keypoint with empty cells is NaN.

    Raises:
        InputError: it can't be read, has other columns or no rows, or a cell is no number; it names the line.
    """
    columns, lines = _read(path)
    count, rest = divmod(len(columns) - 1, 3)
    wanted = ["image", *(f"{axis}{number}" for number in range(count) for axis in "xyz")]
    if rest or not count or columns != wanted:
        raise InputError(
            f"{path}: give columns image, x0, y0, z0, x1, y1, z1, ...; it has {', '.join(columns)}"
        )
    found: dict[str, np.ndarray] = {}
    for number, (image, *cells) in lines:
        if image in found:
            raise InputError(f"{path}, line {number}: {image} stands there twice")
        found[image] = np.array([_number(path, number, cell) for cell in cells]).reshape(count, 3)
    return found


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and the cells of each line behind its number."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            lines = list(_numbered(csv.reader(stream)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read as CSV ({error})") from error
    if len(lines) < 2:
        raise InputError(f"{path} holds no rows below a line of column names")
    (_, columns), *rest = lines
    for number, cells in rest:
        if len(cells) != len(columns):
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells, but there are {len(columns)} columns"
            )
    return [name.strip() for name in columns], rest


def _numbered(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for number, cells in enumerate(lines, start=1):
        if cells:
            yield number, cells


def _number(path: Path, line: int, cell: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {cell!r} is no number") from error
