"""Labels of a table's rows, from a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.settings import SettingError
from nerfgen.untrusted import excerpt, read_text_input


class Labels(NamedTuple):
    """Labels of some rows.

    Attributes:
        rows: that have one.
        values: numbers, or 0 and 1 for the two words.
        words: that 0 and 1 stand for; empty for numbers.
        column: that they are from.
        unknown: number of labels of images that are no rows.
    """

    rows: Int[np.ndarray, "labels"]
    values: Float[np.ndarray, "labels"]
    words: tuple[str, ...]
    column: str
    unknown: int


def read_labels(path: Path, images: Sequence[str], column: str | None = None) -> Labels:
    """Labels of a table's rows from a CSV file with the columns ``image`` and one or more of labels.

    Empty labels are left out. Labels are numbers, or two words.

    Args:
        images: of the rows.
        column: of the labels; by default the only one.

    Raises:
        InputError: the file is no such table, or no row has a label; names the line.
    """
    try:
        lines = [each for each in csv.reader(io.StringIO(read_text_input(path), newline="")) if each]
    except csv.Error as error:
        raise InputError(f"{path}: not readable as CSV ({error}); correct it") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if "image" not in header or len(header) < 2:
        raise InputError(f"{path}: the first line names the columns, `image` and that of the labels")
    others = [name for name in header if name != "image"]
    if column is None and len(others) > 1:
        raise SettingError(f"{path} has labels in {', '.join(others)}; choose one with `column`")
    chosen = others[0] if column is None else column
    if chosen not in others:
        raise SettingError(f"`column` {chosen} is not in {path}, which has {', '.join(others)}")
    place, label = header.index("image"), header.index(chosen)
    row_of = {image: row for row, image in enumerate(images)}
    found: dict[int, str] = {}
    unknown = 0
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(header):
            raise InputError(f"{path}, line {number}: {len(cells)} cells, but {len(header)} columns")
        image, text = cells[place].strip(), cells[label].strip()
        if not text:
            continue
        if image not in row_of:
            unknown += 1
        elif row_of[image] in found:
            raise InputError(f"{path}, line {number}: {excerpt(image)} is listed twice")
        else:
            found[row_of[image]] = text
    if not found:
        raise InputError(
            f"{path}: none of its images is a row of the model; name them as `nerfgen info --typicality` does"
        )
    rows = np.array(sorted(found))
    values, words = _values(path, [found[row] for row in rows])
    return Labels(rows, values, words, chosen, unknown)


def _values(path: Path, texts: list[str]) -> tuple[Float[np.ndarray, "labels"], tuple[str, ...]]:
    """Labels as numbers, or two words as 0 and 1 in alphabetical order."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        words = tuple(sorted(set(texts)))
        if len(words) != 2:
            shown = ", ".join(excerpt(word) for word in words[:4])
            raise InputError(f"{path}: labels are numbers, or two words, not {len(words)}: {shown}") from None
        return np.array([float(words.index(text)) for text in texts]), words
    if not np.isfinite(numbers).all():
        raise InputError(f"{path}: labels have to be finite numbers")
    if len(np.unique(numbers)) < 2:
        raise InputError(f"{path}: all labels are {numbers[0]:g}; a direction needs labels that differ")
    return numbers, ()
