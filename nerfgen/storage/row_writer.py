"""Rows of a file in order: arrays are written as they come, columns of small values when all rows are there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from nerfgen.storage.hdf5 import allocate, put, put_tree
from nerfgen.storage.schema import Dataset
from nerfgen.storage.schemas import SCHEMAS

# Arrays are written when the waiting ones reach one of these limits.
_MOST_ROWS, _MOST_BYTES = 64, 1 << 20


class RowWriter:
    """Writes a file of a schema with a row per image or object.

    Equal rows give equal files, whoever writes them: what a run computes, and what :func:`write_joined` reads.

    Args:
        file: open for writing, without datasets.
        count: of the rows to come.
        arrays: shape of each dataset's item, for the datasets that :attr:`Schema.arrays` names.
    """

    def __init__(self, file: h5py.File, count: int, **arrays: tuple[int, ...]) -> None:
        self._file, self._schema = file, SCHEMAS[file.attrs["nerfgen_schema"]]
        self._arrays = {
            spec.name: allocate(file, spec.name, (count, *arrays[spec.name]))
            for spec in self._schema.arrays
            if spec.name in arrays
        }
        self._waiting: list[Mapping[str, Any]] = []
        self._columns: dict[str, list[Any]] = {}
        self._written = self._bytes = 0

    def add(self, row: Mapping[str, Any], trees: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Add the next row.

        Args:
            row: a value for each dataset that the file has; None leaves an array empty.
            trees: what groups hold of the row, by its number: an array, or a tree of arrays.
        """
        number = self._written + len(self._waiting)
        for group, tree in trees.items():
            put_tree(self._file.require_group(group), {str(number): tree})
        for name, value in row.items():
            if name not in self._arrays:
                self._columns.setdefault(name, []).append(value)
        arrays = {name: row[name] for name in self._arrays}
        self._waiting.append(arrays)
        self._bytes += sum(value.nbytes for value in arrays.values() if value is not None)
        if len(self._waiting) == _MOST_ROWS or self._bytes >= _MOST_BYTES:
            self._write_arrays()

    def finish(self, **shared: Any) -> None:
        """Write the columns, and the datasets that belong to all rows, in the order of the schema."""
        self._write_arrays()
        values: dict[str, Any] = {**self._columns, **shared}
        if not self._written:
            values |= {spec.name: _no_rows(spec) for spec in self._schema.columns if not spec.optional}
        for spec in self._schema.datasets:
            if spec.name in values:
                put(self._file, spec.name, values[spec.name])

    def _write_arrays(self) -> None:
        start = self._written
        for name, dataset in self._arrays.items():
            values = [row[name] for row in self._waiting]
            if all(value is not None for value in values):
                if values:
                    dataset[start : start + len(values)] = np.stack(values)
                continue
            for place, value in enumerate(values, start):
                if value is not None:
                    dataset[place] = value
        self._written += len(self._waiting)
        self._waiting, self._bytes = [], 0


def _no_rows(spec: Dataset) -> np.ndarray:
    return np.zeros([length if isinstance(length, int) else 0 for length in spec.shape])
