"""One shard of a dataset: the pictures of some identities, and the files that belong to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.dataset.keypoint import surface_landmarks
from nerfgen.dataset.pose import cameras_at, draw_poses
from nerfgen.dataset.settings import Settings
from nerfgen.field import Model
from nerfgen.generate import Drawn, Neighbours, Views, eight_bits, render_views
from nerfgen.geometry import Cameras, project
from nerfgen.interchange import transforms
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import core_count
from nerfgen.picture import DEPTH_TEXT, depth_levels, png_bytes


@dataclass(frozen=True)
class Scene:
    """What all shards of a dataset have in common.

    Attributes:
        settings: of the dataset, with the size of its pictures.
        model, described: the model and its class.
        around: its training rows.
        training_poses: of its cameras, see :func:`nerfgen.dataset.pose.training_poses`.
    """

    settings: Settings
    model: Model
    described: ObjectClass
    around: Neighbours
    training_poses: Float[np.ndarray, "rows 4"]


def view_name(identity: int, view: int, views: int) -> str:
    """A picture's path below ``rgb``, ``mask`` and ``depth``."""
    return f"{identity:06d}/{view:0{max(2, len(str(views - 1)))}d}.png"


def write_shard(
    folder: Path,
    scene: Scene,
    numbers: Sequence[int],
    drawn: Drawn,
    about: artifact.About,
    done: Callable[[], None],
) -> None:
    """Render all views of the drawn identities ``numbers`` into ``folder``.

    Pictures are written by threads, those of one identity while the next one is rendered: only one is held.

    Args:
        done: called after each identity.
    """
    settings, count = scene.settings, len(numbers)
    views, size = settings.views, settings.size
    landmarks = np.zeros((count, len(scene.described.canonical), 3))
    poses = np.zeros((count, views, 4))
    matrices, cam_to_world = np.zeros((count * views, 3, 3)), np.zeros((count * views, 4, 4))
    names = [view_name(identity, view, views) for identity in numbers for view in range(views)]
    digests: list[tuple[int, str]] = []
    rgb = folder / "rgb"
    with (
        ThreadPoolExecutor(core_count()) as threads,
        artifact.create(rgb / "masks.h5", "masks/1", **about) as masks,
    ):
        stored = artifact.allocate(masks, "mask", (count * views, size, size))
        writing: Iterator[list[tuple[int, str]]] = iter(())
        for place, identity in enumerate(numbers):
            poses[place] = draw_poses(settings.poses, scene.training_poses, settings.seed, identity, views)
            cameras = cameras_at(poses[place], scene.described.reach)
            rows = slice(place * views, (place + 1) * views)
            matrices[rows], cam_to_world[rows] = cameras.matrices(size), cameras.cam_to_world
            if len(landmarks[place]):
                landmarks[place] = surface_landmarks(
                    scene.model, drawn.latents[place], scene.described.canonical
                )
            seen = render_views(
                scene.model,
                np.broadcast_to(drawn.latents[place], (views, drawn.latents.shape[1])),
                matrices[rows],
                cam_to_world[rows],
                size,
                samples=settings.samples,
                antialias=settings.antialias,
            )
            mask = eight_bits(seen.opacity)
            stored[rows] = mask
            digests += [first for first, *_ in writing]
            writing = threads.map(_write_pictures, _pictures(folder, names[rows], seen, mask))
            if settings.transforms:
                _write_transforms(rgb, names[rows], cameras, size)
            done()
        digests += [first for first, *_ in writing]
        _put_images(masks, names, size)
        artifact.put(masks, "mask_window", _whole(len(names), size))
    with artifact.create(rgb / "cameras.h5", "cameras/1", **about) as file:
        _put_images(file, names, size)
        artifact.put(file, "intrinsics", matrices)
        artifact.put(file, "cam_to_world", cam_to_world)
        artifact.put(file, "window", _whole(len(names), size))
    if scene.described.landmark_names:
        with artifact.create(rgb / "landmarks.h5", "landmarks/1", **about) as file:
            _put_images(file, names, size)
            _put_landmarks(file, scene, landmarks, matrices, cam_to_world, digests)
    with artifact.create(folder / "identities.h5", "identities/1", **about) as file:
        file.attrs["near"] = scene.around.near
        artifact.put(file, "identity", numbers)
        artifact.put(file, "latents", drawn.latents)
        artifact.put(file, "coefficients", drawn.coefficients)
        artifact.put(file, "nearest_distance", drawn.distance)
        artifact.put(file, "nearest_row", drawn.row)
        artifact.put(file, "attempts", drawn.attempts)
        artifact.put(file, "poses", poses)
        if scene.described.landmark_names:
            artifact.put(file, "landmark_names", scene.described.landmark_names)
            artifact.put(file, "landmarks", landmarks)


_Pictures = list[tuple[Path, np.ndarray]]


def _pictures(folder: Path, names: Sequence[str], seen: Views, mask: np.ndarray) -> list[_Pictures]:
    """Path and pixels of each view's pictures: colour, mask, depth."""
    kinds = {"rgb": seen.rgb, "mask": mask, "depth": depth_levels(seen.depth)}
    return [
        [(folder / kind / name, pictures[view]) for kind, pictures in kinds.items()]
        for view, name in enumerate(names)
    ]


def _write_pictures(pictures: _Pictures) -> list[tuple[int, str]]:
    """Write PNG files; their sizes and digests."""
    written = []
    for path, pixels in pictures:
        content = png_bytes(pixels, DEPTH_TEXT if pixels.dtype == np.uint16 else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append((len(content), hashlib.sha256(content).hexdigest()))
    return written


def _write_transforms(rgb: Path, names: Sequence[str], cameras: Cameras, size: int) -> None:
    """The cameras of one identity, a static scene of its own, as ``transforms.json`` beside its pictures."""
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
    artifact.put(file, "image", names)
    artifact.put(file, "status", ["ok"] * len(names))
    artifact.put(file, "image_size", np.full((len(names), 2), size))


def _put_landmarks(
    file: h5py.File,
    scene: Scene,
    landmarks: Float[np.ndarray, "identities landmarks 3"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
    digests: list[tuple[int, str]],
) -> None:
    pixels, _ = project(np.repeat(landmarks, scene.settings.views, axis=0), intrinsics, cam_to_world)
    sizes, sums = zip(*digests, strict=True)
    artifact.put(file, "image_bytes", sizes)
    artifact.put(file, "image_sha256", sums)
    artifact.put(file, "landmark_names", scene.described.landmark_names)
    artifact.put(file, "landmarks", pixels)
    artifact.put(file, "score", np.ones(len(pixels)))
    artifact.put(file, "num_objects", np.ones(len(pixels)))


def _whole(count: int, size: int) -> Float[np.ndarray, "views 3"]:
    """Windows that are the whole picture."""
    return np.tile([0.0, 0.0, float(size)], (count, 1))
