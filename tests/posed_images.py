"""Images with cameras, for the tests of other programs' formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from nerfgen import storage
from nerfgen.geometry import intrinsic_matrix, sphere_window, turned_camera
from nerfgen.interchange import PosedImages, eg3d, srn, transforms
from nerfgen.interchange.posed_images import measure_images


def picture(path: Path, size=(24, 16), mode="RGB", value=128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], len(mode)), value, np.uint8), mode).save(path)
    return path


def some_cameras(random: np.random.Generator, count: int) -> np.ndarray:
    """Poses about 3 from the origin, looking roughly at it, with some roll."""
    poses = turned_camera(
        *random.uniform(-60, 60, (2, count)), random.uniform(2.5, 3.5, count), random.uniform(-20, 20, count)
    )
    poses[:, :3, 3] += random.normal(0, 0.1, (count, 3))
    return poses


def some_images(folder: Path, *, instances: int = 3, views: int = 2, square: bool = False) -> PosedImages:
    """Images of objects on disk, with cameras that SRN can represent: one focal length per object."""
    random = np.random.default_rng(5)
    names, instance, sizes, matrices = [], [], [], []
    for number in range(instances):
        size = (24, 24) if square else (24 + number, 16)
        matrix = intrinsic_matrix(random.uniform(20, 40), random.uniform(7, 12, 2))
        for view in range(views):
            names.append(f"object-{number}/rgb/{view:06d}.png")
            picture(folder / names[-1], size, value=10 * len(names))
            instance.append(f"object-{number}")
            sizes.append(size)
            matrices.append(matrix)
    count = len(names)
    poses = some_cameras(random, count)
    return PosedImages(
        names, ["ok"] * count, instance, np.array(sizes), np.stack(matrices), poses, [""] * count
    )


def write(name: str, folder: Path, posed: PosedImages) -> None:
    {"srn": srn, "eg3d": eg3d, "transforms": transforms}[name].write(folder, posed, posed.images)


def read(name: str, folder: Path) -> PosedImages:
    listed, _ = {"srn": srn, "eg3d": eg3d, "transforms": transforms}[name].read(folder)
    return measure_images(folder, listed)[0]


def put_cameras(path: Path, posed: PosedImages) -> None:
    with storage.Stage(path, "cameras/1", "car").create() as file:
        for column in ("image", "status", "instance"):
            storage.put(file, column, getattr(posed, "images" if column == "image" else column))
        for column in ("image_size", "intrinsics", "cam_to_world"):
            storage.put(file, column, getattr(posed, column))
        storage.put(file, "window", sphere_window(posed.intrinsics, posed.cam_to_world))


def columns(path: Path) -> dict:
    with storage.reading(path, "cameras/1", "landmarks/1") as file:
        return {
            name: storage.strings(values) if h5py.check_string_dtype(values.dtype) else values[:]
            for name, values in file.items()
        }
