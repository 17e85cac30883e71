"""A folder of images of a procedural class, and their ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float
from PIL import Image, PngImagePlugin

from nerfgen.errors import InputError
from nerfgen.geometry import rigid, sphere_window
from nerfgen.interchange import axes_rotation, default_front
from nerfgen.interchange.srn import write_object
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.storage import Stage, allocate, atomic_path, put, remove_abandoned
from nerfgen.synth.procedural import (
    Camera,
    draw_camera,
    draw_cameras,
    make_object,
    procedural_class,
    render_object,
    world_keypoints,
)
from nerfgen.synth.settings import SynthSettings
from nerfgen.synth.shading import Rendering

# Raise when equal settings give other images or another truth.
_VERSION = 1
_MARK = ("Software", "nerfgen synth")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True)
class _Task:
    """One object to render, for a worker; ``srn`` is its folder in that layout, None for images alone."""

    kind: str
    seed: int
    index: int
    size: int
    views: int
    paths: tuple[Path, ...]
    srn: Path | None


_View = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"], Rendering]


@dataclass(frozen=True)
class _RenderedObject:
    """Intrinsics, pose and truth of each image, whose PNG is written already, and of each held-out view."""

    keypoints: Float[np.ndarray, "keypoints 3"]
    images: list[_View]
    heldout: list[_View]


def synthesize(
    kind: str,
    out: Path | str,
    settings: SynthSettings = SynthSettings(),
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Render images of a procedural class into ``out``; returns the path of its ``truth.h5``.

    Object i depends only on (seed, i), neither on the number of images nor on that of workers. An existing result of
    the same settings is kept. The SRN layout has the world of ShapeNet's objects, y up and the front to -z; the truth
    stays in nerfgen's world.

    Args:
        kind: ``heads`` or ``cars``.
        workers: processes; one per core by default.
        overwrite: replace the content of ``out``.

    Raises:
        InputError: unknown class, or ``out`` holds other images.
        OutputExistsError: ``out`` holds images of other settings.
    """
    chosen = procedural_class(kind)
    out = Path(out)
    heldout_objects = min(settings.heldout_objects, settings.num_images)
    parameters = {
        "kind": kind,
        **asdict(settings),
        "heldout_objects": heldout_objects,
        "supersample": chosen.supersample,
    }
    truth = out / "truth.h5"
    instances = [f"{index:06d}" for index in range(settings.num_images)]
    names = [
        tuple(f"{instance}/rgb/{view:06d}.png" for view in range(settings.views_per_instance))
        if settings.srn
        else (f"{instance}.png",)
        for instance in instances
    ]
    images = {name for own in names for name in own}
    stage = Stage(truth, "truth/1", chosen.object_class, parameters=parameters, version=_VERSION)
    remedy = "give `overwrite` to replace it, or choose another `out`"
    current = stage.is_current(overwrite=overwrite, remedy=remedy)
    if current and all((out / name).is_file() for name in images):
        progress(settings.num_images, settings.num_images, "kept")
        return truth
    _clear(out, truth, keep=images, overwrite=overwrite or current)
    tasks = [
        _Task(
            kind,
            settings.seed,
            index,
            settings.size,
            settings.views if index < heldout_objects else 0,
            tuple(out / name for name in own),
            out / instances[index] if settings.srn else None,
        )
        for index, own in enumerate(names)
    ]
    results = map_ordered(_render, tasks, workers=workers, preload=[__name__], batch=4, progress=progress)
    keypoint_names = list(make_object(kind, settings.seed, 0).keypoints())
    with stage.create() as file:
        _write_truth(file, results, names, keypoint_names, settings.size, settings.views, heldout_objects)
        if settings.srn:
            put(file, "instance", np.repeat(instances, settings.views_per_instance))
    return truth


def _render(task: _Task) -> _RenderedObject:
    """Render one object, write its images and return the rest."""
    kind, seed, index, size = task.kind, task.seed, task.index, task.size

    def view(camera: Camera) -> _View:
        return *camera, render_object(kind, seed, index, camera, size=size)

    images = [view(camera) for camera in draw_cameras(kind, seed, index, size, len(task.paths))]
    for path, (_, _, rendering) in zip(task.paths, images, strict=True):
        _write_png(path, rendering)
    if task.srn:
        turn = rigid(axes_rotation("+y", default_front("srn", "+y")).T, np.zeros(3))
        poses = {path.stem: turn @ pose for path, (_, pose, _) in zip(task.paths, images, strict=True)}
        write_object(task.srn, images[0][0], (size, size), poses)
    heldout = [view(draw_camera(kind, seed, index, size, number)) for number in range(1, task.views + 1)]
    keypoints = np.stack(list(world_keypoints(make_object(kind, seed, index)).values()))
    return _RenderedObject(keypoints, images, heldout)


def _write_png(path: Path, rendering: Rendering) -> None:
    # The mark distinguishes these images from a user's own, which are never replaced without `overwrite`.
    mark = PngImagePlugin.PngInfo()
    mark.add_text(*_MARK)
    with atomic_path(path, tidy=False) as temporary:
        Image.fromarray(rendering.rgb).save(temporary, format="PNG", pnginfo=mark)


def _write_truth(
    file: h5py.File,
    results: Iterator[_RenderedObject],
    names: list[tuple[str, ...]],
    keypoint_names: list[str],
    size: int,
    views: int,
    heldout_objects: int,
) -> None:
    """Write the truth object by object; only small arrays are held until the end.

    Args:
        names: of each object's images.
    """
    images = [name for own in names for name in own]
    count = len(images)
    mask = allocate(file, "mask", (count, size, size))
    depth = allocate(file, "depth", (count, size, size))
    shape = (heldout_objects, views, size, size)
    heldout_rgb = allocate(file, "heldout_rgb", (*shape, 3))
    heldout_mask = allocate(file, "heldout_mask", shape)
    heldout_depth = allocate(file, "heldout_depth", shape)
    heldout_intrinsics = np.zeros((heldout_objects, views, 3, 3))
    heldout_pose = np.zeros((heldout_objects, views, 4, 4))
    small: dict[str, list[Any]] = {"intrinsics": [], "cam_to_world": [], "keypoints": []}
    for index, result in enumerate(results):
        for intrinsics, pose, rendering in result.images:
            row = len(small["intrinsics"])
            mask[row], depth[row] = rendering.mask, rendering.depth
            small["intrinsics"].append(intrinsics)
            small["cam_to_world"].append(pose)
            small["keypoints"].append(result.keypoints)
        if result.heldout:
            matrices, poses, renderings = zip(*result.heldout, strict=True)
            heldout_intrinsics[index], heldout_pose[index] = np.stack(matrices), np.stack(poses)
            heldout_rgb[index] = np.stack([rendering.rgb for rendering in renderings])
            heldout_mask[index] = np.stack([rendering.mask for rendering in renderings])
            heldout_depth[index] = np.stack([rendering.depth for rendering in renderings])
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
    """Remove an old truth, what killed runs left, and images of this command that will not be replaced.

    Raises:
        InputError: ``out`` is a file, or holds other images and ``overwrite`` was not given.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the folder to write to")
    if not out.exists():
        return
    ours = []
    for path in sorted([*out.iterdir(), *out.glob("*/rgb/*")]):
        if path.suffix.lower() not in _IMAGE_SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        if _is_ours(path):
            ours.append(path)
        elif not overwrite:
            raise InputError(
                f"{out} holds other images ({path.name}); choose an empty folder or give `overwrite` to write there"
            )
    # First, so that an interruption never leaves it beside images it does not belong to.
    truth.unlink(missing_ok=True)
    for folder in {out, *(path.parent for path in ours)}:
        remove_abandoned(folder, "*", ".png")
    for path in ours:
        if path.relative_to(out).as_posix() not in keep:
            path.unlink()
            if path.parent.name == "rgb":
                _remove_camera(path.parent.parent, path.stem)


def _remove_camera(folder: Path, name: str) -> None:
    """Remove the pose of an image in the SRN layout and, with the object's last image, the rest of its folder."""
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
