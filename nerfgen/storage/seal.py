"""The seal of an HDF5 file: a digest by which damage is noticed before the file is parsed.

An HDF5 file may begin with a user block, which the HDF5 library skips. nerfgen's files have one of 512 bytes, the seal:
the size and SHA-256 of everything after it. Files of earlier versions have none.
"""

from __future__ import annotations

import os
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.storage.digest import stream_digest
from nerfgen.untrusted import open_input

SEAL_SIZE = 512
_TITLE = b"nerfgen, sealed HDF5\n"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def write_seal(path: Path) -> None:
    """Seal a complete file whose user block is empty."""
    size, digest = stream_digest(path, skip=SEAL_SIZE)
    with open(path, "rb+") as stream:
        stream.write(_seal(size, digest))
        stream.flush()
        os.fsync(stream.fileno())


def check_seal(path: Path) -> bool:
    """Whether a file is sealed; the content of a sealed file is as it was written.

    Returns:
        False for an HDF5 file without a seal, such as one of an earlier version.

    Raises:
        InputError: it is no HDF5 file, or its content does not match its seal.
        OSError: it cannot be read.
    """
    with open_input(path) as stream:
        block = stream.read(SEAL_SIZE)
    if block.startswith(_SIGNATURE):
        return False
    if not block.startswith(_TITLE):
        raise InputError(f"{path} is not a readable HDF5 file (no HDF5 signature); re-create it")
    if block != _seal(*stream_digest(path, skip=SEAL_SIZE)):
        raise InputError(
            f"{path} is damaged: its content does not match its digest; re-create it or copy it again, or accept what "
            "was changed on purpose with `nerfgen verify FILE --renew`"
        )
    return True


def _seal(size: int, digest: str) -> bytes:
    return (_TITLE + f"bytes {size}\nsha256 {digest}\n".encode()).ljust(SEAL_SIZE, b"\0")
