"""Arrays of PyTorch's files of weights, read without PyTorch and without running code of the file.

A file of PyTorch before 1.6 is a sequence of pickles (a magic number, the version, facts of the machine, the object,
the keys of its storages), followed by the elements of each storage. A pickle may name any function and have it called.
Here it may name four things: the type of an ordered dictionary, the function that makes a tensor, and two types of
storages. The last three stand for values of this module. Anything else ends the reading.
"""

from __future__ import annotations

import collections
import math
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nerfgen.errors import InputError
from nerfgen.untrusted import open_input

# They open every file of PyTorch before 1.6.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
# Bytes of the number of elements before those of a storage.
_COUNT_BYTES = 8


def read_torch_arrays(path: Path) -> dict[str, np.ndarray]:
    """The named tensors of a file of weights, as arrays of float32 or int64.

    Nothing that the file contains is executed, and its numbers are checked before memory is taken.

    Args:
        path: a dictionary of tensors in the format of PyTorch before 1.6, little-endian.

    Raises:
        InputError: the file can't be read, is damaged, is of another format or contains anything but tensors.
    """
    try:
        with open_input(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error
    except _RefusedError as error:
        raise InputError(f"{path}: {error}; use the published file") from error
    except Exception as error:  # damaged pickles raise errors of any type
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(
            f"{path}: not a PyTorch file of weights ({reason}); use the published file"
        ) from error


class _RefusedError(Exception):
    """The file contains something that it must not."""


@dataclass(frozen=True, slots=True)
class _StorageType:
    """Stands for a type of storages."""

    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Elements that follow later in the file."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _TensorFunction:
    """Stands for PyTorch's function that makes a tensor of a storage."""

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _RefusedError("a tensor without a storage")
        if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides)):
            raise _RefusedError("a tensor without a shape")
        if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
            raise _RefusedError("a tensor with an invalid shape")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        # Strides of zero would let a small file ask for much memory.
        if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
            raise _RefusedError("a tensor beyond the end of its storage")
        return _Tensor(storage, offset, shape, strides)


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _TensorFunction(),
    ("torch", "FloatStorage"): _StorageType("<f4"),
    ("torch", "LongStorage"): _StorageType("<i8"),
}


class _Unpickler(pickle._Unpickler):
    """Reads tensors and plain values; refuses every other name.

    The one in Python keeps its memo in a dictionary. That in C takes an array as long as the largest number in it.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"it asks for {module}.{name}, which no file of weights needs") from None

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(count), None) if count >= 0:
                return _Storage(dtype, key, count)
        raise _RefusedError("a storage of an unknown kind")


def _read(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    if file.read(4) == b"PK\x03\x04":
        raise _RefusedError("a file of PyTorch 1.6 or later, which is not supported")
    file.seek(0)
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
        raise _RefusedError("not a PyTorch file of weights")
    machine = _Unpickler(file).load()
    if not (isinstance(machine, dict) and machine.get("little_endian") is True):
        raise _RefusedError("it is not little-endian")
    tensors, keys = _Unpickler(file).load(), _Unpickler(file).load()
    if not (
        isinstance(tensors, dict)
        and all(isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items())
    ):
        raise _RefusedError("its content is not a dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if any(tensor.storage != storages[tensor.storage.key] for tensor in tensors.values()):
        raise _RefusedError("two storages with one key")
    if not (isinstance(keys, list) and len(keys) == len(storages) and set(keys) == set(storages)):
        raise _RefusedError("its storages are not those of its tensors")
    needed = sum(_COUNT_BYTES + each.count * np.dtype(each.dtype).itemsize for each in storages.values())
    if size - file.tell() != needed:
        raise _RefusedError(f"it has {size - file.tell()} bytes of numbers in place of {needed}")
    elements: dict[str, np.ndarray] = {}
    for key in keys:
        storage, dtype = storages[key], np.dtype(storages[key].dtype)
        if int.from_bytes(file.read(_COUNT_BYTES), "little") != storage.count:
            raise _RefusedError("a storage with another number of elements")
        elements[key] = np.frombuffer(file.read(storage.count * dtype.itemsize), dtype)
    return {name: _array(tensor, elements[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, elements: np.ndarray) -> np.ndarray:
    """The tensor as an array with memory of its own."""
    strides = [stride * elements.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(tensor.shape).astype(elements.dtype.newbyteorder("="))
