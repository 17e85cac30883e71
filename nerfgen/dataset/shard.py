"""One shard of a dataset: rendered views as PNG files, with cameras, masks, landmarks and identities."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.dataset.plan import Plan, cameras_at, draw_poses, view_name
from nerfgen.geometry import Cameras, project
from nerfgen.image import DEPTH_TEXT, depth_levels, png_bytes
from nerfgen.interchange import transforms
from nerfgen.model import Drawn, Model, Neighbours
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import core_count
from nerfgen.render import ObjectRenderer, Views, render_views, to_uint8

# Farther than this from a canonical keypoint, world units, the ray has missed the part that the point lies on.
_FARTHEST = 0.3
_SAMPLES = 32


def surface_landmarks(
    model: Model, latent: Float[np.ndarray, "latent"], canonical: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "landmarks 3"]:
    """The class's canonical landmarks moved to an object's surface, world units.

    Each point moves along its ray from the frontal camera to the surface; without a surface nearby it stays.
    """
    camera = np.array([0.0, 0.0, model.distance])
    away = np.linalg.norm(canonical - camera, axis=-1)
    directions = (canonical - camera) / away[:, None]
    origins = np.broadcast_to(camera, directions.shape)
    rendered = ObjectRenderer(model, latent).trace(origins, directions, samples=_SAMPLES)
    near = (rendered.opacity >= 0.5) & (np.abs(rendered.distance - away) < _FARTHEST)
    return np.where(near[:, None], camera + directions * rendered.distance[:, None], canonical)


@dataclass(frozen=True)
class Scene:
    """Shared by all shards of a dataset.

    Attributes:
        plan: of the dataset.
        model, described: the model and its class.
        around: neighbourhood of its training rows.
        training_poses: see :func:`nerfgen.dataset.plan.training_poses`.
    """

    plan: Plan
    model: Model
    described: ObjectClass
    around: Neighbours
    training_poses: Float[np.ndarray, "rows 4"]


def write_shard(
    stage: storage.Stage,
    scene: Scene,
    numbers: Sequence[int],
    drawn: Drawn,
    done: Callable[[], None],
) -> None:
    """Render all views of the drawn identities ``numbers`` into the folder of the stage's output.

    Threads write the images of one identity while the next one is rendered, so that only one is held.

    Args:
        done: called after each identity.
    """
    folder, plan, count = stage.output.parent, scene.plan, len(numbers)
    views, size = plan.dataset.views, plan.rendering.size_of(scene.model)
    landmarks = np.zeros((count, len(scene.described.canonical), 3))
    poses = np.zeros((count, views, 4))
    matrices, cam_to_world = np.zeros((count * views, 3, 3)), np.zeros((count * views, 4, 4))
    names = [view_name(identity, view, views) for identity in numbers for view in range(views)]
    digests: list[tuple[int, str]] = []
    rgb = folder / "rgb"
    with (
        ThreadPoolExecutor(core_count()) as threads,
        replace(stage, output=rgb / "masks.h5", schema="masks/1").create() as masks,
    ):
        stored = storage.allocate(masks, "mask", (count * views, size, size))
        writing: Iterator[list[tuple[int, str]]] = iter(())
        for place, identity in enumerate(numbers):
            poses[place] = draw_poses(
                plan.dataset.poses, scene.training_poses, plan.sampling.seed, identity, views
            )
            cameras = cameras_at(poses[place], scene.described.reach)
            rows = slice(place * views, (place + 1) * views)
            matrices[rows], cam_to_world[rows] = cameras.matrices(size), cameras.cam_to_world
            if len(landmarks[place]):
                landmarks[place] = surface_landmarks(
                    scene.model, drawn.latents[place], scene.described.canonical
                )
            rendered = render_views(
                scene.model,
                np.broadcast_to(drawn.latents[place], (views, drawn.latents.shape[1])),
                matrices[rows],
                cam_to_world[rows],
                size,
                samples=plan.rendering.samples,
                antialias=plan.rendering.antialias_of(scene.model),
            )
            mask = to_uint8(rendered.opacity)
            stored[rows] = mask
            digests += [first for first, *_ in writing]
            writing = threads.map(_write_view, _view_files(folder, names[rows], rendered, mask))
            if plan.dataset.transforms:
                _write_transforms(rgb, names[rows], cameras, size)
            done()
        digests += [first for first, *_ in writing]
        _put_images(masks, names, size)
        storage.put(masks, "mask_window", _whole_image(len(names), size))
    with replace(stage, output=rgb / "cameras.h5", schema="cameras/1").create() as file:
        _put_images(file, names, size)
        storage.put(file, "intrinsics", matrices)
        storage.put(file, "cam_to_world", cam_to_world)
        storage.put(file, "window", _whole_image(len(names), size))
    if scene.described.landmark_names:
        with replace(stage, output=rgb / "landmarks.h5", schema="landmarks/1").create() as file:
            _put_images(file, names, size)
            _put_landmarks(file, scene, landmarks, matrices, cam_to_world, digests)
    with stage.create() as file:
        file.attrs["near"] = scene.around.near
        storage.put(file, "identity", numbers)
        storage.put(file, "latents", drawn.latents)
        storage.put(file, "coefficients", drawn.coefficients)
        storage.put(file, "nearest_distance", drawn.distance)
        storage.put(file, "nearest_row", drawn.row)
        storage.put(file, "attempts", drawn.attempts)
        storage.put(file, "poses", poses)
        if scene.described.landmark_names:
            storage.put(file, "landmark_names", scene.described.landmark_names)
            storage.put(file, "landmarks", landmarks)


_ViewFiles = list[tuple[Path, np.ndarray]]


def _view_files(folder: Path, names: Sequence[str], rendered: Views, mask: np.ndarray) -> list[_ViewFiles]:
    """Path and pixels of the images of each view: colour, mask, depth."""
    kinds = {"rgb": rendered.rgb, "mask": mask, "depth": depth_levels(rendered.depth)}
    return [
        [(folder / kind / name, images[view]) for kind, images in kinds.items()]
        for view, name in enumerate(names)
    ]


def _write_view(files: _ViewFiles) -> list[tuple[int, str]]:
    """Write PNG files and give their sizes and digests."""
    written = []
    for path, pixels in files:
        content = png_bytes(pixels, DEPTH_TEXT if pixels.dtype == np.uint16 else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append((len(content), hashlib.sha256(content).hexdigest()))
    return written


def _write_transforms(rgb: Path, names: Sequence[str], cameras: Cameras, size: int) -> None:
    """The cameras of one identity, which is a static scene, as ``transforms.json`` beside its images."""
    frames = [
        transforms.frame(
            Path(name).name,
            matrix,
            (size, size),
            pose,
            mask_path=f"../../mask/{name}",
            depth_file_path=f"../../depth/{name}",
        )
        for name, matrix, pose in zip(names, cameras.matrices(size), cameras.cam_to_world, strict=True)
    ]
    transforms.write_scene(rgb / Path(names[0]).parent / transforms.NAME, frames)


def _put_images(file: h5py.File, names: Sequence[str], size: int) -> None:
    storage.put(file, "image", names)
    storage.put(file, "status", ["ok"] * len(names))
    storage.put(file, "image_size", np.full((len(names), 2), size))


def _put_landmarks(
    file: h5py.File,
    scene: Scene,
    landmarks: Float[np.ndarray, "identities landmarks 3"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
    digests: list[tuple[int, str]],
) -> None:
    pixels, _ = project(np.repeat(landmarks, scene.plan.dataset.views, axis=0), intrinsics, cam_to_world)
    sizes, sums = zip(*digests, strict=True)
    storage.put(file, "image_bytes", sizes)
    storage.put(file, "image_sha256", sums)
    storage.put(file, "landmark_names", scene.described.landmark_names)
    storage.put(file, "landmarks", pixels)
    storage.put(file, "score", np.ones(len(pixels)))
    storage.put(file, "num_objects", np.ones(len(pixels)))


def _whole_image(count: int, size: int) -> Float[np.ndarray, "views 3"]:
    """Windows that span the whole image."""
    return np.tile([0.0, 0.0, float(size)], (count, 1))
