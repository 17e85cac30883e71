"""Values in the files of other programs, checked where they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.untrusted import excerpt, is_inside, read_json_input, read_text_input

LINKS_REMEDY = "replace the link by a copy, or set NERFGEN_FOLLOW_LINKS=1 if you trust the folder"
# No file of one camera is as large.
_MAX_BYTES = 65536


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


def read_text_source(folder: Path, name: str) -> str:
    """The text of one camera's file in a folder.

    Raises:
        InputError: it cannot be read, is not UTF-8 text, is too large, or is a link that leads out of the folder.
    """
    path = _inside(folder, name)
    if path.exists() and path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} has more than {_MAX_BYTES:,} bytes; check that it holds a camera")
    return read_text_input(path)


def read_json_source(folder: Path, name: str) -> Any:
    """The content of a file of cameras in a folder.

    Raises:
        InputError: it cannot be read, is not JSON, or is a link that leads out of the folder.
    """
    return read_json_input(_inside(folder, name))


def _inside(folder: Path, name: str) -> Path:
    if not is_inside(folder, name):
        raise InputError(f"{folder / name} leads out of {folder}; {LINKS_REMEDY}")
    return folder / name


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
