"""What a file holds: its datasets and their digests; attributes, numbers and names compared with its schema."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nerfgen.errors import InputError
from nerfgen.storage.image_rows import usable
from nerfgen.storage.schema import ROOT_ATTRIBUTES, Attribute, Dataset, Schema, Values
from nerfgen.untrusted import parse_json, printable, safe_relative_path

_BLOCK_BYTES = 1 << 26
_ROTATION_TOLERANCE = 1e-2
# No image has more; masks of its size are allocated.
_MAX_PIXELS = 500_000_000
# Bounds of a window's side and place, pixels.
_MIN_WINDOW, _MAX_WINDOW = 1e-3, 1e9
# Rows of images with these statuses are never opened; their names are shown only.
_NEVER_OPENED = ("bad_name", "outside")


def datasets(group: h5py.Group, place: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """All datasets below a group by their paths, sorted."""
    for key in sorted(group):
        item, name = group[key], f"{place}/{key}" if place else key
        if isinstance(item, h5py.Group):
            yield from datasets(item, name)
        else:
            yield name, item


def blocks(dataset: h5py.Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values of parts of the first axis, so that tables larger than memory can be read."""
    if dataset.shape == ():
        yield 0, np.asarray(dataset[()])[None]
    elif 0 not in dataset.shape:
        rows = max(1, _BLOCK_BYTES * dataset.shape[0] // dataset.nbytes)
        for start in range(0, dataset.shape[0], rows):
            yield start, dataset[start : start + rows]


def dataset_digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset's type, shape and values, hexadecimal; independent of how it is stored.

    Numbers are hashed in row-major order, little-endian; strings as UTF-8, each after its length in 8 bytes.
    """
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    kind = "string" if is_text else dataset.dtype.newbyteorder("<").str
    digest = hashlib.sha256(f"{kind} {tuple(map(int, dataset.shape))}\n".encode())
    for _, values in blocks(dataset):
        if is_text:
            for value in np.ravel(values):
                text = value.encode() if isinstance(value, str) else bytes(value)
                digest.update(len(text).to_bytes(8, "little") + text)
        else:
            digest.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def check_attributes(attributes: Mapping[str, Any], schema: Schema, path: Path) -> None:
    """Check that root attributes are there and of their kinds.

    Raises:
        InputError: naming the first that is missing or of another kind.
    """
    for name, attribute in {**ROOT_ATTRIBUTES, **schema.attributes}.items():
        if name in attributes:
            _check_attribute(attributes[name], name, attribute, path)
        elif not attribute.optional:
            raise InputError(f"{path}: attribute {name} of {schema.name} is missing; re-create the file")


def _check_attribute(value: Any, name: str, attribute: Attribute, path: Path) -> None:
    if attribute.kind in ("number", "numbers"):
        numbers = np.asarray(value)
        fits = numbers.dtype.kind in "biuf" and numbers.ndim == (attribute.kind == "numbers")
        if not fits or not np.isfinite(numbers).all():
            raise InputError(f"{path}: attribute {name} has to be {attribute.kind}; re-create the file")
        return
    if not isinstance(value, str):
        raise InputError(f"{path}: attribute {name} has to be text; re-create the file")
    if attribute.kind != "text":
        content = parse_json(value, f"{path}: attribute {name}")
        if not isinstance(content, dict if attribute.kind == "object" else list):
            raise InputError(
                f"{path}: attribute {name} has to be a JSON {attribute.kind}; re-create the file"
            )
    if name == "inputs":
        for record in parse_json(value, path):
            is_record = isinstance(record, dict) and all(
                isinstance(record.get(key), kind)
                for key, kind in (("file", str), ("size", int), ("sha256", str))
            )
            if not is_record:
                raise InputError(
                    f"{path}: attribute inputs has to list file, size and sha256; re-create the file"
                )


def check_values(file: h5py.File, schema: Schema, path: Path) -> None:
    """Check names, and that numbers are finite and in their ranges.

    Raises:
        InputError: naming the dataset and the first row that differs.
    """
    status = _texts(file["status"], path) if "status" in file else []
    for spec in schema.datasets:
        if spec.values is None or spec.name not in file:
            continue
        dataset = file[spec.name]
        rows = status if "status" in file and spec.shape[:1] == _status_axis(schema) else []
        if spec.kind == "string":
            _check_names(_texts(dataset, path), spec.values.kind, rows, f"{path}: {spec.name}")
        else:
            _check_numbers(dataset, spec, spec.values, rows, path)
    for group in schema.groups:
        for name, dataset in datasets(file[group]):
            for start, values in blocks(dataset):
                if values.dtype.kind == "f" and np.isnan(values).any():
                    raise InputError(
                        f"{path}: dataset {group}/{printable(name)} has numbers that are not finite, from row "
                        f"{start} on; re-create the file"
                    )


def _status_axis(schema: Schema) -> tuple[str | int, ...]:
    return next(spec.shape[:1] for spec in schema.datasets if spec.name == "status")


def _texts(dataset: h5py.Dataset, path: Path) -> list[str]:
    try:
        return [value if isinstance(value, str) else bytes(value).decode() for value in dataset[:]]
    except UnicodeDecodeError as error:
        name = printable(dataset.name.strip("/"))
        raise InputError(f"{path}: {name} has a text that is not UTF-8; re-create the file") from error


def _check_names(names: list[str], kind: str, status: list[str], where: str) -> None:
    for row, name in enumerate(names):
        if kind == "name" or (status and status[row] in _NEVER_OPENED):
            if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
                raise InputError(f"{where} {name!a} has control characters; re-create the file")
        elif not (name.isascii() and name.isprintable() and _is_plain(name)):
            safe_relative_path(name, where)
    if kind == "unique path" and len(set(names)) < len(names):
        known: set[str] = set()
        twice = next(name for name in names if name in known or known.add(name))  # type: ignore[func-returns-value]
        raise InputError(f"{where} lists {printable(twice)} twice; re-create the file")


def _is_plain(name: str) -> bool:
    """Whether a name is safe at a glance."""
    return name[:1].isalnum() and not (":" in name or "\\" in name or ".." in name)


def _check_numbers(
    dataset: h5py.Dataset, spec: Dataset, values: Values, status: list[str], path: Path
) -> None:
    is_used = usable(status) if status else np.ones(dataset.shape[:1] or (1,), bool)
    for start, block in blocks(dataset):
        rows = block.reshape(len(block), -1)
        used = is_used[start : start + len(rows)]
        wrong = _wrong_rows(rows, values)
        if values.kind:
            wrong |= used & ~_follows(values.kind, block)
        if values.nan != "anywhere":
            missing = np.isnan(rows).any(axis=1) if rows.dtype.kind == "f" else np.zeros(len(rows), bool)
            wrong |= missing & (used if values.nan == "unusable" else True)
        if values.nan == "unusable":
            wrong &= used
        if wrong.any():
            raise InputError(
                f"{path}: dataset {spec.name} has values that it cannot have, first in row "
                f"{start + int(wrong.argmax())}; re-create the file"
            )


def _wrong_rows(rows: np.ndarray, values: Values) -> np.ndarray:
    """Rows with infinite numbers, or numbers out of range."""
    wrong = (rows < values.minimum) | (rows > values.maximum)
    if rows.dtype.kind == "f":
        wrong |= np.isinf(rows)
    found: np.ndarray = wrong.any(axis=1)
    return found


def _follows(kind: str, block: np.ndarray) -> np.ndarray:
    """Rows that follow the rule of :class:`Values`; the last axes hold a matrix or window."""
    if kind == "size":
        fits = (block > 0).all(axis=-1) & (block.astype(np.int64).prod(axis=-1) <= _MAX_PIXELS)
    elif kind == "window":
        fits = (block[..., 2] >= _MIN_WINDOW) & (np.abs(block) <= _MAX_WINDOW).all(axis=-1)
    elif kind == "intrinsics":
        fits = (block[..., 0, 0] > 0) & (block[..., 1, 1] > 0)
        fits &= np.isclose(block[..., 2, :], [0.0, 0.0, 1.0]).all(axis=-1)
    else:
        rotation = block[..., :3, :3]
        with np.errstate(all="ignore"):
            product = np.swapaxes(rotation, -1, -2) @ rotation
            fits = (np.abs(product - np.eye(3)) <= _ROTATION_TOLERANCE).all(axis=(-1, -2))
            fits &= np.linalg.det(rotation) > 0
        fits &= np.isclose(block[..., 3, :], [0.0, 0.0, 0.0, 1.0]).all(axis=-1)
    found: np.ndarray = fits.reshape(len(block), -1).all(axis=1)
    return found
