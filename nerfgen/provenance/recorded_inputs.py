"""The inputs that a file records, looked for on disk: by name and digest beside the file and in further folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import digest_images, find_images
from nerfgen.interchange import srn, transforms
from nerfgen.model import PERSONAL_SCHEMA
from nerfgen.provenance.written import Written, read_written
from nerfgen.storage import InputRecord, Record
from nerfgen.untrusted import is_inside, printable, safe_relative_path

UNCHANGED, CHANGED, NOT_FOUND, NOT_CHECKED = "unchanged", "changed", "not found", "not checked"
FOLDER = "."
# Schemas whose first record of a folder is that of the images that they list.
_LISTING = ("landmarks/1", "cameras/1", "masks/1")
_EG3D_LABELS = "dataset.json"


@dataclass(frozen=True)
class Input:
    """The state of an input.

    Attributes:
        file: its recorded name.
        state: ``unchanged``, ``changed``, ``not found``, or ``not checked`` where files of a folder are not recorded.
        path: where it is; empty if it was not found.
        detail: what differs, for people.
    """

    file: str
    state: str
    path: str = ""
    detail: str = ""

    def as_dict(self) -> Record:
        """The same as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return self.detail or f"{printable(self.file)} {self.state}"


def check_inputs(written: Written, folders: Sequence[Path]) -> list[Input]:
    """The state of every input of a file, in its order.

    Args:
        folders: where to look, after the file's own folder.

    Raises:
        InputError: the name of an input is unsafe.
    """
    places = list(dict.fromkeys([written.path.parent, *folders]))
    states = []
    is_first = True
    for record in written.inputs:
        if record["file"] != FOLDER:
            states.append(_file_state(written, record, places))
            continue
        states.append(_folder_state(written, record, places, is_first=is_first))
        is_first = False
    if written.digests and all(record["file"] != FOLDER for record in written.inputs):
        # Images of a synthetic dataset are outputs, as their landmarks are.
        states.append(_images_state(written, written.names, None, places))
    return states


def find_input(written: Written, record: InputRecord, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """Where a recorded file is, and its state; the path of one that has changed, too."""
    name = safe_relative_path(record["file"], f"{written.path}: inputs")
    there = [
        folder / name
        for folder in folders
        if (folder / name).is_file() and not (folder / name).samefile(written.path)
    ]
    for path in there:
        if path.stat().st_size == record["size"] and storage.file_digest(path)[1] == record["sha256"]:
            return path, UNCHANGED
    return (there[0], CHANGED) if there else (None, NOT_FOUND)


def unchanged_input(path: Path, schema: str) -> Path | None:
    """The first input of a file with a schema, if it lies beside the file and has not changed since; None otherwise.

    Raises:
        InputError: nerfgen did not write the file, or it is damaged.
    """
    written = read_written(path)
    for record in written.inputs:
        if record["file"] == FOLDER:
            continue
        found, state = find_input(written, record, [path.parent])
        if found and state == UNCHANGED and storage.schema_of(found) == schema:
            return found
    return None


def images_folder(written: Written, names: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """The first of some folders that holds any of a file's images."""
    return next((folder for folder in folders if any(_present(folder, names))), None)


def listed_images(written: Written, folders: Sequence[Path]) -> list[str] | None:
    """The images whose record a file holds, in order; None where nothing tells their names."""
    if written.schema in (*_LISTING, "views/1", PERSONAL_SCHEMA) or "shard" in written.parameters:
        return written.names
    # A training's images are those of its cameras.
    if written.inputs and written.schema in ("model/1", "checkpoint/1", "pixels/1"):
        cameras, state = find_input(written, written.inputs[0], folders)
        if cameras and state == UNCHANGED:
            return read_written(cameras).names
    return None


def find_sources(written: Written, record: InputRecord, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """The file or folder that was imported, and its state, from the record of the files that it consists of."""
    for folder in folders:
        for source, names, is_certain in _sources(written, record, folder):
            if _record(source if source.is_dir() else source.parent, names) == _content(record):
                return source, UNCHANGED
            if is_certain:
                return source, CHANGED
    return None, NOT_FOUND


def _sources(written: Written, record: InputRecord, folder: Path) -> Iterator[tuple[Path, list[str], bool]]:
    """Sources that may have been imported, the names of their files, and whether no other can have been."""
    form = written.parameters.get("format")
    if form == "cat":
        yield folder, [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.cat"))], False
    elif form == "eg3d":
        yield folder, [_EG3D_LABELS], (folder / _EG3D_LABELS).is_file()
    elif form in ("srn", "transforms"):
        try:
            read = srn.read(folder) if form == "srn" else transforms.read(folder, ignore_distortion=True)
        except (InputError, OSError):
            pass
        else:
            yield folder, read[1], form == "srn"
    if record.get("count") == 1:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.stat().st_size == record["size"] and path != written.path:
                yield path, [path.name], False


def _file_state(written: Written, record: InputRecord, folders: Sequence[Path]) -> Input:
    path, state = find_input(written, record, folders)
    if state == CHANGED:
        # Of two inputs of one name, from different folders, the other one may be what was found.
        others = [other for other in written.inputs if other["file"] == record["file"]]
        if any(find_input(written, other, folders)[1] == UNCHANGED for other in others):
            path, state = None, NOT_FOUND
    name = printable(record["file"])
    detail = f"input {name} has changed since" if state == CHANGED else f"input {name} {state}"
    return Input(record["file"], state, str(path or ""), detail)


def _folder_state(written: Written, record: InputRecord, folders: Sequence[Path], *, is_first: bool) -> Input:
    if is_first:
        names = listed_images(written, folders)
        if names is not None:
            return _images_state(written, names, record, folders)
        for folder in folders:
            try:
                if _record(folder, find_images(folder)) == _content(record):
                    return Input(FOLDER, UNCHANGED, str(folder), "images unchanged")
            except InputError:
                continue
    elif "format" in written.parameters:
        source, state = find_sources(written, record, folders)
        if source:
            what = f"imported {printable(str(source))}"
            return Input(FOLDER, state, str(source), f"{what} {'has changed since' * (state == CHANGED)}")
    count = record.get("count", 0)
    return Input(FOLDER, NOT_CHECKED, "", f"{count} further input files not checked")


def _images_state(
    written: Written, names: Sequence[str], record: InputRecord | None, folders: Sequence[Path]
) -> Input:
    """The state of the images of a file; their names are those of a checked file."""
    folder = images_folder(written, names, folders)
    if folder is None:
        return Input(FOLDER, NOT_FOUND, "", "images not found")
    if record is None or written.digests:
        wanted = {name: digest for name, digest in written.digests.items() if digest}
        now = digest_images(folder, list(wanted))
        differing = [name for name, (_, digest) in zip(wanted, now, strict=True) if digest != wanted[name]]
        if differing:
            more = f" and {len(differing) - 1} more images" if len(differing) > 1 else ""
            detail = f"image {printable(differing[0])}{more} changed since"
            return Input(FOLDER, CHANGED, str(folder), detail)
    if record is not None and _record(folder, names) != _content(record):
        return Input(FOLDER, CHANGED, str(folder), "images have changed since")
    return Input(FOLDER, UNCHANGED, str(folder), "images unchanged")


def _present(folder: Path, names: Sequence[str]) -> Iterator[bool]:
    return ((folder / name).is_file() and is_inside(folder, name) for name in names)


def _record(folder: Path, names: Sequence[str]) -> tuple[int, str]:
    return _content(storage.folder_record(names, digest_images(folder, names)))


def _content(record: InputRecord) -> tuple[int, str]:
    return record["size"], record["sha256"]
