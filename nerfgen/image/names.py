"""Names of image files: which are images, and how a row names a file that has no safe name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.image.store import ImageFolder, ImageStore, StoredImage
from nerfgen.image.unreadable import UnreadableImageError
from nerfgen.untrusted import FOLLOW_LINKS, is_inside, safe_relative_path

# Formats that are decoded: HEIC with the package of the extra `heif`, AVIF and JPEG 2000 where Pillow brings them.
EXTENSIONS = (
    *(
        "png",
        "jpg",
        "jpeg",
        "webp",
        "bmp",
        "tif",
        "tiff",
        "gif",
        "jfif",
        "jpe",
        "avif",
        "heic",
        "heif",
        "hif",
    ),
    *("apng", "jp2", "j2k", "jpf", "jpx", "jpeg2000"),
)
# Images too, which nothing here decodes.
RAW_EXTENSIONS = (
    *(
        "3fr",
        "arw",
        "cr2",
        "cr3",
        "crw",
        "dng",
        "erf",
        "iiq",
        "kdc",
        "mef",
        "mos",
        "mrw",
        "nef",
        "nrw",
        "orf",
        "pef",
    ),
    *("raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
)
_UNDECODED = ("jxl", *RAW_EXTENSIONS)


def is_image(name: str) -> bool:
    """Whether a file of this name is an input image: not hidden, unfinished or a training preview."""
    stem, _, extension = name.rpartition(".")
    hidden = not stem or name.startswith(".")
    own = ".partial." in name or name.endswith(".preview.png")
    return not hidden and not own and extension.lower() in (*EXTENSIONS, *_UNDECODED)


def row_name(path: str) -> str:
    """The name of a file's row: its path, or one with ``\\xNN`` for each byte that makes the name unsafe.

    Different files have different names. An escaped name holds a backslash, so that :func:`path_inside` refuses it.
    """
    try:
        if safe_relative_path(path, "") == path:
            return path
    except InputError:
        pass
    return "".join(map(_escaped, path))


def _escaped(character: str) -> str:
    if character != "\\" and unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def path_inside(folder: ImageFolder | None, name: str) -> Path | StoredImage:
    """Where the image of a row is, whoever wrote the name.

    Raises:
        UnreadableImageError: the name is unsafe (``bad_name``), or links lead out of the folder (``outside``).
    """
    if isinstance(folder, ImageStore):
        return folder.image(name)
    folder = folder or Path()
    try:
        path = safe_relative_path(name, "")
    except InputError as error:
        raise UnreadableImageError(str(error).removeprefix(": "), "bad_name") from error
    if not is_inside(folder, path):
        raise UnreadableImageError(
            f"a link leads out of the folder; copy the file, or permit it with {FOLLOW_LINKS}=1", "outside"
        )
    return folder / path
