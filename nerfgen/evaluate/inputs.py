"""Files and settings that an evaluation reads."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen.errors import InputError
from nerfgen.image import ImageFolder, ImageStore
from nerfgen.untrusted import read_text_input, safe_relative_path


def choose_subset(names: Sequence[str], count: int, seed: int) -> Int[np.ndarray, "chosen"]:
    """Ascending indices of ``count`` of the names.

    The order in which names are chosen depends on the names and the seed only, not on the rest of the list: models
    with different tables are evaluated on the same images.
    """
    order = sorted(range(len(names)), key=lambda k: hashlib.sha256(f"{seed} {names[k]}".encode()).digest())
    return np.array(sorted(order[:count]), dtype=np.int64)


def folder_name(folder: ImageFolder) -> str:
    """Name of a folder for messages; that of the folder itself where the path is ``.`` or ends in ``..``."""
    if isinstance(folder, ImageStore) or folder.name not in ("", ".."):
        return folder.name
    return folder.resolve().name or str(folder.resolve())


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Image pairs (source, target) that show one object each, from CSV columns of these names.

    Raises:
        InputError: the file is unreadable or has other columns, no rows or empty cells; the line is named.
    """
    columns, lines = _read_csv(path)
    if not {"source", "target"} <= set(columns):
        raise InputError(f"{path}: columns source and target are required; found {', '.join(columns)}")
    at = columns.index("source"), columns.index("target")
    pairs = []
    for number, cells in lines:
        source, target = (cells[column].strip() for column in at)
        if not source or not target:
            raise InputError(f"{path}, line {number}: source or target is empty")
        place = f"{path}, line {number}"
        pairs.append((safe_relative_path(source, place), safe_relative_path(target, place)))
    return pairs


def read_keypoints(path: Path) -> dict[str, Float[np.ndarray, "keypoints 3"]]:
    """Keypoints (x, y, depth) of each image: x and y in pixels; depth in any unit, larger is farther.

    The columns are ``image, x0, y0, z0, x1, y1, z1, ...``; a keypoint with empty cells is NaN.

    Raises:
        InputError: the file is unreadable or has other columns, no rows or invalid numbers; the line is named.
    """
    columns, lines = _read_csv(path)
    count, rest = divmod(len(columns) - 1, 3)
    expected = ["image", *(f"{axis}{number}" for number in range(count) for axis in "xyz")]
    if rest or not count or columns != expected:
        raise InputError(
            f"{path}: columns image, x0, y0, z0, x1, y1, z1, ... are required; found {', '.join(columns)}"
        )
    found: dict[str, np.ndarray] = {}
    for number, (name, *cells) in lines:
        image = safe_relative_path(name, f"{path}, line {number}")
        if image in found:
            raise InputError(f"{path}, line {number}: {image} is listed twice")
        found[image] = np.array([_parse_number(path, number, cell) for cell in cells]).reshape(count, 3)
    return found


def read_visible(path: Path) -> dict[str, Bool[np.ndarray, "keypoints"]]:
    """Which keypoints of each image are visible.

    The columns are ``image, p0, p1, ...``, with cells 1 for visible and 0 for hidden.

    Raises:
        InputError: the file is unreadable or has other columns, no rows or other cells; the line is named.
    """
    columns, lines = _read_csv(path)
    if len(columns) < 2 or columns != ["image", *(f"p{number}" for number in range(len(columns) - 1))]:
        raise InputError(f"{path}: columns image, p0, p1, ... are required; found {', '.join(columns)}")
    found: dict[str, np.ndarray] = {}
    for number, (name, *cells) in lines:
        image = safe_relative_path(name, f"{path}, line {number}")
        if image in found:
            raise InputError(f"{path}, line {number}: {image} is listed twice")
        for cell in cells:
            if cell.strip() not in ("0", "1"):
                raise InputError(f"{path}, line {number}: {cell!r} is neither 0 nor 1")
        found[image] = np.array([cell.strip() == "1" for cell in cells])
    return found


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names, and the number and cells of each further line."""
    try:
        lines = list(_nonempty_lines(csv.reader(io.StringIO(read_text_input(path), newline=""))))
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error}); correct it") from error
    if len(lines) < 2:
        raise InputError(f"{path}: no rows below the line of column names")
    (_, columns), *rest = lines
    for number, cells in rest:
        if len(cells) != len(columns):
            raise InputError(f"{path}, line {number}: {len(cells)} cells, but {len(columns)} columns")
    return [name.strip() for name in columns], rest


def _nonempty_lines(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for number, cells in enumerate(lines, start=1):
        if cells:
            yield number, cells


def _parse_number(path: Path, line: int, cell: str) -> float:
    if not cell.strip():
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(
            f"{path}, line {line}: {cell!r} is not a finite number; an unknown one is left empty"
        )
    return number
