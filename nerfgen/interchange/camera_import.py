"""Import of cameras and masks as ``cameras.h5`` and ``masks.h5``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import sphere_window
from nerfgen.image import InputImage, UnreadableImageError, decode, digest_images, resample_window
from nerfgen.interchange import eg3d, srn, transforms, world_axes
from nerfgen.interchange.formats import FORMATS, default_front, detect_format
from nerfgen.interchange.posed_images import PosedImages, measure_images, with_status
from nerfgen.interchange.settings import ImportSettings, WorldAlignment
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_threads, silent

# Fewest cameras of an object that determine the point they look at.
_MIN_CAMERAS = 3
# A mask with a smaller foreground fraction of the window has no object.
_MIN_FOREGROUND = 0.005


class _Mask(NamedTuple):
    status: str
    mask: UInt8[np.ndarray, "size size"] | None


def import_cameras(
    source: Path,
    output: Path | None = None,
    *,
    format_name: str = "auto",
    object_class: str | ObjectClass = "",
    settings: ImportSettings = ImportSettings(),
    alignment: WorldAlignment = WorldAlignment(),
    overwrite: bool = False,
    progress: Progress = silent,
) -> storage.Record:
    """Read images with cameras and write ``cameras/1`` and, if there are masks, ``masks/1``.

    Args:
        source: a folder, a ``transforms.json`` or ``dataset.json``, or a zip with the latter.
        output: folder to write to; that of the images by default. Images of a zip are unpacked there.
        format_name: key of :data:`nerfgen.interchange.FORMATS`, or ``auto``.
        object_class: class of the objects; "" for the format's default.
        overwrite: replace existing outputs that differ.

    Returns:
        ``format``, ``class``, ``images``, ``usable``, ``instances``, ``statuses``, ``up``, ``front``, ``scale``,
        ``center``, ``distance`` (median, world units), ``masks`` (their number), ``outputs`` (their paths) and
        ``kept``.

    Raises:
        InputError: the format is unknown, or a file is invalid.
        OutputExistsError: an output exists and has other inputs or parameters.
    """
    name = _format(source, format_name)
    described = named_class(object_class or FORMATS[name].require_class())
    folder, single = _folder_and_file(name, source, output, progress)
    posed, sources = _read(name, folder, single, settings.ignore_distortion, progress)
    posed = _group_instances(posed, settings.instances)
    posed = with_status(posed, _rows_beyond_views(posed, settings.views, settings.seed), "not_chosen")
    posed, chosen = _align(posed, name, described, alignment)
    target = output or folder
    digests = digest_images(folder, posed.images)
    cameras = storage.Stage(
        target / "cameras.h5",
        "cameras/1",
        described,
        parameters={
            "format": name,
            "instances": settings.instances,
            "views": settings.views or 0,
            "seed": settings.seed if settings.views else 0,
            "ignore_distortion": settings.ignore_distortion,
            **chosen,
        },
        inputs=[
            storage.folder_record(posed.images, digests),
            storage.folder_record(sources, digest_images(folder, sources)),
        ],
    )
    windows = np.full((len(posed.images), 3), np.nan)
    rows = np.flatnonzero(posed.usable)
    windows[rows] = sphere_window(posed.intrinsics[rows], posed.cam_to_world[rows], described.reach)
    outputs = {"cameras": cameras.output}
    kept = cameras.is_current(overwrite=overwrite)
    if not kept:
        _write_cameras(cameras, posed, windows)
    num_masks = 0
    if any(posed.masks[row] for row in rows):
        files = sorted({posed.masks[row] for row in rows} - {"", *posed.images})
        masks = replace(
            cameras,
            output=target / "masks.h5",
            schema="masks/1",
            parameters={**cameras.parameters, "size": settings.mask_size},
            inputs=[*cameras.inputs, storage.folder_record(files, digest_images(folder, files))],
        )
        outputs["masks"] = masks.output
        if not masks.is_current(overwrite=overwrite):
            _write_masks(masks, folder, posed, windows, settings.mask_size, progress)
            kept = False
        with storage.reading(masks.output, "masks/1") as file:
            num_masks = int(storage.usable(storage.strings(file["status"])).sum())
    distance = np.linalg.norm(posed.cam_to_world[rows, :3, 3], axis=-1)
    return {
        "format": name,
        "class": described.name,
        "images": len(posed.images),
        "usable": len(rows),
        "instances": len({posed.instance[row] for row in rows}),
        "statuses": dict(sorted(Counter(posed.status).items())),
        **chosen,
        "distance": float(np.median(distance)) if len(rows) else None,
        "masks": num_masks,
        "outputs": {kind: str(path) for kind, path in outputs.items()},
        "kept": kept,
    }


def _format(source: Path, given: str) -> str:
    if not source.exists():
        raise InputError(
            f"{source} does not exist; give a folder, a transforms.json or dataset.json, or a zip"
        )
    if given not in ("auto", *FORMATS):
        raise InputError(
            f"`format_name`: unknown format {given!r}; choose from {', '.join(('auto', *FORMATS))}"
        )
    found = detect_format(source) if given == "auto" else given
    if not found:
        known = "; ".join(one.description for one in FORMATS.values())
        raise InputError(f"{source} has no known camera format: {known}")
    return found


def _folder_and_file(
    name: str, source: Path, output: Path | None, progress: Progress
) -> tuple[Path, Path | None]:
    """The folder of the images, unpacked if necessary, and the camera file if one was given."""
    if source.is_dir():
        return source, None
    if source.suffix.lower() == ".json":
        return source.parent, source
    if name != "eg3d":
        raise InputError(f"{source} is not a folder; unpack it first, or give the folder that contains it")
    if output is None:
        raise InputError(f"{source} is a zip; set `output` to the folder for its images")
    eg3d.unpack(source, output, progress=progress)
    return output, None


def _read(
    name: str, folder: Path, single: Path | None, ignore_distortion: bool, progress: Progress
) -> tuple[PosedImages, list[str]]:
    if name == "transforms":
        listed, sources = transforms.read(single or folder, ignore_distortion=ignore_distortion)
    else:
        listed, sources = (srn if name == "srn" else eg3d).read(folder)
    names = Counter(one.image for one in listed)
    repeated = [image for image, count in names.items() if count > 1]
    if repeated:
        raise InputError(
            f"{folder}: {repeated[0]} has {names[repeated[0]]} cameras; remove all but one of them"
        )
    return measure_images(folder, listed, progress=progress), sources


def _group_instances(posed: PosedImages, instances: str) -> PosedImages:
    if instances == "image":
        return replace(posed, instance=list(posed.images))
    if instances == "folder":
        return replace(posed, instance=[Path(image).parent.as_posix() for image in posed.images])
    return posed


def _rows_beyond_views(posed: PosedImages, views: int | None, seed: int) -> list[int]:
    """Rows that exceed ``views`` images per object. The choice depends only on the seed and the object's images."""
    if views is None:
        return []
    usable = posed.usable
    rest: list[int] = []
    for instance, rows in posed.by_instance().items():
        own = [row for row in rows if usable[row]]
        number = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big")
        order = np.random.default_rng([seed, number]).permutation(len(own))
        rest += [own[place] for place in order[views:]]
    return rest


def _align(
    posed: PosedImages, name: str, described: ObjectClass, alignment: WorldAlignment
) -> tuple[PosedImages, storage.Record]:
    """The cameras in nerfgen's world, and the transformation that was chosen."""
    rows = np.flatnonzero(posed.usable)
    estimated = FORMATS[name].up or world_axes.estimate_up_axis(posed.cam_to_world[rows])
    up = world_axes.axis_name("up", alignment.up or estimated)
    front = world_axes.axis_name("front", alignment.front or default_front(name, up))
    rotation = world_axes.axes_rotation(up, front)
    estimate_center = alignment.center is None and not FORMATS[name].centered
    moved = posed.cam_to_world.copy()
    if estimate_center:
        for own in posed.subset(rows).by_instance().values():
            if len(own) >= _MIN_CAMERAS:
                moved[rows[own], :3, 3] -= world_axes.look_at_point(moved[rows[own]])
    elif alignment.center is not None:
        moved[:, :3, 3] -= np.array(alignment.center)
    posed = replace(posed, cam_to_world=moved)
    radius = world_axes.visible_radius(posed.intrinsics[rows], posed.image_size[rows], moved[rows])
    visible = float(np.median(radius)) if len(radius) else 0.0
    scale = alignment.scale or (described.reach / visible if visible > 0 else 1.0)
    chosen = {
        "up": up,
        "front": front,
        "scale": scale,
        "center": "watched" if estimate_center else list(alignment.center or (0.0, 0.0, 0.0)),
    }
    depth = -np.einsum("ni,ni->n", moved[rows, :3, 2], moved[rows, :3, 3])
    aligned = world_axes.transform_world(posed, rotation, scale)
    return with_status(aligned, rows[depth <= 0], "looks_away"), chosen


def _write_cameras(stage: storage.Stage, posed: PosedImages, windows: Float[np.ndarray, "images 3"]) -> None:
    with stage.create() as file:
        storage.put(file, "image", posed.images)
        storage.put(file, "status", posed.status)
        storage.put(file, "image_size", posed.image_size)
        storage.put(file, "intrinsics", posed.intrinsics)
        storage.put(file, "cam_to_world", posed.cam_to_world)
        storage.put(file, "window", windows)
        storage.put(file, "instance", posed.instance)


def _write_masks(
    stage: storage.Stage,
    folder: Path,
    posed: PosedImages,
    windows: Float[np.ndarray, "images 3"],
    size: int,
    progress: Progress,
) -> None:
    """Write the masks of all images, each in its image's window.

    Args:
        folder: folder of the images and masks.
        windows: (x0, y0, side) in pixels of the images; NaN without camera.
        size: size of a mask, pixels.
    """
    usable = posed.usable
    items = [
        (folder / mask if mask else None, mask == image, tuple(window), tuple(image_size)) if use else None
        for image, mask, window, image_size, use in zip(
            posed.images, posed.masks, windows.tolist(), posed.image_size.tolist(), usable, strict=True
        )
    ]
    statuses: list[str] = []
    with stage.create() as file:
        stored = storage.allocate(file, "mask", (len(items), size, size))
        for row, found in enumerate(map_threads(partial(_read_mask, size), items, progress=progress)):
            statuses.append(found.status)
            if found.mask is not None:
                stored[row] = found.mask
        present = storage.usable(statuses)
        storage.put(file, "image", posed.images)
        storage.put(file, "status", statuses)
        storage.put(file, "image_size", posed.image_size)
        storage.put(file, "mask_window", np.where(present[:, None], windows, np.nan))


def _read_mask(size: int, item: tuple[Path | None, bool, Sequence[float], tuple[int, int]] | None) -> _Mask:
    """One mask in its image's window, from the image's alpha channel or a mask image that is white on the object."""
    if item is None:
        return _Mask("skipped", None)
    path, is_alpha, window, image_size = item
    if path is None or not path.is_file():
        return _Mask("no_mask", None)
    try:
        whole = InputImage(path).alpha if is_alpha else decode(path)[..., 0]
    except UnreadableImageError:
        return _Mask("no_mask", None)
    assert whole is not None
    # Masks may have another size than their images.
    factor = whole.shape[1] / image_size[0]
    raster, valid = resample_window(whole[..., None], [value * factor for value in window], size)
    mask = np.where(valid, raster[..., 0], 0)
    return _Mask("ok", mask) if (mask > 127).mean() >= _MIN_FOREGROUND else _Mask("no_mask", None)
