"""The heaps of strings in an HDF5 file, checked before the HDF5 library reads them.

The library walks the objects of a global heap by their sizes and never ends where an unused one claims no bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nerfgen.errors import InputError
from nerfgen.untrusted import open_input

_SIGNATURE = b"GCOL\x01\0\0\0"
_HEAP = struct.Struct("<8sQ")
# Index, references, reserved bytes, size.
_OBJECT = struct.Struct("<HHIQ")
_SMALLEST = 4096
_BLOCK = 1 << 20


def check_heaps(path: Path) -> None:
    """Check that every global heap of a file ends.

    Raises:
        InputError: one does not.
        OSError: the file cannot be read.
    """
    with open_input(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        for place in _places(stream):
            if not _ends(stream, place, size):
                raise InputError(f"{path} is not a readable HDF5 file (a heap without end); re-create it")


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
    """Whether the walk over the heap's objects ends; also true for other data that looks like no heap."""
    stream.seek(start)
    header = stream.read(_HEAP.size)
    if len(header) < _HEAP.size:
        return True
    _, size = _HEAP.unpack(header)
    end = start + size
    if size < _SMALLEST or end > file_size:
        return True
    place = start + _HEAP.size
    while place + _OBJECT.size <= end:
        stream.seek(place)
        index, _, _, length = _OBJECT.unpack(stream.read(_OBJECT.size))
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if not step:
            return False
        place += step
    return True
