"""A folder of photographs of a procedural class, as a photographer would leave it, and its truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float
from PIL import Image, PngImagePlugin

from nerfgen.artifact import allocate, atomic_path, create, is_current, put
from nerfgen.errors import InputError
from nerfgen.geometry import rigid, sphere_window
from nerfgen.interchange.formats import usual_front
from nerfgen.interchange.srn import write_object
from nerfgen.interchange.world import turn_to_ours
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.synth.kinds import (
    Camera,
    draw_camera,
    draw_cameras,
    kind_named,
    make_object,
    render_object,
    world_keypoints,
)
from nerfgen.synth.render import Picture

_SCHEMA = "truth/1"
_MARK = ("Software", "nerfgen synth")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True)
class _Task:
    """One object to photograph, for a worker; ``srn`` is its folder in that layout, None for pictures alone."""

    kind: str
    seed: int
    index: int
    size: int
    supersample: int
    views: int
    paths: tuple[Path, ...]
    srn: Path | None


_Seen = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"], Picture]


@dataclass(frozen=True)
class _Photographed:
    """What a worker returns: intrinsics, pose and truth of each photograph (its PNG is written already) and of each
    held-out view."""

    keypoints: Float[np.ndarray, "keypoints 3"]
    photographs: list[_Seen]
    heldout: list[_Seen]


def write_dataset(
    kind: str,
    out: Path | str,
    *,
    num_images: int = 100,
    size: int = 128,
    views: int = 4,
    heldout_objects: int = 32,
    seed: int = 0,
    supersample: int = 0,
    srn: bool = False,
    views_per_instance: int = 1,
    workers: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Photograph ``num_images`` objects into ``out``; returns the path of its ``truth.h5``.

    What object i looks like depends only on (seed, i): more images extend fewer, and the number of
    workers changes nothing. An existing result of the same parameters is kept.

    Args:
        kind: ``heads`` or ``cars``.
        size: width and height of the pictures, pixels.
        views: held-out views of each of the first ``heldout_objects`` objects, stored in the truth only.
        supersample: rays a pixel along each side; 0 for the class's default.
        srn: write the SRN layout, a folder for each object with its pictures and cameras, as ShapeNet's objects have
            it: y up, the front to -z. The truth stays in our world.
        views_per_instance: photographs of each object, all with one lens; more than one needs ``srn``.
        workers: processes; 0 for one a core.
        overwrite: replace what ``out`` holds.

    Raises:
        InputError: a parameter is out of range, or ``out`` holds other images.
        OutputExistsError: ``out`` holds a dataset of other parameters.
    """
    chosen = kind_named(kind)
    for name, value, least in (
        ("number of images", num_images, 1),
        ("size", size, 16),
        ("number of views", views, 0),
        ("number of held-out objects", heldout_objects, 0),
        ("supersampling", supersample, 0),
        ("number of photographs of an object", views_per_instance, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"the {name} is {value}, but must be at least {least}")
    if views_per_instance > 1 and not srn:
        raise InputError("several photographs of an object need the SRN layout, which says whose they are")
    out = Path(out)
    parameters: dict[str, Any] = {
        "kind": kind,
        "num_images": num_images,
        "size": size,
        "views": views,
        "heldout_objects": min(heldout_objects, num_images),
        "seed": seed,
        "supersample": supersample or chosen.supersample,
        "srn": srn,
        "views_per_instance": views_per_instance,
    }
    truth = out / "truth.h5"
    instances = [f"{index:06d}" for index in range(num_images)]
    names = [
        tuple(f"{instance}/rgb/{view:06d}.png" for view in range(views_per_instance))
        if srn
        else (f"{instance}.png",)
        for instance in instances
    ]
    pictures = {name for own in names for name in own}
    current = is_current(
        truth,
        _SCHEMA,
        object_class=chosen.object_class,
        parameters=parameters,
        inputs=[],
        overwrite=overwrite,
    )
    if current and all((out / name).is_file() for name in pictures):
        progress(num_images, num_images, "kept")
        return truth
    _clear(out, truth, keep=pictures, overwrite=overwrite or current)
    tasks = [
        _Task(
            kind,
            seed,
            index,
            size,
            parameters["supersample"],
            views if index < parameters["heldout_objects"] else 0,
            tuple(out / name for name in own),
            out / instances[index] if srn else None,
        )
        for index, own in enumerate(names)
    ]
    results = map_ordered(
        _photograph, tasks, workers=workers, preload=["nerfgen.synth.dataset"], batch=4, progress=progress
    )
    keypoint_names = list(make_object(kind, seed, 0).keypoints())
    with create(truth, _SCHEMA, object_class=chosen.object_class, parameters=parameters, inputs=[]) as file:
        _fill(file, results, names, keypoint_names, size, views, parameters["heldout_objects"])
        if srn:
            put(file, "instance", np.repeat(instances, views_per_instance))
    return truth


def _photograph(task: _Task) -> _Photographed:
    """Render one object, write its photographs and return the rest."""
    kind, seed, index, size = task.kind, task.seed, task.index, task.size

    def seen(camera: Camera) -> _Seen:
        return *camera, render_object(kind, seed, index, camera, size=size, supersample=task.supersample)

    photographs = [seen(camera) for camera in draw_cameras(kind, seed, index, size, len(task.paths))]
    for path, (_, _, picture) in zip(task.paths, photographs, strict=True):
        _write_png(path, picture)
    if task.srn:
        turn = rigid(turn_to_ours("+y", usual_front("srn", "+y")).T, np.zeros(3))
        poses = {path.stem: turn @ pose for path, (_, pose, _) in zip(task.paths, photographs, strict=True)}
        write_object(task.srn, photographs[0][0], (size, size), poses)
    heldout = [seen(draw_camera(kind, seed, index, size, view)) for view in range(1, task.views + 1)]
    keypoints = np.stack(list(world_keypoints(make_object(kind, seed, index)).values()))
    return _Photographed(keypoints, photographs, heldout)


def _write_png(path: Path, picture: Picture) -> None:
    # The mark tells our pictures from a user's own, which are never replaced unasked.
    mark = PngImagePlugin.PngInfo()
    mark.add_text(*_MARK)
    with atomic_path(path) as temporary:
        Image.fromarray(picture.rgb).save(temporary, format="PNG", pnginfo=mark)


def _fill(
    file: h5py.File,
    results: Iterator[_Photographed],
    names: list[tuple[str, ...]],
    keypoint_names: list[str],
    size: int,
    views: int,
    heldout_objects: int,
) -> None:
    """Write the truth, object by object: only small arrays are held until the end.

    Args:
        names: of each object's photographs.
    """
    images = [name for own in names for name in own]
    count = len(images)
    mask = allocate(file, "mask", (count, size, size))
    depth = allocate(file, "depth", (count, size, size))
    shape = (heldout_objects, views, size, size)
    heldout_rgb = allocate(file, "heldout_rgb", (*shape, 3))
    heldout_mask, heldout_depth = (
        allocate(file, "heldout_mask", shape),
        allocate(file, "heldout_depth", shape),
    )
    heldout_intrinsics = np.zeros((heldout_objects, views, 3, 3))
    heldout_pose = np.zeros((heldout_objects, views, 4, 4))
    small: dict[str, list[Any]] = {"intrinsics": [], "cam_to_world": [], "keypoints": []}
    for index, result in enumerate(results):
        for intrinsics, pose, picture in result.photographs:
            row = len(small["intrinsics"])
            mask[row], depth[row] = picture.mask, picture.depth
            small["intrinsics"].append(intrinsics)
            small["cam_to_world"].append(pose)
            small["keypoints"].append(result.keypoints)
        if result.heldout:
            matrices, poses, pictures = zip(*result.heldout, strict=True)
            heldout_intrinsics[index], heldout_pose[index] = np.stack(matrices), np.stack(poses)
            heldout_rgb[index] = np.stack([picture.rgb for picture in pictures])
            heldout_mask[index] = np.stack([picture.mask for picture in pictures])
            heldout_depth[index] = np.stack([picture.depth for picture in pictures])
    for name, values in small.items():
        put(file, name, np.stack(values))
    put(file, "image", images)
    put(file, "status", ["ok"] * count)
    put(file, "image_size", np.full((count, 2), size))
    put(file, "window", sphere_window(np.stack(small["intrinsics"]), np.stack(small["cam_to_world"])))
    put(file, "mask_window", np.tile([0.0, 0.0, float(size)], (count, 1)))
    put(file, "keypoint_names", keypoint_names)
    put(file, "heldout_intrinsics", heldout_intrinsics)
    put(file, "heldout_cam_to_world", heldout_pose)


def _clear(out: Path, truth: Path, *, keep: set[str], overwrite: bool) -> None:
    """Make room in ``out``: remove an old truth and our own pictures that won't be replaced.

    Raises:
        InputError: it is a file, or holds pictures of others and ``overwrite`` wasn't given.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the folder to write to")
    if not out.exists():
        return
    ours = []
    for path in sorted([*out.iterdir(), *out.glob("*/rgb/*")]):
        if path.suffix.lower() not in _IMAGE_SUFFIXES or not path.is_file():
            continue
        if _is_ours(path):
            ours.append(path)
        elif not overwrite:
            raise InputError(
                f"{out} holds other images ({path.name}); choose an empty folder "
                "or give --overwrite to write there"
            )
    # First, so that an interruption never leaves it beside pictures it doesn't belong to.
    truth.unlink(missing_ok=True)
    for path in ours:
        if path.relative_to(out).as_posix() not in keep:
            path.unlink()
            if path.parent.name == "rgb":
                _remove_camera(path.parent.parent, path.stem)


def _remove_camera(folder: Path, name: str) -> None:
    """Remove the pose of a picture of an object in the SRN layout and, with the last picture, what is left of it."""
    (folder / "pose" / f"{name}.txt").unlink(missing_ok=True)
    if not any((folder / "rgb").iterdir()):
        (folder / "intrinsics.txt").unlink(missing_ok=True)
        for empty in (folder / "rgb", folder / "pose", folder):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except OSError:
        return False
