"""Writing HDF5 files: whole or not at all, complete by their schema, with digests and a seal; datasets and trees."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nerfgen.stopping import Terminated, send_again, stop_signals
from nerfgen.storage.atomic import atomic_path
from nerfgen.storage.content import dataset_digest, datasets
from nerfgen.storage.reader import check_layout, hdf5_errors
from nerfgen.storage.schema import Dataset, Schema
from nerfgen.storage.schemas import SCHEMAS
from nerfgen.storage.seal import SEAL_SIZE, write_seal

_CHUNKED_FROM_BYTES = 1 << 16


@contextlib.contextmanager
def create_file(path: Path, attributes: Mapping[str, str]) -> Iterator[h5py.File]:
    """Open a new file for writing; it appears under ``path``, sealed, when the block ends without error.

    Args:
        attributes: root attributes; ``nerfgen_schema`` among them names the schema that the file must follow.
    """
    with atomic_path(path) as temporary:
        with stop_signals() as stop, _Stream(temporary) as stream:
            file = h5py.File(stream, "w", userblock_size=SEAL_SIZE)
            try:
                with stop.suspended():
                    file.attrs.update(attributes)
                    yield file
                    stream.check()
                    check_layout(file, path)
                    _put_digests(file)
            finally:
                file.close()
                if stream.error:
                    raise OSError(stream.error.errno, stream.error.strerror, str(path)) from stream.error
        write_seal(temporary)


def renew(path: Path) -> None:
    """Digests and seal of a file that another program changed on purpose, as if nerfgen had written it so.

    Raises:
        InputError: it is not HDF5.
    """
    with atomic_path(path) as temporary:
        shutil.copyfile(path, temporary)
        with hdf5_errors(path), h5py.File(temporary, "r+", locking=False) as file:
            is_sealed = file.userblock_size == SEAL_SIZE
            _put_digests(file)
        if is_sealed:
            write_seal(temporary)


def _put_digests(file: h5py.File) -> None:
    for _, dataset in datasets(file):
        dataset.attrs["sha256"] = dataset_digest(dataset)


class _Stream(io.FileIO):
    """A new file for the HDF5 library, which may crash the process if one of its calls of these methods fails.

    None does: the first error is kept as ``error``, and from then on nothing is written, while the library takes for
    written what it still has. A signal that arrives within a call is sent again after it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        whole = memoryview(data).cast("B")
        start = self.tell()
        while not self.error:
            try:
                rest = whole
                while rest:
                    rest = rest[super().write(rest) :]
                break
            except OSError as error:
                self.error = error
            except (KeyboardInterrupt, Terminated) as error:
                send_again(error)
                self.seek(start)
        return len(whole)

    def truncate(self, size: int | None = None) -> int:
        while not self.error:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
            except (KeyboardInterrupt, Terminated) as error:
                send_again(error)
        return size or 0

    def check(self) -> None:
        """Raise the error that was kept."""
        if self.error:
            raise self.error


def put(file: h5py.File, name: str, values: Any) -> h5py.Dataset:
    """Write one dataset of the file's schema, with its unit, frame and description as attributes."""
    spec = _spec(file, name)
    if spec.kind == "string":
        dataset = file.create_dataset(name, data=np.asarray(values, dtype=object), dtype=h5py.string_dtype())
    else:
        array = np.asarray(values).astype(spec.kind)
        dataset = file.create_dataset(name, data=array, **_storage(array.shape, array.dtype, spec))
    _describe(dataset, spec)
    return dataset


def put_blocks(
    file: h5py.File, name: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray]
) -> h5py.Dataset:
    """As :func:`put`, for values that come in blocks along their first axis and are never in memory as a whole."""
    spec = _spec(file, name)
    dataset = file.create_dataset(name, shape, spec.kind, **_storage(shape, np.dtype(spec.kind), spec))
    start = 0
    for block in blocks:
        dataset[start : start + len(block)] = block
        start += len(block)
    _describe(dataset, spec)
    return dataset


def allocate(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """An empty dataset of the file's schema, to be filled item by item: a chunk is an image, or a view of an object."""
    spec = _spec(file, name)
    storage = _storage(shape, np.dtype(spec.kind), spec)
    dataset = file.create_dataset(name, shape=shape, dtype=spec.kind, **storage)
    _describe(dataset, spec)
    return dataset


def _schema(file: h5py.File) -> Schema:
    return SCHEMAS[file.attrs["nerfgen_schema"]]


def _spec(file: h5py.File, name: str) -> Dataset:
    return next(spec for spec in _schema(file).datasets if spec.name == name)


def _describe(dataset: h5py.Dataset, spec: Dataset) -> None:
    dataset.attrs["description"] = spec.description
    if spec.unit:
        dataset.attrs["unit"] = spec.unit
    if spec.frame:
        dataset.attrs["frame"] = spec.frame


def _item(shape: tuple[int, ...], spec: Dataset) -> tuple[int, ...]:
    """The shape of a chunk, which holds an item."""
    return (1,) * spec.item_axes + shape[spec.item_axes :]


def _storage(shape: tuple[int, ...], dtype: np.dtype, spec: Dataset) -> dict[str, Any]:
    """Large arrays are compressed, one item a chunk; small ones are stored contiguously."""
    if not spec.compressed:
        return {"chunks": _item(shape, spec)} if np.prod(shape) else {}
    if len(shape) < 3 or int(np.prod(shape)) * dtype.itemsize < _CHUNKED_FROM_BYTES:
        return {}
    return {"chunks": _item(shape, spec), "compression": "gzip", "compression_opts": 4, "shuffle": True}


def put_tree(group: h5py.Group, tree: dict[str, Any]) -> None:
    """Write nested dictionaries of arrays, in sorted order, so that equal trees give equal files."""
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            put_tree(group.create_group(name), tree[name])
        else:
            group.create_dataset(name, data=np.asarray(tree[name]))
