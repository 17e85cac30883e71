"""Changing nerfgen's HDF5 files in tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from nerfgen.storage import renew


@contextlib.contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """The file open for changes, after which its digests are right again, as an author of such a file would do."""
    with h5py.File(path, "r+") as file:
        yield file
    renew(path)
