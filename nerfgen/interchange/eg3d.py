"""EG3D's ``dataset.json``: a folder or a zip of square pictures, each with 25 numbers.

The first 16 are the camera-to-world matrix, row by row, OpenCV axes; the other 9 the pinhole matrix of a picture whose
edge is 1.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.interchange.posed import Listed, PosedImages, images_beside
from nerfgen.parallel import Progress, silent
from nerfgen.photo import EXTENSIONS

LABELS = "dataset.json"
_NUMBERS = 25


def finds(source: Path) -> bool:
    """Whether a folder, or a zip, holds such a dataset."""
    if source.is_file():
        return source.name == LABELS or (zipfile.is_zipfile(source) and LABELS in _names(source))
    return (source / LABELS).is_file()


def read(folder: Path) -> tuple[list[Listed], list[str]]:
    """The labelled images of a folder, those beside them without label, and the file that labels them.

    Raises:
        InputError: ``dataset.json`` is absent or has other content.
    """
    path = folder / LABELS
    labels = _labels(path)
    listed = []
    for name, numbers in labels:
        values = np.array(numbers)
        listed.append(
            Listed(
                name,
                name,
                values[16:].reshape(3, 3),
                cam_to_world=values[:16].reshape(4, 4),
            )
        )
    unlisted = images_beside(folder, [one.image for one in listed])
    return listed + [Listed(name, name) for name in unlisted], [LABELS]


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write ``dataset.json``.

    Args:
        names: where the images lie below ``folder``.
    """
    labels = []
    for row, name in enumerate(names):
        width, height = posed.image_size[row]
        matrix = posed.intrinsics[row] / np.array([[width], [height], [1.0]])
        labels.append([name, [*posed.cam_to_world[row].ravel().tolist(), *matrix.ravel().tolist()]])
    (folder / LABELS).write_text(json.dumps({"labels": labels}, indent=0) + "\n", encoding="utf-8")


def unpack(archive: Path, folder: Path, *, progress: Progress = silent) -> None:
    """Unpack the pictures and labels of a zip into ``folder``, each file whole or not at all.

    What is there already with the same content is kept.

    Raises:
        InputError: the zip is damaged or names files outside of itself, or ``folder`` holds another file of the name.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [
                member
                for member in content.infolist()
                if not member.is_dir()
                and (member.filename == LABELS or member.filename.rpartition(".")[2].lower() in EXTENSIONS)
            ]
            for done, member in enumerate(members, start=1):
                _unpack_one(content, member, archive, folder)
                progress(done, len(members))
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise InputError(f"{archive} is a damaged zip ({error}); fetch it again") from error


def _unpack_one(content: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path, folder: Path) -> None:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
        raise InputError(f"{archive} names a file outside of itself ({member.filename}); unpack it yourself")
    path = folder / name
    data = content.read(member)
    if path.exists():
        if path.is_file() and path.read_bytes() == data:
            return
        raise InputError(f"{path} is another file than the one in {archive}; choose an empty folder with -o")
    with artifact.atomic_path(path, tidy=False) as temporary:
        temporary.write_bytes(data)


def _names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as content:
        return content.namelist()


def _labels(path: Path) -> list[tuple[str, list[float]]]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        found = [(str(name), [float(number) for number in numbers]) for name, numbers in labels]
        if not all(len(numbers) == _NUMBERS for _, numbers in found):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is not EG3D's: it holds `labels`, a list of [image, {_NUMBERS} numbers] "
            "(camera to world, then intrinsics)"
        ) from error
    if not found:
        raise InputError(f"{path} labels no image")
    return found
