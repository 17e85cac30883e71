"""The cameras as training left them, as a file of the camera stage's schema."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen import artifact


class RefinedCameras(NamedTuple):
    """Cameras of photographs as training left them."""

    images: list[str]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]


def save_refined_cameras(path: Path, cameras: Path, refined: RefinedCameras, about: artifact.About) -> None:
    """Write ``cameras/1``: the file ``cameras`` with the poses and focal lengths of some of its images replaced.

    Windows stay, so that masks and framed pixels fit as before.
    """
    with artifact.reading(cameras, "cameras/1", "truth/1") as file:
        images = artifact.strings(file["image"])
        columns = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        canonical = {name: file[name][:] for name in ("canonical_index", "canonical") if name in file}
        instance = artifact.strings(file["instance"]) if "instance" in file else None
        status = artifact.strings(file["status"])
    rows = artifact.positions(images, refined.images)
    known = rows >= 0
    columns["intrinsics"][known] = refined.intrinsics[rows[known]]
    columns["cam_to_world"][known] = refined.cam_to_world[rows[known]]
    with artifact.create(path, "cameras/1", **about) as file:
        artifact.put(file, "image", images)
        artifact.put(file, "status", status)
        if instance:
            artifact.put(file, "instance", instance)
        for name, values in (columns | canonical).items():
            artifact.put(file, name, values)
