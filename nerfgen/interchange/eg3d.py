"""EG3D's ``dataset.json``: a folder or a zip of square images, each with 25 numbers.

The first 16 are the camera-to-world matrix, row by row, OpenCV axes; the other 9 the pinhole matrix in units of the
image size.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import EXTENSIONS
from nerfgen.interchange.posed_images import ListedImage, PosedImages, unlisted_images
from nerfgen.parallel import Progress, silent
from nerfgen.untrusted import safe_relative_path

LABELS = "dataset.json"
_NUMBERS = 25


def matches(source: Path) -> bool:
    """Whether a folder, file or zip is such a dataset."""
    if source.is_file():
        return source.name == LABELS or (zipfile.is_zipfile(source) and LABELS in _names(source))
    return (source / LABELS).is_file()


def read(folder: Path) -> tuple[list[ListedImage], list[str]]:
    """The labelled images of a folder, the images beside them without label, and the name of the label file.

    Raises:
        InputError: ``dataset.json`` is absent or invalid, or has an unsafe name.
    """
    listed = []
    for name, numbers in _labels(folder / LABELS):
        values = np.array(numbers)
        listed.append(
            ListedImage(
                name,
                name,
                values[16:].reshape(3, 3),
                cam_to_world=values[:16].reshape(4, 4),
            )
        )
    unlisted = unlisted_images(folder, [one.image for one in listed])
    return listed + [ListedImage(name, name) for name in unlisted], [LABELS]


def write(folder: Path, posed: PosedImages, names: Sequence[str]) -> None:
    """Write ``dataset.json``.

    Args:
        names: paths of the images in ``folder``.
    """
    labels = []
    for row, name in enumerate(names):
        width, height = posed.image_size[row]
        matrix = posed.intrinsics[row] / np.array([[width], [height], [1.0]])
        labels.append([name, [*posed.cam_to_world[row].ravel().tolist(), *matrix.ravel().tolist()]])
    (folder / LABELS).write_text(json.dumps({"labels": labels}, indent=0) + "\n", encoding="utf-8")


def unpack(archive: Path, folder: Path, *, progress: Progress = silent) -> None:
    """Unpack the images and labels of a zip into ``folder``, each file atomically; equal existing files are kept.

    Raises:
        InputError: the zip is damaged or has an unsafe name, or ``folder`` has another file of a member's name.
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
    path = folder / safe_relative_path(member.filename, archive)
    data = content.read(member)
    if path.exists():
        if path.is_file() and path.read_bytes() == data:
            return
        raise InputError(f"{path} differs from the file in {archive}; set `output` to an empty folder")
    with storage.atomic_path(path, tidy=False) as temporary:
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
            f"{path} is not a dataset.json of EG3D: expected `labels`, a list of [image, {_NUMBERS} numbers] "
            "(camera to world, then intrinsics)"
        ) from error
    if not found:
        raise InputError(f"{path} labels no image")
    return [(safe_relative_path(name, path), numbers) for name, numbers in found]
