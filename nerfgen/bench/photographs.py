"""A folder to train on that is made in no time: one and the same ball on other grounds, seen from all round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nerfgen import artifact
from nerfgen.geometry import intrinsic_matrix, sphere_window, turned_camera

CLASS = "heads"
_DISTANCE, _FOCAL = 4.0, 1.8
_ABOUT: artifact.About = {"object_class": CLASS, "parameters": {}, "inputs": []}


def write_photographs(folder: Path, count: int, size: int) -> None:
    """Photographs with ``cameras.h5`` and ``masks.h5``, as the earlier stages would leave them."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.jpg" for index in range(count)]
    across = (np.arange(size) + 0.5) / size * 2 - 1
    ball = np.hypot(*np.meshgrid(across, across)) < 0.6
    for name in names:
        picture = np.where(ball[..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3))
        Image.fromarray(picture.astype(np.uint8)).save(folder / name)
    poses = turned_camera(rng.uniform(-60, 60, count), rng.uniform(-20, 20, count), _DISTANCE)
    intrinsics = intrinsic_matrix(np.full(count, _FOCAL * size), np.full((count, 2), size / 2))
    window = sphere_window(intrinsics, poses)
    cameras = {"intrinsics": intrinsics, "cam_to_world": poses, "window": window}
    mask = np.broadcast_to(255 * ball.astype(np.uint8), (count, size, size))
    masks = {"mask": mask, "mask_window": np.tile([0.0, 0.0, float(size)], (count, 1))}
    shared = {"image": names, "status": ["ok"] * count, "image_size": np.full((count, 2), size)}
    for kind, values in (("cameras", cameras), ("masks", masks)):
        with artifact.create(folder / f"{kind}.h5", f"{kind}/1", **_ABOUT) as file:
            for name, value in (shared | values).items():
                artifact.put(file, name, value)
