"""Export of cameras to the formats of other programs, optionally with the images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import window_intrinsics
from nerfgen.image import (
    InputImage,
    UnreadableImageError,
    digest_images,
    is_image,
    png_bytes,
    resample_window,
)
from nerfgen.interchange import eg3d, srn, transforms, world_axes
from nerfgen.interchange.entries import LINKS_REMEDY
from nerfgen.interchange.formats import default_front
from nerfgen.interchange.posed_images import OPPOSITE_TURNS, PosedImages, is_rigid_pose, turn_camera
from nerfgen.interchange.settings import ExportSettings
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.untrusted import excerpt, is_inside, read_json_input, safe_relative_path

_SOURCES = ("cameras/1", "truth/1", "model/1", "views/1")
# In every exported folder: what it was made of, and its files.
MARKER = ".nerfgen-export"
_UNEQUAL = (
    "EG3D reads square images of one size only, which these are not; `pictures` windows writes such images"
)


@dataclass(frozen=True)
class _ExportSource:
    """Images with cameras to export, and where their pixels are.

    Attributes:
        posed: images with cameras.
        folder: folder of the images; None for rendered views, whose pixels are in ``file`` in the same order.
        file: the HDF5 file.
        left_out: number of images without camera.
        described: the class of the objects.
        windows: window of each image, pixels; None for rendered views.
        views: (object, view) of each rendered view.
    """

    posed: PosedImages
    folder: Path | None
    file: Path
    left_out: int
    described: ObjectClass
    windows: Float[np.ndarray, "images 3"] | None = None
    views: Sequence[tuple[int, int]] = ()


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
        overwrite: replace an export that differs. A folder with other files is never replaced.

    Returns:
        ``format``, ``images``, ``instances``, ``left_out`` (images without camera, or mirrored by their EXIF
        orientation), ``up``, ``front``, ``scale``, ``notes`` (lines for people), ``output`` and ``kept`` (the folder
        held exactly this already).

    Raises:
        InputError: ``source`` has no camera, an image is absent or has an unsafe name, or the format cannot represent
            the cameras.
        OutputExistsError: ``output`` holds another export, or other files.
    """
    format_name = settings.format_name
    if source.is_dir():
        source = source / "cameras.h5"
    up = world_axes.axis_name("up", settings.up)
    front = world_axes.axis_name("front", settings.front or default_front(format_name, up))
    selected = _read(source, data)
    for name in {*selected.posed.images, *selected.posed.instance}:
        safe_relative_path(name, source)
    as_windows = settings.pictures == "windows" and selected.windows is not None
    selected = _windows(selected, settings.size) if as_windows else _stored(selected)
    rotation = world_axes.axes_rotation(up, front)
    posed = world_axes.transform_world(selected.posed, rotation.T, settings.scale)
    names = srn.layout(posed) if format_name == "srn" else posed.images
    if as_windows:
        names = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    _check_names(names, source)
    stage = _stage(selected, output, settings, up, front)
    kept = _is_kept(stage, output, overwrite)
    if not kept:
        with _replacing_folder(output) as folder:
            if format_name == "srn":
                srn.write(folder, posed, names)
            elif format_name == "eg3d":
                eg3d.write(folder, posed, names)
            else:
                transforms.write(folder, posed, names)
            if selected.folder is None:
                _write_views(folder, selected, names, progress)
            elif settings.pictures != "none":
                _write_images(folder, selected, names, settings, progress)
            _write_marker(folder, stage)
    unequal = len({tuple(size) for size in posed.image_size.tolist()}) > 1
    square = (posed.image_size[:, 0] == posed.image_size[:, 1]).all()
    return {
        "format": format_name,
        "images": len(posed.images),
        "instances": len(set(posed.instance)),
        "left_out": selected.left_out,
        "up": up,
        "front": front,
        "scale": settings.scale,
        "notes": [_UNEQUAL] if format_name == "eg3d" and (unequal or not square) else [],
        "output": str(output),
        "kept": kept,
    }


def _check_names(names: Sequence[str], source: Path) -> None:
    """Raise :class:`InputError` unless names are those of different images."""
    seen: set[str] = set()
    for name in names:
        if name in seen or not is_image(PurePosixPath(name).name):
            reason = "names two images" if name in seen else "is not the name of an image"
            raise InputError(
                f"{source}: {excerpt(name)} {reason} of the export; rename it and re-create the file"
            )
        seen.add(name)


def _read(path: Path, data: Path | None) -> _ExportSource:
    with storage.reading(path, *_SOURCES, made_by="nerfgen fit-cameras or nerfgen import") as file:
        if file.attrs["nerfgen_schema"] == "views/1":
            return _read_views(file, path)
        described = storage.class_of(file)
        windows = file["window"][:]
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
    posed = posed.subset(rows)
    for image, matrix, pose in zip(posed.images, posed.intrinsics, posed.cam_to_world, strict=True):
        if not (np.isfinite(matrix).all() and is_rigid_pose(pose)):
            raise InputError(f"{path}: the camera of {excerpt(image)} is invalid; re-create the file")
    return _ExportSource(
        posed, data or path.parent, path, count - len(rows), described, windows=windows[rows]
    )


def _read_views(file: h5py.File, path: Path) -> _ExportSource:
    """Rendered views: one image per object and view."""
    usable = storage.usable(storage.strings(file["status"]))
    objects, views = file["cam_to_world"].shape[:2]
    indices = [(k, v) for k in range(objects) if usable[k] for v in range(views)]
    if not indices:
        raise InputError(f"{path} has no view; its `status` dataset lists the reasons")
    if "rgb" not in file:
        raise InputError(f"{path} has no colours; render it again with rgb among its `kinds`")
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
    left_out = int((~usable).sum()) * views
    return _ExportSource(posed, None, path, left_out, storage.class_of(file), views=indices)


def _stored(source: _ExportSource) -> _ExportSource:
    """The cameras for the stored pixels of the images, as other programs read them: without EXIF orientation."""
    if source.folder is None:
        return source
    posed = source.posed
    orientations = list(map_threads(partial(_orientation, source.folder), posed.images))
    rows = [row for row, orientation in enumerate(orientations) if orientation in OPPOSITE_TURNS]
    if not rows:
        raise InputError(f"{source.folder}: the EXIF orientation mirrors every image; save them upright")
    sizes, intrinsics, poses = posed.image_size.copy(), posed.intrinsics.copy(), posed.cam_to_world.copy()
    for row in rows:
        width, height = posed.image_size[row].tolist()
        opposite = OPPOSITE_TURNS[orientations[row]]
        intrinsics[row], poses[row] = turn_camera(intrinsics[row], poses[row], (width, height), opposite)
        sizes[row] = (height, width) if opposite >= 5 else (width, height)
    stored = replace(posed, image_size=sizes, intrinsics=intrinsics, cam_to_world=poses).subset(rows)
    return replace(source, posed=stored, left_out=source.left_out + len(orientations) - len(rows))


def _orientation(folder: Path, image: str) -> int:
    """EXIF orientation of an image file; 1 if it cannot be read."""
    if not (os.path.isfile(folder / image) and is_inside(folder, image)):
        return 1
    try:
        return InputImage(folder / image).orientation
    except UnreadableImageError:
        return 1


def _windows(source: _ExportSource, size: int) -> _ExportSource:
    """The images' windows as images of ``size`` x ``size`` pixels."""
    posed, windows = source.posed, source.windows
    assert windows is not None
    if not (np.isfinite(windows).all() and (windows[:, 2] > 0).all()):
        raise InputError(f"{source.file} has an invalid window; re-create the file")
    changed = replace(
        posed,
        intrinsics=window_intrinsics(posed.intrinsics, windows, size),
        image_size=np.full_like(posed.image_size, size),
    )
    return replace(source, posed=changed)


def _stage(
    source: _ExportSource, output: Path, settings: ExportSettings, up: str, front: str
) -> storage.Stage:
    """The export as a value: equal ones write equal folders."""
    images = source.posed.images if source.folder is not None and settings.pictures != "none" else []
    inputs = [storage.file_record(source.file)]
    if images:
        assert source.folder is not None
        for image in images:
            _original(source.folder, image)
        inputs.append(storage.folder_record(images, digest_images(source.folder, images)))
    return storage.Stage(
        output / MARKER,
        "export/1",
        source.described,
        parameters={
            "format": settings.format_name,
            "pictures": settings.pictures,
            "size": settings.size if settings.pictures == "windows" else 0,
            "up": up,
            "front": front,
            "scale": settings.scale,
        },
        inputs=inputs,
    )


def _original(folder: Path, image: str) -> Path:
    """The file of an image.

    Raises:
        InputError: it does not exist, or leads out of the folder.
    """
    original = folder / image
    if not os.path.isfile(original):
        raise InputError(
            f"{original} does not exist; set `data` to the folder of the images, or `pictures` to none"
        )
    if not is_inside(folder, image):
        raise InputError(f"{original} leads out of {folder}; {LINKS_REMEDY}")
    return original


def _is_kept(stage: storage.Stage, output: Path, overwrite: bool) -> bool:
    """Whether ``output`` holds exactly this export.

    Raises:
        InputError: it is a file.
        OutputExistsError: it holds other files, or another export that may not be replaced.
    """
    if output.is_file():
        raise InputError(f"{output} is a file; choose another `output`")
    if not output.exists() or not any(output.iterdir()):
        return False
    marker = _read_marker(stage.output)
    if not marker:
        raise OutputExistsError(
            f"{output} exists and holds files that export-cameras did not write; choose another `output`"
        )
    if stage.is_current(overwrite=overwrite, read=lambda path: _read_marker(path)["made_of"]):
        return True
    own = {MARKER, *marker["files"]}
    other = next((name for name in _files(output) if name not in own), None)
    if other is not None:
        raise OutputExistsError(
            f"{output / other} was not written by export-cameras and would be lost; move it, or choose another `output`"
        )
    return False


def _read_marker(path: Path) -> Mapping[str, Mapping[str, object]]:
    """``made_of`` and ``files`` of an exported folder; empty if it is none."""
    try:
        marker = read_json_input(path)
        made_of, files = marker["made_of"], marker["files"]
        valid = isinstance(made_of, dict) and all(isinstance(value, str) for value in made_of.values())
        for key in ("parameters", "inputs"):
            json.loads(made_of[key])
        return {"made_of": made_of, "files": dict.fromkeys(files)} if valid else {}
    except (InputError, KeyError, TypeError, ValueError):
        return {}


def _write_marker(folder: Path, stage: storage.Stage) -> None:
    content = {"made_of": stage.attributes(), "files": sorted(_files(folder))}
    (folder / MARKER).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def _files(folder: Path) -> Iterator[str]:
    """Files below a folder, relative to it."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            yield PurePosixPath(os.path.relpath(os.path.join(parent, name), folder)).as_posix()


@contextmanager
def _replacing_folder(output: Path) -> Iterator[Path]:
    """The folder to fill; once complete, it replaces an existing one."""
    with storage.claim(output), storage.atomic_folder(output) as folder:
        yield folder
        if output.exists():
            storage.remove_folder(output)


def _write_views(folder: Path, source: _ExportSource, names: Sequence[str], progress: Progress) -> None:
    with storage.reading(source.file, "views/1") as file:
        for done, (view, name) in enumerate(zip(source.views, names, strict=True), start=1):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(file["rgb"][view]))
            progress(done, len(names))


def _write_images(
    folder: Path, source: _ExportSource, names: Sequence[str], settings: ExportSettings, progress: Progress
) -> None:
    assert source.folder is not None
    for row, (image, name) in enumerate(zip(source.posed.images, names, strict=True)):
        original, path = _original(source.folder, image), folder / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if settings.pictures == "windows":
            assert source.windows is not None
            path.write_bytes(_window_png(original, source.windows[row], settings.size))
        elif settings.pictures == "copy" or not _link(original, path):
            shutil.copyfile(original, path)
        progress(row + 1, len(names))


def _link(original: Path, path: Path) -> bool:
    """Whether a hard link could be made."""
    try:
        os.link(original.resolve(), path)
    except OSError:
        return False
    return True


def _window_png(original: Path, window: Float[np.ndarray, "3"], size: int) -> bytes:
    """A window of an image as PNG, white outside the image."""
    try:
        pixels, _ = InputImage(original).pixels()
    except UnreadableImageError as error:
        raise InputError(f"{original} cannot be read ({error}); replace it") from error
    raster, valid = resample_window(pixels, window, size)
    return png_bytes(np.where(valid[..., None], raster, np.uint8(255)))
