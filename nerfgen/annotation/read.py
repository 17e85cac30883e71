"""One entry for all formats."""

from __future__ import annotations

from pathlib import Path

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.cat import read_cat_folder
from nerfgen.annotation.celeba import is_celeba, read_celeba
from nerfgen.annotation.coco import read_coco
from nerfgen.annotation.ffhq import is_ffhq, read_ffhq
from nerfgen.annotation.table import read_table
from nerfgen.errors import InputError

FORMATS = {
    "cat": "the CAT dataset's .cat files, in a folder",
    "coco": "COCO keypoints (.json)",
    "ffhq": "FFHQ's ffhq-dataset-v2.json",
    "celeba": "CelebA's lists of landmarks (.txt)",
    "csv": "a table: image,x0,y0,x1,y1,... or image,NAME_x,NAME_y,... (.csv)",
}
# So much of a file tells its format.
_BEGINNING = 4096


def format_of(path: Path) -> str:
    """Key of ``FORMATS``; "" where a file or folder holds no annotations."""
    if path.is_dir():
        return "cat" if next(path.rglob("*.cat"), None) else ""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".json", ".csv", ".txt"):
        return ""
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        beginning = stream.read(_BEGINNING)
    if suffix == ".json":
        return "ffhq" if is_ffhq(beginning) else "coco"
    return "celeba" if is_celeba(beginning) else "csv"


def read(path: Path, images: Path | None = None) -> Annotations:
    """Annotations in whichever format ``path`` has: one of ``FORMATS``.

    Args:
        images: folder of the images, to which the paths of ``.cat`` files are relative, and of which those of FFHQ are
            told apart; by default ``path``, or the folder that holds it.

    Raises:
        InputError: the format is not known, or something in the file can't be read; names the file and the line.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; annotations are {', '.join(FORMATS.values())}")
    images = images or (path if path.is_dir() else path.parent)
    readers = {
        "cat": lambda: read_cat_folder(path, images),
        "coco": lambda: read_coco(path),
        "ffhq": lambda: read_ffhq(path, images),
        "celeba": lambda: read_celeba(path),
        "csv": lambda: read_table(path),
    }
    found = format_of(path)
    if not found:
        if path.is_dir():
            raise InputError(
                f"{path} holds no .cat files; give the folder of the CAT dataset or a .csv or .json file"
            )
        raise InputError(
            f"{path}: annotations are {', '.join(FORMATS.values())}; not {path.suffix or 'a file without a suffix'}"
        )
    return readers[found]()
