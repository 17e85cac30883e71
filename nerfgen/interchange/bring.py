"""Cameras of others into our files: cameras.h5 and, where there are masks, masks.h5."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.geometry import sphere_window
from nerfgen.interchange import eg3d, srn, transforms, world
from nerfgen.interchange.formats import FORMATS, told, usual_front
from nerfgen.interchange.masks import write_masks
from nerfgen.interchange.posed import PosedImages, gathered, with_status
from nerfgen.objectclass import ObjectClass, object_class
from nerfgen.parallel import Progress, silent
from nerfgen.photo import digest_images

# So many cameras of an object say where it is.
_WATCHING = 3


@dataclass(frozen=True)
class Placing:
    """How the world of the cameras becomes ours.

    Attributes:
        up, front: axes such as ``+y``; "" for what the cameras and the format say.
        scale: factor of lengths; 0 for the one that lets the sphere of radius ``reach`` of the class just fit the
            median picture.
        center: the point that becomes the origin; None for the format's: the origin, or the point that the cameras
            of an object watch, where there are three or more.
    """

    up: str = ""
    front: str = ""
    scale: float = 0.0
    center: tuple[float, float, float] | None = None


def bring(
    source: Path,
    output: Path | None = None,
    *,
    format_name: str = "auto",
    class_name: str | ObjectClass = "",
    instances: Literal["auto", "image", "folder"] = "auto",
    views: int = 0,
    placing: Placing | None = None,
    ignore_distortion: bool = False,
    mask_size: int = 256,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Read images with cameras and write ``cameras/1`` and, where there are masks, ``masks/1``.

    Args:
        source: a folder, a ``transforms.json`` or ``dataset.json``, or a zip with the latter.
        output: folder to write to; that of the images by default. A zip's images are unpacked there.
        format_name: key of :data:`nerfgen.interchange.FORMATS`, or ``auto``.
        class_name: class of the objects; "" for the format's.
        instances: which images show one object: as the format says, each image its own, or those of a folder.
        views: use so many images of an object, drawn at random; 0 for all.
        ignore_distortion: take lenses that distort for pinholes.
        mask_size: pixels along either side of a mask.
        overwrite: replace existing outputs. Without it, those from the same inputs are kept.

    Returns:
        ``format``, ``class``, ``images``, ``usable``, ``instances``, ``statuses``, ``up``, ``front``, ``scale``,
        ``center``, ``distance`` (median, world units), ``masks`` (how many), ``outputs`` (path of each) and ``kept``.

    Raises:
        InputError: no format is recognised, or a file has other content.
        OutputExistsError: an output exists and came from other inputs or parameters.
    """
    placing = placing or Placing()
    name = _format(source, format_name)
    described = object_class(class_name or FORMATS[name].require_class())
    folder, single = _unpacked(source, output, progress)
    posed, sources = _read(name, folder, single, ignore_distortion, progress)
    posed = _grouped(posed, instances)
    posed = with_status(posed, _not_chosen(posed, views, seed), "not_chosen")
    posed, chosen = _placed(posed, name, described, placing)
    target = output or folder
    digests = digest_images(folder, posed.images)
    inputs = [
        artifact.folder_record(posed.images, digests),
        artifact.folder_record(sources, digest_images(folder, sources)),
    ]
    parameters = {
        "format": name,
        "instances": instances,
        "views": views,
        "seed": seed if views else 0,
        "ignore_distortion": ignore_distortion,
        **chosen,
    }
    about: artifact.About = {"object_class": described, "parameters": parameters, "inputs": inputs}
    windows = np.full((len(posed.images), 3), np.nan)
    rows = np.flatnonzero(posed.usable)
    windows[rows] = sphere_window(posed.intrinsics[rows], posed.cam_to_world[rows], described.reach)
    outputs = {"cameras": target / "cameras.h5"}
    kept = artifact.is_current(outputs["cameras"], "cameras/1", **about, overwrite=overwrite)
    if not kept:
        _write_cameras(outputs["cameras"], about, posed, windows)
    masked = 0
    if any(posed.masks[row] for row in rows):
        outputs["masks"] = target / "masks.h5"
        sheets = sorted({posed.masks[row] for row in rows} - {"", *posed.images})
        about["parameters"] = {**parameters, "size": mask_size}
        about["inputs"] = [*inputs, artifact.folder_record(sheets, digest_images(folder, sheets))]
        if not artifact.is_current(outputs["masks"], "masks/1", **about, overwrite=overwrite):
            write_masks(outputs["masks"], about, folder, posed, windows, mask_size, progress)
            kept = False
        with artifact.reading(outputs["masks"], "masks/1") as file:
            masked = int(artifact.usable(artifact.strings(file["status"])).sum())
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
        "masks": masked,
        "outputs": {kind: str(path) for kind, path in outputs.items()},
        "kept": kept,
    }


def _format(source: Path, given: str) -> str:
    if not source.exists():
        raise InputError(
            f"{source} does not exist; give a folder, a transforms.json or dataset.json, or a zip"
        )
    if given not in ("auto", *FORMATS):
        raise InputError(f"there is no format {given}; choose auto, {', '.join(FORMATS)}")
    found = told(source) if given == "auto" else given
    if not found:
        known = "; ".join(one.description for one in FORMATS.values())
        raise InputError(f"{source} is in no format that is known here: {known}")
    return found


def _unpacked(source: Path, output: Path | None, progress: Progress) -> tuple[Path, Path | None]:
    """The folder of the images, and the one file that says their cameras, if it was given."""
    if source.is_dir():
        return source, None
    if source.suffix.lower() == ".json":
        return source.parent, source
    if output is None:
        raise InputError(f"{source} is packed; give -o FOLDER to unpack its images to")
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
    twice = [image for image, count in names.items() if count > 1]
    if twice:
        raise InputError(f"{folder}: {twice[0]} has {names[twice[0]]} cameras; leave one of them")
    return gathered(folder, listed, progress=progress), sources


def _grouped(posed: PosedImages, instances: str) -> PosedImages:
    if instances == "image":
        return replace(posed, instance=list(posed.images))
    if instances == "folder":
        return replace(posed, instance=[Path(image).parent.as_posix() for image in posed.images])
    return posed


def _not_chosen(posed: PosedImages, views: int, seed: int) -> list[int]:
    """The rows beyond ``views`` of each object; which these are depends on the seed and its own images only."""
    if not views:
        return []
    usable = posed.usable
    rest: list[int] = []
    for instance, rows in posed.by_instance().items():
        own = [row for row in rows if usable[row]]
        number = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big")
        order = np.random.default_rng([seed, number]).permutation(len(own))
        rest += [own[place] for place in order[views:]]
    return rest


def _placed(
    posed: PosedImages, name: str, described: ObjectClass, placing: Placing
) -> tuple[PosedImages, dict[str, Any]]:
    """The cameras in our world, and what was chosen for that."""
    rows = np.flatnonzero(posed.usable)
    known = FORMATS[name].up or world.upward_axis(posed.cam_to_world[rows])
    up = world.axis_name("--up", placing.up or known)
    front = world.axis_name("--front", placing.front or usual_front(name, up))
    turn = world.turn_to_ours(up, front)
    watched = placing.center is None and not FORMATS[name].aims
    moved = posed.cam_to_world.copy()
    if watched:
        for own in posed.rows(rows).by_instance().values():
            if len(own) >= _WATCHING:
                moved[rows[own], :3, 3] -= world.watched_point(moved[rows[own]])
    elif placing.center is not None:
        moved[:, :3, 3] -= np.array(placing.center)
    posed = replace(posed, cam_to_world=moved)
    radius = world.shown_radius(posed.intrinsics[rows], posed.image_size[rows], moved[rows])
    shown = float(np.median(radius)) if len(radius) else 0.0
    scale = placing.scale or (described.reach / shown if shown > 0 else 1.0)
    chosen = {
        "up": up,
        "front": front,
        "scale": scale,
        "center": "watched" if watched else list(placing.center or (0.0, 0.0, 0.0)),
    }
    depth = -np.einsum("ni,ni->n", moved[rows, :3, 2], moved[rows, :3, 3])
    return with_status(world.placed(posed, turn, scale), rows[depth <= 0], "looks_away"), chosen


def _write_cameras(
    path: Path, about: artifact.About, posed: PosedImages, windows: Float[np.ndarray, "images 3"]
) -> None:
    with artifact.create(path, "cameras/1", **about) as file:
        artifact.put(file, "image", posed.images)
        artifact.put(file, "status", posed.status)
        artifact.put(file, "image_size", posed.image_size)
        artifact.put(file, "intrinsics", posed.intrinsics)
        artifact.put(file, "cam_to_world", posed.cam_to_world)
        artifact.put(file, "window", windows)
        artifact.put(file, "instance", posed.instance)
