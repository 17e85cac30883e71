"""The texts of an HDF5 file and the heaps that hold them, checked before the HDF5 library reads them.

The library walks the objects of a global heap by their sizes and never ends where an unused one claims no bytes. A heap
that claims more than the file has takes as much memory, and so does a text.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from nerfgen.errors import InputError
from nerfgen.untrusted import open_input

_SIGNATURE = b"GCOL\x01\0\0\0"
_HEAP = struct.Struct("<8sQ")
# Index, references, reserved bytes, size.
_OBJECT = struct.Struct("<HHIQ")
_SMALLEST = 4096
_BLOCK = 1 << 20
# What a dataset or an attribute stores of a text: its length, and its place in a heap.
_TEXT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
# Object headers of version 1: version, messages, references, size; then messages of a type and a size. A continuation
# has a place and a length; an attribute the sizes of its name, type and shape.
_HEADER, _MESSAGE, _CONTINUATION = struct.Struct("<BxHII4x"), struct.Struct("<HHB3x"), struct.Struct("<QQ")
_ATTRIBUTE = struct.Struct("<BxHHH")
_IS_ATTRIBUTE, _IS_CONTINUATION, _VARIABLE_LENGTH = 0x0C, 0x10, 9
_MOST_MESSAGES = 10_000


def check_heaps(path: Path) -> None:
    """Check that every global heap of a file ends, within the file.

    Raises:
        InputError: one does not.
        OSError: the file cannot be read.
    """
    with open_input(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        for place in _places(stream):
            if not _ends(stream, place, size):
                raise InputError(
                    f"{path} is not a readable HDF5 file (a heap that does not end in it); re-create it"
                )


def _places(stream: BinaryIO) -> Iterator[int]:
    """Where heaps may begin."""
    start, rest = 0, b""
    while block := stream.read(_BLOCK):
        content = rest + block
        found = content.find(_SIGNATURE)
        while found >= 0:
            yield start + found
            found = content.find(_SIGNATURE, found + 1)
        rest = content[-len(_SIGNATURE) + 1 :]
        start += len(content) - len(rest)
        stream.seek(start + len(rest))


def _ends(stream: BinaryIO, start: int, file_size: int) -> bool:
    """Whether the walk over the heap's objects ends within the file; also true for what is too small for a heap."""
    stream.seek(start)
    header = stream.read(_HEAP.size)
    if len(header) < _HEAP.size:
        return True
    _, size = _HEAP.unpack(header)
    end = start + size
    if size < _SMALLEST:
        return True
    if end > file_size:  # the library would fill as much memory with zeros
        return False
    place = start + _HEAP.size
    while place + _OBJECT.size <= end:
        stream.seek(place)
        index, _, _, length = _OBJECT.unpack(stream.read(_OBJECT.size))
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if not step:
            return False
        place += step
    return True


def longest_text(stream: BinaryIO, item: h5py.HLObject) -> int:
    """The most bytes that a text of a dataset or of an object's attributes claims, as far as that is seen.

    It is in contiguous datasets, and in object headers of version 1, which nerfgen's files have.
    """
    longest = _longest_of_attributes(stream, item)
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "O":
        start = item.id.get_offset()
        if start is not None:
            stream.seek(start)
            longest = max(longest, _longest(stream.read(item.id.get_storage_size())))
    return longest


def _longest_of_attributes(stream: BinaryIO, item: h5py.HLObject) -> int:
    base = item.file.userblock_size
    start = base + h5py.h5o.get_info(item.id).addr
    stream.seek(start)
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0
    version, _, _, size = _HEADER.unpack(header)
    if version != 1:
        return 0
    parts, longest, seen = [(start + _HEADER.size, size)], 0, 0
    while parts and seen < _MOST_MESSAGES:
        place, rest = parts.pop()
        stream.seek(place)
        content = stream.read(min(rest, 1 << 20))
        place = 0
        while place + _MESSAGE.size <= len(content):
            kind, length, _ = _MESSAGE.unpack_from(content, place)
            message = content[place + _MESSAGE.size :][:length]
            if kind == _IS_CONTINUATION and length >= _CONTINUATION.size:
                address, size = _CONTINUATION.unpack_from(message)
                parts.append((base + address, size))
            elif kind == _IS_ATTRIBUTE and length >= _ATTRIBUTE.size:
                longest = max(longest, _longest_of_attribute(message))
            place += _MESSAGE.size + length
            seen += 1
    return longest


def _longest_of_attribute(message: bytes) -> int:
    version, *sizes = _ATTRIBUTE.unpack_from(message)
    if version != 1:
        return 0
    name, kind, shape = (-(-size // 8) * 8 for size in sizes)
    start = _ATTRIBUTE.size + name
    is_text = message[start : start + 1] and message[start] & 15 == _VARIABLE_LENGTH
    return _longest(message[start + kind + shape :]) if is_text else 0


def _longest(stored: bytes) -> int:
    texts = np.frombuffer(stored[: len(stored) // _TEXT.itemsize * _TEXT.itemsize], _TEXT)
    return int(texts["length"].max(initial=0))
