"""Values in the files of other programs, checked where they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.untrusted import excerpt, is_inside, read_text_input

LINKS_REMEDY = "replace the link by a copy, or set NERFGEN_FOLLOW_LINKS=1 if you trust the folder"


class EntryError(ValueError):
    """A value is of another kind than its key says; the message names both."""


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number; None if the key is absent or null.

    Raises:
        EntryError: the value is anything else.
    """
    value = values.get(key)
    return None if value is None else _finite(value, key)


def text(values: Mapping[str, Any], key: str) -> str:
    """A text; empty if the key is absent or null.

    Raises:
        EntryError: the value is anything else.
    """
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise EntryError(f"{key} is {excerpt(value)}, not a text")
    return value


def numbers(value: Any, key: str, *counts: int) -> Float[np.ndarray, " numbers"]:
    """Finite numbers from a list, or from a list of lists row by row.

    Args:
        counts: how many numbers there may be.

    Raises:
        EntryError: there is another number of them, or a value is anything else.
    """
    found = [_finite(each, key) for each in _flat(value, key, max(counts))]
    if len(found) not in counts:
        raise EntryError(f"{key} has {len(found)} numbers, not {' or '.join(map(str, counts))}")
    return np.array(found)


def pose(value: Any, key: str) -> Float[np.ndarray, "4 4"]:
    """A 4 x 4 matrix from 16 numbers row by row, or from 12 without the last row.

    Raises:
        EntryError: as :func:`numbers`.
    """
    matrix = np.eye(4)
    values = numbers(value, key, 16, 12).reshape(-1, 4)
    matrix[: len(values)] = values
    return matrix


def read_source(folder: Path, name: str, *, limit: int | None = None) -> str:
    """The text of a camera file in a folder.

    Args:
        limit: most bytes of a file that is small by its nature.

    Raises:
        InputError: it cannot be read, is not UTF-8 text, is too large, or is a link that leads out of the folder.
    """
    path = folder / name
    if not is_inside(folder, name):
        raise InputError(f"{path} leads out of {folder}; {LINKS_REMEDY}")
    if limit is not None and path.exists() and path.stat().st_size > limit:
        raise InputError(f"{path} has more than {limit:,} bytes; check that it holds cameras")
    return read_text_input(path)


def _flat(value: Any, key: str, most: int) -> Iterator[Any]:
    if not isinstance(value, list):
        raise EntryError(f"{key} is {excerpt(value)}, not a list of numbers")
    for each in value[: most + 1]:
        if isinstance(each, list):
            yield from each[: most + 1]
        else:
            yield each


def _finite(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EntryError(f"{key} has {excerpt(value)}, not a number")
    found = float(value)
    if not math.isfinite(found):
        raise EntryError(f"{key} has {excerpt(value)}, not a finite number")
    return found
