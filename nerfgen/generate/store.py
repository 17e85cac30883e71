"""Views of many objects as one file, rendered and written object by object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.field import Model
from nerfgen.generate.views import render_views, turned_views
from nerfgen.geometry import window_intrinsics
from nerfgen.parallel import Progress, silent


@dataclass(frozen=True)
class Objects:
    """What is to be rendered.

    Attributes:
        names: for people.
        status: ``ok`` or why an object can't be rendered; its pictures are then black.
        rows: table rows; -1 for objects that are not in the table.
        latents: codes.
        intrinsics, cam_to_world: of each object's own photograph, in its window of any raster
            of 1 x 1; None where there are no photographs.
        extra: further datasets of ``views/1`` with an entry per object.
    """

    names: list[str]
    status: list[str]
    rows: np.ndarray
    latents: Float[np.ndarray, "objects latent"]
    intrinsics: Float[np.ndarray, "objects 3 3"] | None
    cam_to_world: Float[np.ndarray, "objects 4 4"] | None
    extra: dict[str, np.ndarray]


def table_objects(model: Model, rows: list[int]) -> Objects:
    """Training objects by table row, with their own cameras."""
    chosen = np.array(rows, dtype=int)
    return Objects(
        names=[model.images[row] for row in rows],
        status=["ok"] * len(rows),
        rows=chosen,
        latents=model.latents[chosen],
        intrinsics=window_intrinsics(model.intrinsics[chosen], model.window[chosen], 1),
        cam_to_world=model.cam_to_world[chosen],
        extra={},
    )


def render_to_file(
    model: Model,
    objects: Objects,
    output: Path,
    *,
    angles: Float[np.ndarray, "views 2"],
    distance: float,
    size: int,
    samples: int,
    about: artifact.About,
    progress: Progress = silent,
) -> None:
    """Render every object from its own camera, where it has one, and from every angle; write ``views/1``.

    Args:
        angles: yaw and pitch in degrees.
        distance: of the turned cameras from the world origin, world units.
    """
    intrinsics, poses = turned_views(angles[:, 0], angles[:, 1], distance, size)
    own = objects.cam_to_world is not None
    views, count = len(angles) + own, len(objects.names)
    with artifact.create(output, "views/1", **about) as file:
        artifact.put(file, "name", objects.names)
        artifact.put(file, "status", objects.status)
        artifact.put(file, "row", objects.rows)
        artifact.put(file, "latents", objects.latents)
        for name, values in objects.extra.items():
            artifact.put(file, name, values)
        artifact.put(file, "angles", np.concatenate([np.full((int(own), 2), np.nan), angles]))
        cameras = {
            "intrinsics": np.zeros((count, views, 3, 3)),
            "cam_to_world": np.zeros((count, views, 4, 4)),
        }
        shape = (count, views, size, size)
        rgb = artifact.allocate(file, "rgb", (*shape, 3))
        opacity = artifact.allocate(file, "opacity", shape)
        depth = artifact.allocate(file, "depth", shape)
        for row in range(count):
            object_k, object_pose = intrinsics, poses
            if objects.cam_to_world is not None and objects.intrinsics is not None:
                own_k = objects.intrinsics[row] * np.array([[size], [size], [1.0]])
                object_k = np.concatenate([own_k[None], intrinsics])
                object_pose = np.concatenate([objects.cam_to_world[row][None], poses])
            cameras["intrinsics"][row], cameras["cam_to_world"][row] = object_k, object_pose
            if objects.status[row] in artifact.USABLE:
                codes = np.broadcast_to(objects.latents[row], (views, objects.latents.shape[1]))
                rendered = render_views(model, codes, object_k, object_pose, size, samples=samples)
                rgb[row], depth[row] = rendered.rgb, rendered.depth
                opacity[row] = np.round(rendered.opacity.clip(0, 1) * 255).astype(np.uint8)
            progress(row + 1, count)
        for name, values in cameras.items():
            artifact.put(file, name, values)
