"""Reading HDF5 files that others may have written: the seal, what the file is made of, and its schema come first.

What a file declares is compared with what it stores before anything is allocated. A file has no links out of itself,
no external or virtual storage and no filters but those that nerfgen writes with.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass, class_from_text, shipped_class
from nerfgen.storage.content import check_attributes, check_values
from nerfgen.storage.schema import Dataset, Schema
from nerfgen.storage.schemas import SCHEMAS
from nerfgen.storage.seal import check_seal
from nerfgen.storage.texts import check_heaps, longest_text
from nerfgen.untrusted import READ_LIMIT, open_input, printable, read_limit

_MAX_OBJECTS = 1_000_000
_MAX_DEPTH = 32
_MAX_ATTRIBUTES = 1000
# Arrays may take this fraction of the limit beyond a multiple of what is stored of them: several are held at a time.
_ARRAY_FRACTION = 0.25
_MAX_EXPANSION = 16
# A byte of deflated data becomes at most this many.
_DEFLATE_RATIO = 1032
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_FILTERS = (_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF)
# The HDF5 library takes as much memory for each chunk that it reads at a time.
_BYTES_PER_CHUNK = 600
# Axes of images, which are not empty.
_PIXEL_AXES = ("row", "line", "column")

_Stat = tuple[int, int, int, int]
# Files that this process has checked, by what changes when they do.
_checked: set[_Stat] = set()


@contextlib.contextmanager
def reading(path: Path, *schemas: str, made_by: str = "", sealed: bool = True) -> Iterator[h5py.File]:
    """Open an existing file that must follow one of ``schemas``.

    Args:
        made_by: the command that writes such a file, named where it is missing.
        sealed: False also opens a file whose content does not match its seal.

    Raises:
        InputError: the file is missing, not HDF5, damaged, of another schema, or incomplete; also where reading it
            fails within the block.
    """
    if not path.exists():
        remedy = f"; make it with `{made_by}`" if made_by else ""
        raise InputError(f"{path} does not exist{remedy}")
    with open_hdf5(path, sealed=sealed) as file:
        found = _text(file.attrs.get("nerfgen_schema"))
        if found not in schemas:
            kind = f"a {printable(found)} file" if found else "not a nerfgen file"
            raise InputError(f"{path} is {kind}; a {' or '.join(schemas)} file is needed here")
        _check_once(file, path)
        yield file


@contextlib.contextmanager
def open_hdf5(path: Path, *, sealed: bool = True) -> Iterator[h5py.File]:
    """Open an HDF5 file of any schema; it is undamaged and what it is made of is harmless.

    Args:
        sealed: False also opens a file whose content does not match its seal.

    Raises:
        InputError: it is no regular file, not HDF5, damaged or unsafe; also where reading it fails within the block.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise InputError(f"{path} is not a regular file; give a file that nerfgen wrote")
    if sealed:
        check_seal(path)
    check_heaps(path)
    # Files appear whole by renaming: there is nothing to lock, and not every file system has locks.
    with hdf5_errors(path), h5py.File(path, "r", locking=False) as file:
        if _identity(path) not in _checked:
            with open_input(path) as stream:
                _check_structure(file, path, stream)
        yield file


def open_file(path: Path, *schemas: str) -> h5py.File:
    """As :func:`reading`, for a file that stays open until its ``close``; errors of later reads are HDF5's."""
    with reading(path, *schemas):
        return h5py.File(path, "r", locking=False)


def schema_of(path: Path) -> str:
    """The schema that a file claims; empty for a file that is not nerfgen's, or that cannot be read."""
    try:
        with open_hdf5(path) as file:
            return _text(file.attrs.get("nerfgen_schema"))
    except (InputError, OSError):
        return ""


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Errors of the HDF5 library within the block as errors of this file.

    Raises:
        InputError: the library failed.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if frames and "h5py" in Path(frames[-1].filename).parts:
            cause = printable(" ".join(str(error).split()))
            raise InputError(f"{path} is not a readable HDF5 file ({cause}); re-create it") from error
        raise


def class_of(file: h5py.File) -> ObjectClass:
    """The object class of an open file; the file describes a class that does not ship with nerfgen.

    Raises:
        InputError: the class is neither described there nor ships with nerfgen.
    """
    text, name = str(file.attrs.get("class_description", "")), str(file.attrs["class"])
    if text:
        return class_from_text(text, f"{file.filename}: class")
    try:
        return shipped_class(name)
    except InputError as error:
        raise InputError(f"{file.filename}: {error}; re-create the file") from error


def strings(dataset: h5py.Dataset) -> list[str]:
    """A string dataset as a list of ``str``."""
    return [str(value) for value in dataset.asstr()[:]]


def get_tree(group: h5py.Group) -> dict[str, Any]:
    """Read what :func:`nerfgen.storage.put_tree` wrote."""
    return {
        name: get_tree(item) if isinstance(item, h5py.Group) else item[()] for name, item in group.items()
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _identity(path: Path) -> _Stat:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_once(file: h5py.File, path: Path) -> None:
    """Check a file against its schema, unless this process has checked it before."""
    identity = _identity(path)
    if identity in _checked:
        return
    schema = SCHEMAS[file.attrs["nerfgen_schema"]]
    check_attributes(file.attrs, schema, path)
    check_layout(file, path)
    check_values(file, schema, path)
    _checked.add(identity)


def check_layout(file: h5py.File, path: Path) -> None:
    """Compare a file with its schema: names, kinds and shapes.

    Raises:
        InputError: naming the first dataset that differs.
    """
    schema = SCHEMAS[file.attrs["nerfgen_schema"]]
    lengths: dict[str, int] = {}
    for spec in schema.datasets:
        if spec.name not in file:
            if spec.optional:
                continue
            raise InputError(f"{path}: dataset {spec.name} of {schema.name} is missing; re-create the file")
        dataset = file[spec.name]
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{path}: {spec.name} of {schema.name} is a group; re-create the file")
        fits = len(dataset.shape) == len(spec.shape) and all(
            size == (axis if isinstance(axis, int) else lengths.setdefault(axis, size))
            and (size or axis not in _PIXEL_AXES or axis == spec.shape[0])
            for size, axis in zip(dataset.shape, spec.shape, strict=True)
        )
        is_string = h5py.check_string_dtype(dataset.dtype) is not None
        kind = "string" if is_string else dataset.dtype.name
        if not fits or kind != spec.kind:
            raise InputError(
                f"{path}: dataset {spec.name} is {kind} {dataset.shape}, "
                f"but {schema.name} defines {spec.kind} {spec.shape}; re-create the file"
            )
    for group in (*schema.groups, *schema.optional_groups):
        if group not in file:
            if group in schema.optional_groups:
                continue
            raise InputError(f"{path}: group {group} of {schema.name} is missing; re-create the file")
        if not isinstance(file[group], h5py.Group):
            raise InputError(f"{path}: {group} of {schema.name} is not a group; re-create the file")


def _check_structure(file: h5py.File, path: Path, stream: BinaryIO) -> None:
    """Walk the file's objects without following links; ``stream`` gives its bytes.

    Raises:
        InputError: a link leads out of the file or around in it, storage is elsewhere, or sizes are not believable.
    """
    _check_texts(path, "/", file, stream)
    by_item = _by_item(_text(file.attrs.get("nerfgen_schema")))
    pending: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    seen: set[int] = set()
    declared = stored = 0
    while pending:
        place, group, depth = pending.pop()
        _check_object(path, place or "/", group, seen, depth)
        for key in group:
            name = f"{place}/{key}" if place else key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _unsafe(path, f"{name} is a link to another place")
            item = group[key]
            _check_texts(path, name, item, stream)
            if isinstance(item, h5py.Group):
                pending.append((name, item, depth + 1))
                continue
            if not isinstance(item, h5py.Dataset):
                raise _unsafe(path, f"{name} is neither a group nor a dataset")
            _check_object(path, name, item, seen, depth)
            size = _check_storage(path, name, item)
            if name in by_item and item.chunks is not None:
                declared += size // max(1, math.prod(item.shape[: by_item[name]]))
            else:
                declared += size
                stored += item.id.get_storage_size()
    allowed = _MAX_EXPANSION * stored + _array_limit()
    if declared > allowed:
        raise _too_large(path, f"its arrays take {declared:,} bytes, but {stored:,} are stored")


def _check_texts(path: Path, name: str, item: h5py.HLObject, stream: BinaryIO) -> None:
    """Refuse texts of more bytes than the file has: the HDF5 library clears that much memory before it reads them."""
    longest = longest_text(stream, item)
    if longest > os.fstat(stream.fileno()).st_size:
        raise _unsafe(path, f"{printable(name)} has a text of {longest:,} bytes")


def _check_object(path: Path, name: str, item: h5py.HLObject, seen: set[int], depth: int) -> None:
    """Refuse objects that are reached twice, too deep or too many, and attributes that are too many or too large."""
    address = h5py.h5o.get_info(item.id).addr
    if address in seen:
        raise _unsafe(path, f"{name} is linked twice")
    seen.add(address)
    if depth > _MAX_DEPTH or len(seen) > _MAX_OBJECTS:
        raise _unsafe(path, "it has too many objects")
    if len(item.attrs) > _MAX_ATTRIBUTES:
        raise _unsafe(path, f"{name} has {len(item.attrs):,} attributes")
    for key in item.attrs:
        attribute = item.attrs.get_id(key)
        if attribute.shape is None:  # HDF5 knows attributes without a value
            raise _unsafe(path, f"attribute {printable(key)} of {name} is empty")
        size = int(np.prod(attribute.shape, dtype=object)) * attribute.dtype.itemsize
        if size > max(1 << 16, 4 * attribute.get_storage_size()):
            raise _too_large(path, f"attribute {printable(key)} of {name} takes {size:,} bytes")
        if not _is_text_or_number(attribute.dtype):
            raise _unsafe(path, f"attribute {printable(key)} of {name} is neither text nor numbers")


def _check_storage(path: Path, name: str, dataset: h5py.Dataset) -> int:
    """The memory that reading a dataset takes, bytes; its type and storage are harmless."""
    name = printable(name)
    if not _is_text_or_number(dataset.dtype):
        raise _unsafe(path, f"{name} holds neither texts nor numbers")
    if dataset.shape is None:
        raise _unsafe(path, f"{name} is empty")
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in (
        h5py.h5d.COMPACT,
        h5py.h5d.CONTIGUOUS,
        h5py.h5d.CHUNKED,
    ):
        raise _unsafe(path, f"{name} is stored in another file")
    if dataset.dtype.kind == "O" and dataset.chunks is not None:
        raise _unsafe(path, f"{name} has its texts in chunks")
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if unknown := set(filters) - set(_FILTERS):
        raise _unsafe(path, f"{name} is stored with filter {min(unknown)}")
    overhead = 0
    if dataset.chunks is not None:
        chunk = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
        if chunk > _array_limit() and chunk > _MAX_EXPANSION * dataset.id.get_storage_size():
            raise _too_large(path, f"a chunk of {name} takes {chunk:,} bytes")
        if _DEFLATE in filters:
            _check_chunks(path, name, dataset, chunk)
        parts = zip(dataset.shape, dataset.chunks, strict=True)
        overhead = _BYTES_PER_CHUNK * math.prod(-(-length // part) for length, part in parts)
    return overhead + int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize


def _check_chunks(path: Path, name: str, dataset: h5py.Dataset, size: int) -> None:
    """Refuse chunks that would decompress to more than they are; the HDF5 library does not bound it."""
    suspects: list[tuple[int, ...]] = []

    def visit(chunk: Any) -> None:
        if chunk.size * _DEFLATE_RATIO > max(size, 1 << 20) and chunk.size * _DEFLATE_RATIO > _array_limit():
            suspects.append(chunk.chunk_offset)

    dataset.id.chunk_iter(visit)
    for offset in suspects:
        _, content = dataset.id.read_direct_chunk(offset)
        unpacker = zlib.decompressobj()
        try:
            unpacker.decompress(content, size + 1)
        except zlib.error:
            continue  # reading it fails
        if len(unpacker.unconsumed_tail) > 8:
            raise _too_large(path, f"a chunk of {name} unpacks to more than its {size:,} bytes")


def _is_text_or_number(dtype: np.dtype) -> bool:
    if dtype.kind == "O":
        return h5py.check_string_dtype(dtype) is not None
    return dtype.kind in "biufS" and dtype.fields is None and dtype.subdtype is None


def _by_item(schema: str) -> dict[str, int]:
    """Datasets that are read item by item, with the number of axes before those of an item."""
    found: Schema | None = SCHEMAS.get(schema)
    specs: tuple[Dataset, ...] = found.datasets if found else ()
    return {spec.name: spec.item_axes for spec in specs if spec.by_item}


def _array_limit() -> int:
    return int(read_limit() * _ARRAY_FRACTION)


def _unsafe(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is not a file that nerfgen wrote: {printable(reason)}; re-create it")


def _too_large(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: {reason}; re-create it, or set {READ_LIMIT}=GIB above {read_limit() / 2**30:g} if it is right"
    )
