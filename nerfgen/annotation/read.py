"""One entry for all formats."""

from __future__ import annotations

from pathlib import Path

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.cat import read_cat_folder
from nerfgen.annotation.coco import read_coco
from nerfgen.annotation.table import read_table
from nerfgen.errors import InputError


def read(path: Path, images: Path | None = None) -> Annotations:
    """Annotations in whichever format ``path`` has.

    A folder holds the CAT dataset's ``.cat`` files, a ``.json`` file COCO keypoints, and a ``.csv`` file a table.

    Args:
        images: folder of the images, to which the paths of ``.cat`` files are relative; ``path`` by default.

    Raises:
        InputError: the format is not known, or something in the file can't be read; names the file and the line.
    """
    if path.is_dir():
        return read_cat_folder(path, images or path)
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; give a .csv file, a COCO .json file or a folder of .cat files"
        )
    if path.suffix.lower() == ".json":
        return read_coco(path)
    if path.suffix.lower() in (".csv", ".txt"):
        return read_table(path)
    raise InputError(
        f"{path}: annotations are read from .csv, from COCO .json and from a folder of .cat files, not from "
        f"{path.suffix or 'a file without a suffix'}"
    )
