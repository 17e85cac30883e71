"""The cameras as training left them, as a file of the camera stage's schema."""

from __future__ import annotations

from pathlib import Path

from nerfgen import artifact
from nerfgen.field import Model


def save_refined_cameras(path: Path, cameras: Path, model: Model, about: artifact.About) -> None:
    """Write ``cameras/1``: the file ``cameras`` with the poses and focal lengths of the model's images replaced.

    Windows stay, so that masks and framed pixels fit as before.
    """
    with artifact.reading(cameras, "cameras/1", "truth/1") as file:
        images = artifact.strings(file["image"])
        columns = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        canonical = {name: file[name][:] for name in ("canonical_index", "canonical") if name in file}
        status = artifact.strings(file["status"])
    rows = artifact.positions(images, model.images)
    known = rows >= 0
    columns["intrinsics"][known] = model.intrinsics[rows[known]]
    columns["cam_to_world"][known] = model.cam_to_world[rows[known]]
    with artifact.create(path, "cameras/1", **about) as file:
        artifact.put(file, "image", images)
        artifact.put(file, "status", status)
        for name, values in (columns | canonical).items():
            artifact.put(file, name, values)
