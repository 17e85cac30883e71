"""HDF5 files: written whole or not at all, read with their schema checked; their datasets, strings and trees."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass, class_from_text
from nerfgen.objectclass import object_class as named_class
from nerfgen.storage.atomic import atomic_path
from nerfgen.storage.schema import Dataset, Schema
from nerfgen.storage.schemas import SCHEMAS

_CHUNKED_FROM_BYTES = 1 << 16


@contextlib.contextmanager
def create_file(path: Path, attributes: Mapping[str, str]) -> Iterator[h5py.File]:
    """Open a new file for writing; it appears under ``path`` when the block ends without error.

    Args:
        attributes: root attributes; ``nerfgen_schema`` among them names the schema that the file must follow.
    """
    with atomic_path(path) as temporary, _Stream(temporary) as stream:
        try:
            with h5py.File(stream, "w") as file, stream.left_open():
                file.attrs.update(attributes)
                yield file
                check(file, path)
        finally:
            if stream.error:
                raise OSError(stream.error.errno, stream.error.strerror, str(path)) from stream.error


class _Stream(io.FileIO):
    """A new file for the HDF5 library, which crashes the process if it fails to close one.

    Only the first write error is raised, and only inside :meth:`left_open`; it is kept as ``error``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._is_open = False

    @contextlib.contextmanager
    def left_open(self) -> Iterator[None]:
        """While data are written; writes after it come from HDF5 closing the file."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and not self.error:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
                if self._is_open:
                    raise
        return size


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


def allocate(file: h5py.File, name: str, shape: tuple[int, ...], *, compressed: bool = True) -> h5py.Dataset:
    """An empty dataset of the file's schema, to be filled item by item: an image, or a view of an object, is a chunk.

    Args:
        compressed: False for items that are read repeatedly and in any order.
    """
    spec = _spec(file, name)
    storage = _storage(shape, np.dtype(spec.kind), spec) if compressed else {"chunks": _item(shape, spec)}
    dataset = file.create_dataset(name, shape=shape, dtype=spec.kind, **storage)
    _describe(dataset, spec)
    return dataset


@contextlib.contextmanager
def reading(path: Path, *schemas: str, made_by: str = "") -> Iterator[h5py.File]:
    """Open an existing file that must follow one of ``schemas``.

    Args:
        made_by: the command that writes such a file, named where it is missing.

    Raises:
        InputError: the file is missing, not HDF5, of another schema, or incomplete.
    """
    if not path.is_file():
        remedy = f"; make it with `{made_by}`" if made_by else ""
        raise InputError(f"{path} does not exist{remedy}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}); re-create it") from error
    with file:
        found = file.attrs.get("nerfgen_schema")
        if found not in schemas:
            kind = f"a {found} file" if found else "not a nerfgen file"
            raise InputError(f"{path} is {kind}; a {' or '.join(schemas)} file is needed here")
        check(file, path)
        yield file


def class_of(file: h5py.File) -> ObjectClass:
    """The object class of an open file; the file describes a class that does not ship with nerfgen.

    Raises:
        InputError: the class is neither described there nor ships with nerfgen.
    """
    text = str(file.attrs.get("class_description", ""))
    return class_from_text(text, f"{file.filename}: class") if text else named_class(str(file.attrs["class"]))


def strings(dataset: h5py.Dataset) -> list[str]:
    """A string dataset as a list of ``str``."""
    return [str(value) for value in dataset.asstr()[:]]


def check(file: h5py.File, path: Path) -> None:
    """Compare a file with its schema: names, kinds and shapes.

    Raises:
        InputError: naming the first dataset that differs.
    """
    schema = _schema(file)
    lengths: dict[str, int] = {}
    for spec in schema.datasets:
        if spec.name not in file:
            if spec.optional:
                continue
            raise InputError(f"{path}: dataset {spec.name} of {schema.name} is missing; re-create the file")
        dataset = file[spec.name]
        fits = len(dataset.shape) == len(spec.shape) and all(
            size == (axis if isinstance(axis, int) else lengths.setdefault(axis, size))
            for size, axis in zip(dataset.shape, spec.shape, strict=True)
        )
        is_string = h5py.check_string_dtype(dataset.dtype) is not None
        kind = "string" if is_string else dataset.dtype.name
        if not fits or kind != spec.kind:
            raise InputError(
                f"{path}: dataset {spec.name} is {kind} {dataset.shape}, "
                f"but {schema.name} defines {spec.kind} {spec.shape}; re-create the file"
            )
    for group in schema.groups:
        if group not in file:
            raise InputError(f"{path}: group {group} of {schema.name} is missing; re-create the file")


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
    """The shape of a chunk: one image, or one view of one object."""
    axes = 2 if spec.shape[:2] == ("object", "view") else 1
    return (1,) * axes + shape[axes:]


def _storage(shape: tuple[int, ...], dtype: np.dtype, spec: Dataset) -> dict[str, Any]:
    """Large arrays are compressed, one item a chunk; small ones are stored contiguously."""
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


def get_tree(group: h5py.Group) -> dict[str, Any]:
    """Read what :func:`put_tree` wrote."""
    return {
        name: get_tree(item) if isinstance(item, h5py.Group) else item[()] for name, item in group.items()
    }
