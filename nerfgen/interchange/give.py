"""Our cameras into the formats of others, with the pictures by option."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import h5py
import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.interchange import eg3d, srn, transforms, world
from nerfgen.interchange.formats import FORMATS, usual_front
from nerfgen.interchange.posed import PosedImages
from nerfgen.parallel import Progress, silent
from nerfgen.picture import png_bytes

_SOURCES = ("cameras/1", "truth/1", "model/1", "views/1")
Pictures = Literal["copy", "link", "none"]


@dataclass(frozen=True)
class _Given:
    """What is exported: images with cameras, and where their pictures are.

    Attributes:
        folder: where the images lie; None for pictures that ``file`` holds, in order of rows.
        file: the HDF5 file.
        left_out: images without camera.
        at: (object, view) of each picture that the file holds.
    """

    posed: PosedImages
    folder: Path | None
    file: Path
    left_out: int
    at: list[tuple[int, int]]


def give(
    source: Path,
    output: Path,
    *,
    format_name: str,
    pictures: Pictures = "copy",
    data: Path | None = None,
    up: str = "+y",
    front: str = "",
    scale: float = 1.0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the cameras of a file of ours as a folder in another format.

    Args:
        source: a ``cameras/1``, ``truth/1``, ``model/1`` (its refined cameras) or ``views/1`` file, or a folder that
            holds ``cameras.h5``.
        output: folder to make.
        format_name: key of :data:`nerfgen.interchange.FORMATS`.
        pictures: copy the pictures into the folder, make hard links to them (copies where that is impossible), or
            write the cameras only. Pictures of a views file are written anew.
        data: folder of the images; by default that of ``source``.
        up, front: the axes that the written world has up and to the front; "" for those usual in the format.
        scale: factor of lengths in the written world.
        overwrite: replace an existing folder.

    Returns:
        ``format``, ``images``, ``instances``, ``left_out`` (images without camera), ``up``, ``front`` and ``output``.

    Raises:
        InputError: ``source`` holds no camera, a picture is absent, or the format can't say these cameras.
        OutputExistsError: ``output`` is there.
    """
    if format_name not in FORMATS:
        raise InputError(f"there is no format {format_name}; choose from {', '.join(FORMATS)}")
    if source.is_dir():
        source = source / "cameras.h5"
    up = world.axis_name("--up", up)
    front = world.axis_name("--front", front or usual_front(format_name, up))
    given = _read(source, data)
    turn = world.turn_to_ours(up, front)
    posed = world.placed(given.posed, turn.T, scale)
    if output.exists() and not overwrite:
        raise OutputExistsError(f"{output} exists; give --overwrite to replace it or -o for another place")
    names = srn.layout(posed) if format_name == "srn" else posed.images
    with _folder(output) as folder:
        if format_name == "srn":
            srn.write(folder, posed, names)
        elif format_name == "eg3d":
            eg3d.write(folder, posed, names)
        else:
            transforms.write(folder, posed, names)
        if pictures != "none":
            _put_pictures(folder, given, names, pictures, progress)
    return {
        "format": format_name,
        "images": len(posed.images),
        "instances": len(set(posed.instance)),
        "left_out": given.left_out,
        "up": up,
        "front": front,
        "scale": scale,
        "output": str(output),
    }


def _read(path: Path, data: Path | None) -> _Given:
    with artifact.reading(path, *_SOURCES, made_by="nerfgen fit-cameras or nerfgen import") as file:
        if file.attrs["nerfgen_schema"] == "views/1":
            return _read_views(file, path)
        images = artifact.strings(file["image"])
        count = len(images)
        posed = PosedImages(
            images,
            artifact.strings(file["status"]) if "status" in file else ["ok"] * count,
            artifact.strings(file["instance"]) if "instance" in file else list(images),
            file["image_size"][:].astype(np.int64),
            file["intrinsics"][:],
            file["cam_to_world"][:],
            [""] * count,
        )
    rows = np.flatnonzero(posed.usable)
    if not len(rows):
        raise InputError(f"{path} holds no camera; `status` in it says why")
    return _Given(posed.rows(rows), data or path.parent, path, count - len(rows), [])


def _read_views(file: h5py.File, path: Path) -> _Given:
    """The rendered views: a picture for each object and view."""
    usable = artifact.usable(artifact.strings(file["status"]))
    objects, views = file["cam_to_world"].shape[:2]
    at = [(k, v) for k in range(objects) if usable[k] for v in range(views)]
    if not at:
        raise InputError(f"{path} holds no view; `status` in it says why")
    edge = file["rgb"].shape[2:4]
    rows = tuple(np.array(at).T)
    posed = PosedImages(
        [f"{k:06d}/{v:03d}.png" for k, v in at],
        ["ok"] * len(at),
        [f"{k:06d}" for k, _ in at],
        np.tile([edge[1], edge[0]], (len(at), 1)),
        file["intrinsics"][:][rows],
        file["cam_to_world"][:][rows],
        [""] * len(at),
    )
    return _Given(posed, None, path, int((~usable).sum()) * views, at)


@contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """The folder to fill, which takes the place of an old one when it is complete."""
    old = output.with_name(f".{output.name}.old.{os.getpid()}.partial")
    try:
        with artifact.atomic_folder(output) as folder:
            yield folder
            if output.exists():
                os.replace(output, old)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _put_pictures(
    folder: Path, given: _Given, names: Sequence[str], pictures: Pictures, progress: Progress
) -> None:
    if given.folder is None:
        with h5py.File(given.file, "r") as file:
            for done, (place, name) in enumerate(zip(given.at, names, strict=True), start=1):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png_bytes(file["rgb"][place]))
                progress(done, len(names))
        return
    for done, (image, name) in enumerate(zip(given.posed.images, names, strict=True), start=1):
        source, path = given.folder / image, folder / PurePosixPath(name)
        if not source.is_file():
            raise InputError(
                f"{source} is not there; say with --data where the images lie, or give --pictures none"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if pictures == "link":
            try:
                os.link(source.resolve(), path)
            except OSError:
                shutil.copyfile(source, path)
        else:
            shutil.copyfile(source, path)
        progress(done, len(names))
