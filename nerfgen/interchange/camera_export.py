"""Export of cameras to the formats of other programs, optionally with the images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.image import png_bytes
from nerfgen.interchange import eg3d, srn, transforms, world_axes
from nerfgen.interchange.formats import default_front
from nerfgen.interchange.posed_images import PosedImages
from nerfgen.interchange.settings import ExportSettings, ImageTransfer
from nerfgen.parallel import Progress, silent
from nerfgen.untrusted import safe_relative_path

_SOURCES = ("cameras/1", "truth/1", "model/1", "views/1")


@dataclass(frozen=True)
class _ExportSource:
    """Images with cameras to export, and where their pixels are.

    Attributes:
        posed: images with cameras.
        folder: folder of the images; None for rendered views, whose pixels are in ``file`` in the same order.
        file: the HDF5 file.
        left_out: number of images without camera.
        views: (object, view) of each rendered view.
    """

    posed: PosedImages
    folder: Path | None
    file: Path
    left_out: int
    views: list[tuple[int, int]]


def export_cameras(
    source: Path,
    output: Path,
    settings: ExportSettings = ExportSettings(),
    *,
    data: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> storage.Record:
    """Write cameras as a folder in another format.

    Args:
        source: a ``cameras/1``, ``truth/1``, ``model/1`` (its refined cameras) or ``views/1`` file, or a folder with
            ``cameras.h5``.
        output: folder to create.
        settings: the format, the world, and whether images are written; rendered views are always written as files.
        data: folder of the images; that of ``source`` by default.
        overwrite: replace an existing folder.

    Returns:
        ``format``, ``images``, ``instances``, ``left_out`` (images without camera), ``up``, ``front``, ``scale`` and
        ``output``.

    Raises:
        InputError: ``source`` has no camera, an image is absent or has an unsafe name, or the format cannot represent
            the cameras.
        OutputExistsError: ``output`` exists.
    """
    format_name = settings.format_name
    if source.is_dir():
        source = source / "cameras.h5"
    up = world_axes.axis_name("up", settings.up)
    front = world_axes.axis_name("front", settings.front or default_front(format_name, up))
    selected = _read(source, data)
    rotation = world_axes.axes_rotation(up, front)
    posed = world_axes.transform_world(selected.posed, rotation.T, settings.scale)
    if output.is_file():
        raise InputError(f"{output} is a file; choose another `output`")
    if output.exists() and not overwrite:
        raise OutputExistsError(
            f"{output} exists; give `overwrite` to replace it, or choose another `output`"
        )
    for name in {*posed.images, *posed.instance}:
        safe_relative_path(name, source)
    names = srn.layout(posed) if format_name == "srn" else posed.images
    with _replacing_folder(output) as folder:
        if format_name == "srn":
            srn.write(folder, posed, names)
        elif format_name == "eg3d":
            eg3d.write(folder, posed, names)
        else:
            transforms.write(folder, posed, names)
        if settings.pictures != "none":
            _transfer_images(folder, selected, names, settings.pictures, progress)
    return {
        "format": format_name,
        "images": len(posed.images),
        "instances": len(set(posed.instance)),
        "left_out": selected.left_out,
        "up": up,
        "front": front,
        "scale": settings.scale,
        "output": str(output),
    }


def _read(path: Path, data: Path | None) -> _ExportSource:
    with storage.reading(path, *_SOURCES, made_by="nerfgen fit-cameras or nerfgen import") as file:
        if file.attrs["nerfgen_schema"] == "views/1":
            return _read_views(file, path)
        images = storage.strings(file["image"])
        count = len(images)
        posed = PosedImages(
            images,
            storage.strings(file["status"]) if "status" in file else ["ok"] * count,
            storage.strings(file["instance"]) if "instance" in file else list(images),
            file["image_size"][:].astype(np.int64),
            file["intrinsics"][:],
            file["cam_to_world"][:],
            [""] * count,
        )
    rows = np.flatnonzero(posed.usable)
    if not len(rows):
        raise InputError(f"{path} has no camera; its `status` dataset lists the reasons")
    return _ExportSource(posed.subset(rows), data or path.parent, path, count - len(rows), [])


def _read_views(file: h5py.File, path: Path) -> _ExportSource:
    """Rendered views: one image per object and view."""
    usable = storage.usable(storage.strings(file["status"]))
    objects, views = file["cam_to_world"].shape[:2]
    indices = [(k, v) for k in range(objects) if usable[k] for v in range(views)]
    if not indices:
        raise InputError(f"{path} has no view; its `status` dataset lists the reasons")
    height, width = file["rgb"].shape[2:4]
    rows = tuple(np.array(indices).T)
    posed = PosedImages(
        [f"{k:06d}/{v:03d}.png" for k, v in indices],
        ["ok"] * len(indices),
        [f"{k:06d}" for k, _ in indices],
        np.tile([width, height], (len(indices), 1)),
        file["intrinsics"][:][rows],
        file["cam_to_world"][:][rows],
        [""] * len(indices),
    )
    return _ExportSource(posed, None, path, int((~usable).sum()) * views, indices)


@contextmanager
def _replacing_folder(output: Path) -> Iterator[Path]:
    """The folder to fill; once complete, it replaces an existing one."""
    with storage.atomic_folder(output) as folder:
        yield folder
        if output.exists():
            storage.remove_folder(output)


def _transfer_images(
    folder: Path, source: _ExportSource, names: Sequence[str], pictures: ImageTransfer, progress: Progress
) -> None:
    if source.folder is None:
        with storage.reading(source.file, "views/1") as file:
            for done, (view, name) in enumerate(zip(source.views, names, strict=True), start=1):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png_bytes(file["rgb"][view]))
                progress(done, len(names))
        return
    for done, (image, name) in enumerate(zip(source.posed.images, names, strict=True), start=1):
        original, path = source.folder / image, folder / PurePosixPath(name)
        if not original.is_file():
            raise InputError(
                f"{original} does not exist; set `data` to the folder of the images, or `pictures` to none"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if pictures == "link":
            try:
                os.link(original.resolve(), path)
            except OSError:
                shutil.copyfile(original, path)
        else:
            shutil.copyfile(original, path)
        progress(done, len(names))
