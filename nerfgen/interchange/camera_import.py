"""Import of cameras and masks as ``cameras.h5`` and ``masks.h5``."""

from __future__ import annotations

import copy
import hashlib
import os
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
from nerfgen.image import InputImage, UnreadableImageError, digest_images, resample_window
from nerfgen.interchange import eg3d, srn, transforms, world_axes
from nerfgen.interchange.entries import LINKS_REMEDY
from nerfgen.interchange.formats import FORMATS, default_front, detect_format
from nerfgen.interchange.posed_images import ListedImage, PosedImages, measure_images, with_status
from nerfgen.interchange.settings import FARTHEST, ImportSettings, WorldAlignment
from nerfgen.mask import read_mask
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.untrusted import is_inside, printable

# Fewest cameras of an object that determine the point they look at.
_MIN_CAMERAS = 3
# A mask with a smaller foreground fraction of the window has no object.
_MIN_FOREGROUND = 0.005
# Smallest angle between what is up for the cameras of a scene and the axis that is, degrees.
_SMALLEST_TILT = 10.0
# Largest ratio between the scales of scenes that share a unit.
_LARGEST_SPREAD = 1.5
# Least depth of the origin, in units of its distance.
_LEAST_DEPTH = 1e-6
# Version of the import's meaning, see :class:`nerfgen.storage.Stage`.
_VERSION = 2
_REMEDIES = {
    "absent": "correct the names, or give the folder that contains the images",
    "bad_name": "rename the images",
    "unreadable": "replace the images",
    "outside": LINKS_REMEDY,
    "no_camera": "correct the cameras (in Blender, apply their scale)",
    "wrong_shape": "give the images that the cameras were computed for",
    "looks_away": "set `center` to the point that the cameras look at",
}


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
        ``center``, ``distance`` (median, world units), ``masks`` (their number), ``notes`` (lines for people),
        ``outputs`` (their paths) and ``kept``. ``scale`` is "own" where each scene has one; ``tilt`` is present where a
        world's up was none of its axes: the largest angle between them, degrees.

    Raises:
        InputError: the format is unknown, a file is invalid, or no image has a usable camera.
        OutputExistsError: an output exists and has other inputs or parameters.
    """
    name = _format(source, format_name)
    described = named_class(object_class or FORMATS[name].require_class())
    folder, single = _folder_and_file(name, source, output, progress)
    listed, sources = _read(name, folder, single, settings.ignore_distortion)
    posed, problems = measure_images(folder, listed, progress=progress)
    posed = _group_instances(posed, settings.instances)
    posed = with_status(posed, _rows_beyond_views(posed, settings.views, settings.seed), "not_chosen")
    posed, chosen, notes = _align(posed, [one.world for one in listed], name, described, alignment)
    _check_usable(folder / sources[0] if len(sources) == 1 else source, posed, problems)
    target = output or folder
    digests = _digests(folder, posed.images)
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
            storage.folder_record(sources, _digests(folder, sources)),
        ],
        version=_VERSION,
    )
    windows = np.full((len(posed.images), 3), np.nan)
    rows = np.flatnonzero(posed.usable)
    windows[rows] = sphere_window(posed.intrinsics[rows], posed.cam_to_world[rows], described.reach)
    outputs = {"cameras": cameras.output}
    kept = cameras.is_current(overwrite=overwrite)
    if not kept:
        _write_cameras(cameras, posed, windows, problems, digests)
    num_masks = 0
    if any(posed.masks[row] for row in rows):
        files = sorted({posed.masks[row] for row in rows} - {"", *posed.images})
        masks = replace(
            cameras,
            output=target / "masks.h5",
            schema="masks/1",
            parameters={**cameras.parameters, "size": settings.mask_size},
            inputs=[*cameras.inputs, storage.folder_record(files, _digests(folder, files))],
        )
        outputs["masks"] = masks.output
        if not masks.is_current(overwrite=overwrite):
            _write_masks(masks, folder, posed, windows, digests, settings.mask_size, progress)
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
        "distance": float(np.median(distance)),
        "masks": num_masks,
        "notes": notes + _problem_notes(posed, problems),
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
    name: str, folder: Path, single: Path | None, ignore_distortion: bool
) -> tuple[list[ListedImage], list[str]]:
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
    return listed, sources


def _check_usable(source: Path, posed: PosedImages, problems: Sequence[str]) -> None:
    """Raise :class:`InputError` with the commonest reason if no image is usable."""
    if posed.usable.any():
        return
    status, count = Counter(posed.status).most_common(1)[0]
    row = posed.status.index(status)
    raise InputError(
        f"{source}: none of its {len(posed.images)} images is usable; {count} {status}, such as {posed.images[row]}: "
        f"{problems[row] or storage.STATUSES[status]}; {_REMEDIES.get(status, 'correct its cameras')}"
    )


def _problem_notes(posed: PosedImages, problems: Sequence[str]) -> list[str]:
    """An example of each status that has a reason of its own."""
    first: dict[str, str] = {}
    for image, status, problem in zip(posed.images, posed.status, problems, strict=True):
        if problem:
            first.setdefault(status, f"{status}: {printable(image)}: {problem}")
    return list(first.values())


def _digests(folder: Path, names: Sequence[str]) -> list[tuple[int, str]]:
    """As :func:`digest_images`, without reading what is no file or leads out of the folder."""
    return digest_images(
        folder,
        [name if os.path.isfile(folder / name) and is_inside(folder, name) else "" for name in names],
    )


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
    posed: PosedImages,
    worlds: Sequence[str],
    name: str,
    described: ObjectClass,
    alignment: WorldAlignment,
) -> tuple[PosedImages, storage.Record, list[str]]:
    """The cameras in nerfgen's world, the transformation that was chosen, and notes on it.

    Args:
        worlds: name of each image's world.
    """
    rows = np.flatnonzero(posed.usable)
    by_world: dict[str, list[int]] = {}
    for row in rows.tolist():
        by_world.setdefault(worlds[row], []).append(row)
    # Formats without conventions for up and origin have none for their scenes' units either.
    is_free = not FORMATS[name].centered
    estimates = {world: world_axes.estimate_up(posed.cam_to_world[own]) for world, own in by_world.items()}
    votes: Counter[str] = Counter()
    for world, own in by_world.items():
        votes[world_axes.nearest_axis(estimates[world].direction)] += len(own)
    estimated = FORMATS[name].up or max(votes, key=lambda axis: votes[axis], default="+y")
    up = world_axes.axis_name("up", alignment.up or estimated)
    front = world_axes.axis_name("front", alignment.front or default_front(name, up))
    rotation = np.tile(world_axes.axes_rotation(up, front), (len(worlds), 1, 1))
    notes: list[str] = []
    tilt = 0.0
    if alignment.up is None and not FORMATS[name].up:
        if not all(estimate.is_certain for estimate in estimates.values()):
            notes.append(f"the cameras do not show which way is up; {up} is a guess, which `up` corrects")
        for world, own in by_world.items():
            angle = world_axes.degrees_between(estimates[world].direction, world_axes.AXES[up])
            if is_free and estimates[world].is_measured and angle > _SMALLEST_TILT:
                leveled = world_axes.leveling_rotation(estimates[world].direction, up)
                rotation[own] = rotation[own] @ leveled
                tilt = max(tilt, angle)
    estimate_center = alignment.center is None and is_free
    moved = posed.cam_to_world.copy()
    if estimate_center:
        for own in posed.subset(rows).by_instance().values():
            if len(own) >= _MIN_CAMERAS:
                moved[rows[own], :3, 3] -= world_axes.look_at_point(moved[rows[own]])
    elif alignment.center is not None:
        moved[:, :3, 3] -= np.array(alignment.center)
    posed = replace(posed, cam_to_world=moved)
    visible = np.ones(len(worlds))
    visible[rows] = world_axes.visible_radius(posed.intrinsics[rows], posed.image_size[rows], moved[rows])
    scale = np.full(len(worlds), alignment.scale or _scale(visible[rows], described))
    own_scales = {
        world: _scale(visible[own], described) for world, own in by_world.items() if len(own) >= _MIN_CAMERAS
    }
    spread = max(own_scales.values(), default=1.0) / min(own_scales.values(), default=1.0)
    has_own_scales = is_free and alignment.scale is None and spread > _LARGEST_SPREAD
    if has_own_scales:
        for world, factor in own_scales.items():
            scale[by_world[world]] = factor
        notes.append(
            f"the units of its scenes differ by a factor of up to {spread:.3g}: each scene has its own scale; "
            "`scale` sets one for all"
        )
    if tilt:
        notes.append(
            f"worlds tilted by up to {tilt:.0f} degrees against {up} were leveled; `up` prevents that"
        )
    chosen: storage.Record = {
        "up": up,
        "front": front,
        "scale": "own" if has_own_scales else float(scale[0]),
        "center": "watched" if estimate_center else list(alignment.center or (0.0, 0.0, 0.0)),
    }
    if tilt:
        chosen["tilt"] = tilt
    depth = -np.einsum("ni,ni->n", moved[rows, :3, 2], moved[rows, :3, 3])
    # Within rounding of a right angle, the origin is projected to nowhere.
    away = depth <= _LEAST_DEPTH * np.linalg.norm(moved[rows, :3, 3], axis=-1)
    aligned = world_axes.transform_world(posed, rotation, scale)
    return with_status(aligned, rows[away], "looks_away"), chosen, notes


def _scale(visible: Float[np.ndarray, " images"], described: ObjectClass) -> float:
    """Factor that makes the median of visible radii the reach of the class; 1 if it is 0."""
    radius = float(np.median(visible)) if len(visible) else 0.0
    return described.reach / radius if radius > 1 / FARTHEST else 1.0


def _write_cameras(
    stage: storage.Stage,
    posed: PosedImages,
    windows: Float[np.ndarray, "images 3"],
    problems: Sequence[str],
    digests: Sequence[storage.Digest],
) -> None:
    with stage.create() as file:
        storage.put(file, "image", posed.images)
        storage.put(file, "status", posed.status)
        storage.put(file, "reason", problems)
        storage.put(file, "image_sha256", [sha256 for _, sha256 in digests])
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
    digests: Sequence[storage.Digest],
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
        (InputImage(mask, folder) if mask else None, mask == image, tuple(window), tuple(image_size))
        if use
        else None
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
        storage.put(file, "image_sha256", [sha256 for _, sha256 in digests])
        storage.put(file, "image_size", posed.image_size)
        storage.put(file, "mask_window", np.where(present[:, None], windows, np.nan))


def _read_mask(
    size: int, item: tuple[InputImage | None, bool, Sequence[float], tuple[int, int]] | None
) -> _Mask:
    """One mask in its image's window, from the image's alpha channel or a mask image that is white on the object."""
    if item is None:
        return _Mask("skipped", None)
    file, is_alpha, window, image_size = item
    if file is None:
        return _Mask("no_mask", None)
    try:
        # A copy: the decoded image is released with it.
        opened = copy.copy(file)
        whole = opened.alpha if is_alpha else read_mask(opened)
    except UnreadableImageError:
        return _Mask("no_mask", None)
    assert whole is not None
    # Masks may have another size than their images.
    factor = whole.shape[1] / image_size[0]
    raster, valid = resample_window(whole[..., None], [value * factor for value in window], size)
    mask = np.where(valid, raster[..., 0], 0)
    return _Mask("ok", mask) if (mask > 127).mean() >= _MIN_FOREGROUND else _Mask("no_mask", None)
