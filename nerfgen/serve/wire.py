"""What travels between the service and its client: media types, and arrays as npz."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from nerfgen.errors import InputError
from nerfgen.untrusted import excerpt

JSON, NPZ = "application/json", "application/x-npz"
PNG, JPEG, MP4 = "image/png", "image/jpeg", "video/mp4"
GLB, OBJ, PLY = "model/gltf-binary", "model/obj", "application/x-ply"

OWNER_HEADER = "X-Nerfgen-Owner"
# The type of the error of images none of which is usable; their statuses come with it.
UNUSABLE = "unusable"
# Prefix of the names of arrays that change the networks.
_TUNED = "tuned/"
# Of an entry, beyond the bytes of its array.
_HEADER_BYTES = 4096

# What NumPy, zipfile and the decompressors raise for damaged files.
_DAMAGE = (
    ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError, zipfile.BadZipFile,
    zlib.error, lzma.LZMAError,
)  # fmt: skip

Arrays = dict[str, Shaped[np.ndarray, "..."]]


def pack(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> bytes:
    """Arrays as the content of an npz file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def unpack(content: bytes, limit: int | None = None) -> Arrays:
    """The arrays of an npz file.

    Args:
        limit: bytes that all of them may take, where another has made the file.

    Raises:
        InputError: it is no npz file, or its arrays are larger.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if limit is not None and size > limit:
            raise InputError(f"the arrays take {size:,} bytes, more than {limit:,}; send fewer")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise InputError(f"the content is no npz file ({error}); send one") from error
    if not all(isinstance(value, np.ndarray) for value in found.values()):
        raise InputError("the content is no npz file (an entry is no array); send one")
    return found


def pack_delta(delta: Mapping[str, Any], prefix: str = _TUNED) -> Arrays:
    """A change of networks, a tree of arrays, as arrays by path."""
    found: Arrays = {}
    for name, value in delta.items():
        if isinstance(value, Mapping):
            found |= pack_delta(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = value
    return found


def unpack_delta(arrays: Arrays) -> dict[str, Any]:
    """The tree of :func:`pack_delta`; other arrays are left out."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        if not path.startswith(_TUNED):
            continue
        *parents, name = path.removeprefix(_TUNED).split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InputError(f"array {excerpt(path)} lies within another array; leave it out")
        place[name] = array
    return tree


def check_delta(delta: Mapping[str, Any], like: Mapping[str, Any], where: str = _TUNED) -> None:
    """Check that a change fits the networks.

    Args:
        like: their parameters.

    Raises:
        InputError: naming the first array that does not.
    """
    for name, value in delta.items():
        path = f"{where}{name}"
        if name not in like:
            raise InputError(f"the model's networks have no {excerpt(path)}; leave it out")
        expected = like[name]
        if isinstance(value, Mapping) and isinstance(expected, Mapping):
            check_delta(value, expected, f"{path}/")
        elif isinstance(value, Mapping) or isinstance(expected, Mapping):
            raise InputError(f"{excerpt(path)} is not an array of the model's networks; leave it out")
        elif value.shape != expected.shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise InputError(f"array {excerpt(path)} is not finite numbers of shape {expected.shape}")


def bytes_of(tree: Mapping[str, Any]) -> int:
    """Bytes of the arrays of a tree as npz, at most."""
    return sum(
        bytes_of(value) if isinstance(value, Mapping) else value.nbytes + _HEADER_BYTES
        for value in tree.values()
    )
