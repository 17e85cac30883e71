"""Views of many objects as one file, rendered and written object by object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nerfgen import artifact
from nerfgen.field import Model
from nerfgen.generate.codes import Objects
from nerfgen.generate.views import eight_bits, render_views
from nerfgen.geometry import Cameras, yaw_pitch_roll
from nerfgen.parallel import Progress, silent


def fitting_antialias(model: Model, size: int) -> int:
    """Rays a pixel along either side with which pictures of ``size`` pixels are sampled twice as finely as the model's
    photographs were, which is all the detail that it has; at least 1, at most 4."""
    return int(np.clip(-(-2 * model.size // size), 1, 4))


def render_to_file(
    model: Model,
    objects: Objects,
    output: Path,
    *,
    cameras: Cameras,
    size: int,
    samples: int = 0,
    antialias: int = 1,
    further: Mapping[str, np.ndarray] = MappingProxyType({}),
    about: artifact.About,
    progress: Progress = silent,
) -> None:
    """Render every object from its own camera, where it has one, and from all ``cameras``; write ``views/1``.

    Args:
        size: edge of the pictures, pixels.
        samples, antialias: see :func:`render_views`.
        further: datasets of ``views/1`` that have no entry per object.
    """
    own = objects.cameras
    views, count = len(cameras.cam_to_world) + (own is not None), len(objects)
    angles = yaw_pitch_roll(cameras.cam_to_world)[:, :2]
    with artifact.create(output, "views/1", **about) as file:
        artifact.put(file, "name", objects.names)
        artifact.put(file, "status", objects.status)
        artifact.put(file, "row", objects.rows)
        artifact.put(file, "latents", objects.latents)
        for name, values in {**objects.extra, **further}.items():
            artifact.put(file, name, values)
        if own is not None:
            artifact.put(file, "own_intrinsics", own.intrinsics)
            artifact.put(file, "own_cam_to_world", own.cam_to_world)
            angles = np.concatenate([np.full((1, 2), np.nan), angles])
        artifact.put(file, "angles", angles)
        if objects.tuned:
            group = file.create_group("tuned")
            for number, delta in sorted(objects.tuned.items()):
                artifact.put_tree(group.create_group(str(number)), delta)
        if objects.photographs:
            artifact.put_tree(
                file.create_group("photographs"),
                {str(number): picture for number, picture in objects.photographs.items()},
            )
        matrices, poses = np.zeros((count, views, 3, 3)), np.zeros((count, views, 4, 4))
        shape = (count, views, size, size)
        stored = {
            name: artifact.allocate(file, name, (*shape, *channels))
            for name, channels in (
                ("rgb", (3,)),
                ("rgba", (4,)),
                ("opacity", ()),
                ("depth", ()),
                ("normals", (3,)),
            )
        }
        for number in range(count):
            seen = [cameras] if own is None else [Cameras(*(part[number][None] for part in own)), cameras]
            matrices[number] = np.concatenate([some.matrices(size) for some in seen])
            poses[number] = np.concatenate([some.cam_to_world for some in seen])
            if objects.status[number] in artifact.USABLE:
                rendered = render_views(
                    model.tuned(objects.tuned.get(number)),
                    np.broadcast_to(objects.latents[number], (views, objects.latents.shape[1])),
                    matrices[number],
                    poses[number],
                    size,
                    samples=samples,
                    antialias=antialias,
                    with_normals=True,
                )
                stored["opacity"][number] = eight_bits(rendered.opacity)
                for name in ("rgb", "rgba", "depth", "normals"):
                    stored[name][number] = getattr(rendered, name)
            progress(number + 1, count)
        artifact.put(file, "intrinsics", matrices)
        artifact.put(file, "cam_to_world", poses)
