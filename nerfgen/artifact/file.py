"""Writing files whole or not at all, and reading them with their schema checked."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import nerfgen
from nerfgen.artifact.schema import Dataset, Schema
from nerfgen.artifact.schemas import SCHEMAS
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass, class_from_text
from nerfgen.objectclass import object_class as named_class

_CHUNKED_FROM_BYTES = 1 << 16


@contextlib.contextmanager
def atomic_path(path: Path, *, tidy: bool = True) -> Iterator[Path]:
    """A temporary name beside ``path`` that is flushed and renamed to it on success, removed on failure.

    Args:
        tidy: first remove what killed processes left half-written there. That searches the folder; who writes very
            many files into one calls :func:`remove_abandoned` once instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers of pictures and videos choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    if tidy:
        remove_abandoned(path.parent, glob.escape(path.stem), path.suffix)
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that is flushed and renamed to it on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if _is_abandoned(other.name.split(".")[-2]):
            shutil.rmtree(other)
    temporary.mkdir()
    try:
        yield temporary
        if hasattr(os, "sync"):  # thousands of files: all at once
            os.sync()
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it; from the first moment on it is gone from its place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    os.replace(path, aside)
    shutil.rmtree(aside)


def remove_abandoned(folder: Path, stem: str, suffix: str) -> None:
    """Remove what killed processes left half-written in the place of files whose stem fits a pattern of ``glob``."""
    for other in folder.glob(f".{stem}.*.partial{glob.escape(suffix)}"):
        if _is_abandoned(other.name.split(".")[-3]):
            other.unlink(missing_ok=True)


def _is_abandoned(owner: str) -> bool:
    """Whether no process of this number is at work. In a container every run may have the same number: what bears
    ours was begun by an earlier process."""
    return owner.isdigit() and (int(owner) == os.getpid() or not _is_running(int(owner)))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def create(
    path: Path,
    schema: str,
    *,
    object_class: ObjectClass | str,
    parameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
) -> Iterator[h5py.File]:
    """Open a new file of a schema for writing; it appears under ``path`` when the block ends without error.

    Args:
        schema: key of ``SCHEMAS``.
        object_class: the class, or the name of one that ships.
        parameters: everything that the content depends on (JSON).
        inputs: provenance records, see :mod:`nerfgen.artifact.provenance`.
    """
    with atomic_path(path) as temporary, _Stream(temporary) as stream:
        try:
            with h5py.File(stream, "w") as file, stream.left_open():
                file.attrs["nerfgen_schema"] = schema
                file.attrs["nerfgen_version"] = nerfgen.__version__
                described = named_class(object_class)
                file.attrs["class"] = described.name
                file.attrs["class_description"] = described.text
                file.attrs["parameters"] = json.dumps(parameters, sort_keys=True)
                put_inputs(file, inputs)
                yield file
                check(file, path)
        finally:
            if stream.error:
                raise OSError(stream.error.errno, stream.error.strerror, str(path)) from stream.error


class _Stream(io.FileIO):
    """A new file for the HDF5 library, which would crash the process if it failed to close one.

    Errors of writing are raised inside :meth:`left_open` only, and only the first. It is kept as ``error``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._is_open = False

    @contextlib.contextmanager
    def left_open(self) -> Iterator[None]:
        """While data are written; what comes after is HDF5 closing the file."""
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


def put_inputs(file: h5py.File, inputs: list[dict[str, Any]]) -> None:
    """Replace the provenance records of an open file, for inputs whose digests are known only at the end."""
    file.attrs["inputs"] = json.dumps(inputs, sort_keys=True)


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
    """An empty dataset of the file's schema, to be filled item by item; one item is one chunk.

    An item is an image, or a view of an object.

    Args:
        compressed: False for items that are read again and again, in any order.
    """
    spec = _spec(file, name)
    storage = _storage(shape, np.dtype(spec.kind), spec) if compressed else {"chunks": _item(shape, spec)}
    dataset = file.create_dataset(name, shape=shape, dtype=spec.kind, **storage)
    _describe(dataset, spec)
    return dataset


@contextlib.contextmanager
def reading(path: Path, *schemas: str, made_by: str = "") -> Iterator[h5py.File]:
    """Open an existing file that must be of one of ``schemas`` and complete.

    Raises:
        InputError: it is missing (``made_by`` is the command that would make it), no HDF5, or another schema.
    """
    if not path.is_file():
        remedy = f"; make it with `{made_by}`" if made_by else ""
        raise InputError(f"{path} does not exist{remedy}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}); make it anew") from error
    with file:
        found = file.attrs.get("nerfgen_schema", "no nerfgen file")
        if found not in schemas:
            raise InputError(f"{path} holds {found}, but {' or '.join(schemas)} is needed here")
        check(file, path)
        yield file


def class_of(file: h5py.File) -> ObjectClass:
    """The object class of an open file, which holds the description of one that doesn't ship.

    Raises:
        InputError: neither is the class described there nor does it ship.
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
            raise InputError(f"{path}: dataset {spec.name} is missing for {schema.name}; make the file anew")
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
                f"but {schema.name} wants {spec.kind} {spec.shape}; make the file anew"
            )
    for group in schema.groups:
        if group not in file:
            raise InputError(f"{path}: group {group} is missing for {schema.name}; make the file anew")


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
    """Large arrays are compressed, one item a chunk; small ones are stored as they are."""
    if len(shape) < 3 or int(np.prod(shape)) * dtype.itemsize < _CHUNKED_FROM_BYTES:
        return {}
    return {"chunks": _item(shape, spec), "compression": "gzip", "compression_opts": 4, "shuffle": True}
