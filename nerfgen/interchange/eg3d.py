"""EG3D's ``dataset.json``: a folder or a zip of square images, each with 25 numbers.

The first 16 are the camera-to-world matrix, row by row, OpenCV axes; the other 9 the pinhole matrix in units of the
image size.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import is_image
from nerfgen.interchange.entries import EntryError, numbers, read_json_source
from nerfgen.interchange.posed_images import ListedImage, PosedImages, with_files
from nerfgen.parallel import Progress, silent
from nerfgen.untrusted import (
    READ_LIMIT,
    excerpt,
    is_inside,
    printable,
    read_limit,
    safe_relative_path,
)

LABELS = "dataset.json"
_NUMBERS = 25
_ENCRYPTED = 0x1  # flag of a zip's member
_PART_BYTES = 2**20
_MAX_REASON = 120  # characters
_MAX_DIRECTORY_BYTES = 2**26


def matches(source: Path) -> bool:
    """Whether a folder, file or zip is such a dataset."""
    if source.is_file():
        is_zip = source.suffix.lower() == ".zip" or zipfile.is_zipfile(source)
        return source.name == LABELS or (is_zip and bool(_labels_in(source)))
    return (source / LABELS).is_file()


def read(folder: Path) -> tuple[list[ListedImage], list[str]]:
    """The labelled images of a folder, the images beside them without label, and the name of the label file.

    An image with an invalid label has no camera.

    Raises:
        InputError: ``dataset.json`` is absent or invalid, or has an unsafe name.
    """
    path = folder / LABELS
    content = read_json_source(folder, LABELS)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, list):
        raise InputError(
            f"{path} is not a dataset.json of EG3D: expected `labels`, a list of [image, {_NUMBERS} numbers] "
            "(camera to world, then intrinsics)"
        )
    if not labels:
        raise InputError(f"{path} labels no image")
    return with_files(folder, [_listed(path, place, label) for place, label in enumerate(labels)]), [LABELS]


def _listed(path: Path, place: int, label: Any) -> ListedImage:
    if not (isinstance(label, list) and len(label) == 2 and isinstance(label[0], str)):
        raise InputError(
            f"{path}: labels[{place}] is {excerpt(label)}, not [image, {_NUMBERS} numbers]; correct or remove it"
        )
    name = safe_relative_path(label[0], path)
    try:
        values = numbers(label[1], f"labels[{place}]", _NUMBERS)
    except EntryError as error:
        return ListedImage(name, name, problem=f"{LABELS}: {error}")
    return ListedImage(name, name, values[16:].reshape(3, 3), cam_to_world=values[:16].reshape(4, 4))


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

    The folder that holds ``dataset.json`` in the zip becomes ``folder``.

    Raises:
        InputError: the zip is damaged, encrypted or has an unsafe name, its content is too large, or ``folder`` has
            another file of a member's name.
    """
    with _opened(archive) as content:
        members = _members(content, archive)
        _check_space(sum(member.file_size for member in members.values()), archive, folder)
        places = {((folder / name).parent, PurePosixPath(name).suffix) for name in members}
        for parent, suffix in places:
            storage.remove_abandoned(parent, "*", suffix)
        for done, (name, member) in enumerate(members.items(), start=1):
            _unpack_one(content, member, archive, folder, name)
            progress(done, len(members))


def _members(content: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Images and labels by their paths in the dataset, whose folder may lie in others."""
    labels = _shallowest_labels(content)
    top = labels[: -len(LABELS)]
    members: dict[str, zipfile.ZipInfo] = {}
    for member in content.infolist():
        name = _slashes(member)
        if name.endswith("/") or not (
            name == labels or (name.startswith(top) and is_image(PurePosixPath(name).name))
        ):
            continue
        name = safe_relative_path(name[len(top) :], archive)
        if name in members:
            raise InputError(f"{archive} has {excerpt(name)} twice; create it again")
        if member.flag_bits & _ENCRYPTED:
            raise InputError(f"{archive} is encrypted; unpack it yourself, and give the folder")
        if member.file_size > read_limit():
            raise InputError(
                f"{archive}: {excerpt(name)} has {member.file_size:,} bytes, more than the limit of {read_limit():,}; "
                f"{READ_LIMIT}=GIB raises it"
            )
        members[name] = member
    return members


def _check_space(needed: int, archive: Path, folder: Path) -> None:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"{archive} unpacks to {needed / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB free; "
            "set `output` to a larger disk"
        )


def _unpack_one(
    content: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path, folder: Path, name: str
) -> None:
    path = folder / name
    if not is_inside(folder, name):
        raise InputError(f"{path} leads out of {folder}; set `output` to an empty folder")
    if path.exists():
        if not (path.is_file() and path.stat().st_size == member.file_size):
            raise InputError(f"{path} differs from the file in {archive}; set `output` to an empty folder")
        with path.open("rb") as existing:
            if all(existing.read(len(part)) == part for part in _parts(content, member, archive)):
                return
        raise InputError(f"{path} differs from the file in {archive}; set `output` to an empty folder")
    with storage.atomic_path(path, tidy=False) as temporary, temporary.open("wb") as stream:
        for part in _parts(content, member, archive):
            stream.write(part)


def _parts(content: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """The content of a member, no longer than its entry says."""
    try:
        with content.open(member) as stream:
            while part := stream.read(_PART_BYTES):
                yield part
    except Exception as error:
        raise _damaged(archive, error) from error


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    with _BoundedReads(archive) as stream:
        try:
            content = zipfile.ZipFile(stream)
        except InputError:
            raise
        except Exception as error:  # damaged directories raise anything
            raise _damaged(archive, error) from error
        with content:
            yield content


class _BoundedReads(io.FileIO):
    """A file that refuses to be read in large pieces: the directory of a zip is read in one, whatever its size."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise InputError(
                f"{self.name} lists more files than a zip of images has; unpack it yourself, and give the folder"
            )
        return super().read(size) or b""


def _damaged(archive: Path, error: Exception) -> InputError:
    reason = printable(" ".join(str(error).split()) or type(error).__name__)[:_MAX_REASON]
    return InputError(f"{archive} is a damaged zip ({reason}); fetch it again")


def _labels_in(archive: Path) -> str:
    with _opened(archive) as content:
        return _shallowest_labels(content)


def _shallowest_labels(content: zipfile.ZipFile) -> str:
    """Path of the ``dataset.json`` in the fewest folders; "" if there is none."""
    found = [name for name in map(_slashes, content.infolist()) if f"/{name}".endswith(f"/{LABELS}")]
    return min(found, key=lambda name: (name.count("/"), name), default="")


def _slashes(member: zipfile.ZipInfo) -> str:
    """A member's name with the separators that the format has; some programs write backslashes."""
    return member.filename.replace("\\", "/")
