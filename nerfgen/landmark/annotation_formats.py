"""Reading annotations in whichever format they have."""

from __future__ import annotations

from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.landmark.annotation_json import is_ffhq, read_coco, read_ffhq
from nerfgen.landmark.annotation_tables import CAT_SUFFIX, is_celeba, read_cat_folder, read_celeba, read_table
from nerfgen.landmark.annotations import Annotations
from nerfgen.landmark.settings import ANNOTATION_FORMATS, AnnotationFormat
from nerfgen.untrusted import open_input

_BEGINNING = 4096  # bytes that are looked at


def annotation_format(path: Path) -> AnnotationFormat | None:
    """Key of ``ANNOTATION_FORMATS``; None for a file or folder without annotations."""
    if path.is_dir():
        return "cat" if next(path.rglob(f"*{CAT_SUFFIX}"), None) else None
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".json", ".csv", ".txt"):
        return None
    with open_input(path) as stream:
        beginning = stream.read(_BEGINNING).decode("utf-8-sig", errors="replace")
    if suffix == ".json":
        return "ffhq" if is_ffhq(beginning) else "coco"
    return "celeba" if is_celeba(beginning) else "csv"


def read_annotations(path: Path, images: Path | None = None) -> Annotations:
    """Annotations in whichever format ``path`` has: one of ``ANNOTATION_FORMATS``.

    Args:
        images: folder of the images; by default ``path``, or its folder. Absolute names and the paths of ``.cat`` files
            become relative to it, and it shows which of FFHQ's sets is meant.

    Raises:
        InputError: the format is unknown, or the file has an error; names the file and the line.
    """
    if not path.exists():
        raise InputError(
            f"{path} does not exist; annotations are read from {'; '.join(ANNOTATION_FORMATS.values())}"
        )
    images = images or (path if path.is_dir() else path.parent)
    readers = {
        "cat": lambda: read_cat_folder(path, images),
        "coco": lambda: read_coco(path, images),
        "ffhq": lambda: read_ffhq(path, images),
        "celeba": lambda: read_celeba(path, images),
        "csv": lambda: read_table(path, images),
    }
    found = annotation_format(path)
    if found is None:
        if path.is_dir():
            raise InputError(
                f"{path} has no .cat files; give the folder of the CAT dataset or a .csv or .json file"
            )
        raise InputError(
            f"{path}: annotations are read from {'; '.join(ANNOTATION_FORMATS.values())}; not from "
            f"{path.suffix or 'a file without a suffix'}"
        )
    return readers[found]()
