"""A folder of images of a procedural class, and their ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.geometry import rigid, sphere_window
from nerfgen.image import digest_images, save_image
from nerfgen.interchange import axes_rotation, default_front
from nerfgen.interchange.srn import write_object
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.storage import Digest, Row, Stage, allocate, put, remove_abandoned, writing
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
    """One object to render, for a worker.

    Attributes:
        views: number of held-out views.
        out: folder of all objects.
        names: of its images.
        srn: its folder in that layout; None for images alone.
    """

    kind: str
    seed: int
    index: int
    size: int
    views: int
    out: Path
    names: tuple[str, ...]
    srn: str | None

    @property
    def files(self) -> list[str]:
        """Everything that is written for the object."""
        if self.srn is None:
            return list(self.names)
        poses = [f"{self.srn}/pose/{Path(name).stem}.txt" for name in self.names]
        return [*self.names, f"{self.srn}/intrinsics.txt", *poses]


_View = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"], Rendering]


def synthesize(
    kind: str,
    out: Path | str,
    settings: SynthSettings = SynthSettings(),
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> Path:
    """Render images of a procedural class into ``out``; returns the path of its ``truth.h5``.

    Object i depends only on (seed, i), neither on the number of images nor on that of workers. An existing result of
    the same settings is kept. A killed or interrupted run is continued: finished objects are kept in a hidden journal
    beside ``truth.h5``. The SRN layout has the world of ShapeNet's objects, y up and the front to -z; the truth
    stays in nerfgen's world.

    Args:
        kind: ``heads`` or ``cars``.
        workers: processes; one per core by default.
        overwrite: replace the content of ``out``.
        warn: called with one line where an earlier run is continued.

    Raises:
        InputError: unknown class, or ``out`` holds other images.
        OutputExistsError: ``out`` holds images of other settings.
    """
    chosen = procedural_class(kind)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the folder to write to")
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
    with stage.claimed():
        _clear(out, truth, keep=images, overwrite=overwrite or current)
    tasks = [
        _Task(
            kind,
            settings.seed,
            index,
            settings.size,
            settings.views if index < heldout_objects else 0,
            out,
            own,
            instances[index] if settings.srn else None,
        )
        for index, own in enumerate(names)
    ]
    of_instance = dict(zip(instances, tasks, strict=True))

    def render(indices: Sequence[int]) -> Iterator[tuple[Row, Digest]]:
        chosen = [tasks[index] for index in indices]
        return map_ordered(_render, chosen, workers=workers, preload=[__name__], batch=4, progress=progress)

    def digests(chosen: Sequence[str]) -> list[Digest]:
        return [_digest(of_instance[instance]) for instance in chosen]

    keypoint_names = list(make_object(kind, settings.seed, 0).keypoints())
    with stage.journal() as journal, stage.create() as file:
        if journal:
            warn(f"{len(journal)} objects were finished by an earlier run, which is continued")
        rows = (row for row, _ in journal.rows(instances, digests, render))
        _write_truth(file, rows, names, keypoint_names, settings.size, settings.views, heldout_objects)
        if settings.srn:
            put(file, "instance", np.repeat(instances, settings.views_per_instance))
    return truth


def _render(task: _Task) -> tuple[Row, Digest]:
    """Render one object and write its images; gives what ``truth.h5`` needs, and the digest of its files."""
    kind, seed, index, size = task.kind, task.seed, task.index, task.size

    def view(camera: Camera) -> _View:
        return *camera, render_object(kind, seed, index, camera, size=size)

    images = [view(camera) for camera in draw_cameras(kind, seed, index, size, len(task.names))]
    for name, (_, _, rendering) in zip(task.names, images, strict=True):
        # The mark distinguishes these images from a user's own, which are never replaced without `overwrite`.
        save_image(task.out / name, rendering.rgb, text=dict([_MARK]), tidy=False)
    if task.srn:
        turn = rigid(axes_rotation("+y", default_front("srn", "+y")).T, np.zeros(3))
        poses = {Path(name).stem: turn @ pose for name, (_, pose, _) in zip(task.names, images, strict=True)}
        with writing(task.out / task.srn):
            write_object(task.out / task.srn, images[0][0], (size, size), poses)
    heldout = [view(draw_camera(kind, seed, index, size, number)) for number in range(1, task.views + 1)]
    row: dict[str, Any] = _truth_of(images)
    row |= {f"heldout_{name}": values for name, values in _truth_of(heldout).items()}
    if heldout:
        row["heldout_rgb"] = np.stack([rendering.rgb for *_, rendering in heldout])
    row["keypoints"] = np.stack(list(world_keypoints(make_object(kind, seed, index)).values()))
    return row, _digest(task)


def _truth_of(views: Sequence[_View]) -> dict[str, np.ndarray]:
    """Cameras, masks and depths of views; nothing for no views."""
    if not views:
        return {}
    intrinsics, poses, renderings = zip(*views, strict=True)
    return {
        "intrinsics": np.stack(intrinsics),
        "cam_to_world": np.stack(poses),
        "mask": np.stack([rendering.mask for rendering in renderings]),
        "depth": np.stack([rendering.depth for rendering in renderings]),
    }


def _digest(task: _Task) -> Digest:
    """Size and digest of everything that is written for an object; of missing files too, which match no others."""
    sizes, sums = zip(*digest_images(task.out, task.files), strict=True)
    return sum(sizes), hashlib.sha256("".join(sums).encode()).hexdigest()


def _write_truth(
    file: h5py.File,
    rows: Iterator[Row],
    names: list[tuple[str, ...]],
    keypoint_names: list[str],
    size: int,
    views: int,
    heldout_objects: int,
) -> None:
    """Write the truth object by object; only small arrays are held until the end.

    Args:
        rows: of each object, as :func:`_render` gives them.
        names: of each object's images.
    """
    images = [name for own in names for name in own]
    count = len(images)
    truth = {name: allocate(file, name, (count, size, size)) for name in ("mask", "depth")}
    shape = (heldout_objects, views, size, size)
    heldout = {"rgb": allocate(file, "heldout_rgb", (*shape, 3))}
    heldout |= {name: allocate(file, f"heldout_{name}", shape) for name in ("mask", "depth")}
    heldout_cameras = {
        "intrinsics": np.zeros((heldout_objects, views, 3, 3)),
        "cam_to_world": np.zeros((heldout_objects, views, 4, 4)),
    }
    small: dict[str, list[Any]] = {"intrinsics": [], "cam_to_world": [], "keypoints": []}
    for index, (own, row) in enumerate(zip(names, rows, strict=True)):
        first = len(small["intrinsics"])
        for place in range(len(own)):
            for name, dataset in truth.items():
                dataset[first + place] = row[name][place]
            small["keypoints"].append(row["keypoints"])
        small["intrinsics"] += list(row["intrinsics"])
        small["cam_to_world"] += list(row["cam_to_world"])
        if index < heldout_objects and views:
            for name, values in (heldout | heldout_cameras).items():
                values[index] = row[f"heldout_{name}"]
    # Contiguous, however the parts lie in memory: the rounding of what follows depends on it.
    columns = {name: np.ascontiguousarray(np.stack(listed)) for name, listed in small.items()}
    for name, values in columns.items():
        put(file, name, values)
    put(file, "image", images)
    put(file, "status", ["ok"] * count)
    put(file, "image_size", np.full((count, 2), size))
    put(file, "window", sphere_window(columns["intrinsics"], columns["cam_to_world"]))
    put(file, "mask_window", np.tile([0.0, 0.0, float(size)], (count, 1)))
    put(file, "keypoint_names", keypoint_names)
    for name, values in heldout_cameras.items():
        put(file, f"heldout_{name}", values)


def _clear(out: Path, truth: Path, *, keep: set[str], overwrite: bool) -> None:
    """Remove an old truth, what killed runs left, and images of this command that will not be replaced.

    Raises:
        InputError: ``out`` holds other images and ``overwrite`` was not given.
    """
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
    for folder in (out, *out.glob("*/rgb")):
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
