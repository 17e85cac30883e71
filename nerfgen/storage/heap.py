"""The heaps of strings in an HDF5 file, checked before the HDF5 library reads them.

The library walks the objects of a global heap by their sizes and never ends where an unused one claims no bytes.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from nerfgen.errors import InputError

_SIGNATURE = b"GCOL\x01\0\0\0"
_HEAP = struct.Struct("<8sQ")
# Index, references, reserved bytes, size.
_OBJECT = struct.Struct("<HHIQ")
_SMALLEST = 4096


def check_heaps(path: Path) -> None:
    """Check that every global heap of a file ends.

    Raises:
        InputError: one does not.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_SIGNATURE)
        while place >= 0:
            if len(content) - place >= _HEAP.size and not _ends(content, place):
                raise InputError(f"{path} is not a readable HDF5 file (a heap without end); re-create it")
            place = content.find(_SIGNATURE, place + 1)


def _ends(content: mmap.mmap, start: int) -> bool:
    """Whether the walk over the heap's objects ends; also true for other data that looks like no heap."""
    _, size = _HEAP.unpack_from(content, start)
    end = start + size
    if size < _SMALLEST or end > len(content):
        return True
    place = start + _HEAP.size
    while place + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(content, place)
        step = _OBJECT.size + (length + 7) // 8 * 8 if index else length
        if not step:
            return False
        place += step
    return True
