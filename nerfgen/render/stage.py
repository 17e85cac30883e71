"""The rendering stage: views of many objects as one file, rendered and written object by object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras, yaw_pitch_roll
from nerfgen.memory import require_memory
from nerfgen.model import Model, Objects
from nerfgen.parallel import Progress, silent
from nerfgen.render.settings import KINDS, RenderSettings
from nerfgen.render.views import Views, render_views, require_views

# Cameras of a view.
_BYTES_PER_VIEW = 8 * (9 + 16)


def render_to_file(
    model: Model,
    objects: Objects,
    stage: storage.Stage,
    *,
    cameras: Cameras,
    rendering: RenderSettings = RenderSettings(),
    further: Mapping[str, np.ndarray] = MappingProxyType({}),
    progress: Progress = silent,
) -> None:
    """Render every object from its own camera, where it has one, and from all ``cameras``; write ``views/1``.

    Args:
        stage: the output and its provenance.
        rendering: size and quality of the views.
        further: datasets of ``views/1`` that have no entry per object.

    Raises:
        InputError: there are no objects, or no cameras.
    """
    size, antialias = rendering.size_of(model), rendering.antialias_of(model)

    def render(number: int, seen: Cameras) -> Views:
        views = len(seen.cam_to_world)
        return render_views(
            model.tuned(objects.tuned.get(number)),
            np.broadcast_to(objects.latents[number], (views, objects.latents.shape[1])),
            seen.matrices(size),
            seen.cam_to_world,
            size,
            samples=rendering.samples,
            antialias=antialias,
            with_normals=True,
        )

    write_views(
        render,
        objects,
        stage,
        cameras=cameras,
        size=size,
        antialias=antialias,
        further=further,
        progress=progress,
    )


def write_views(
    render: Callable[[int, Cameras], Views],
    objects: Objects,
    stage: storage.Stage,
    *,
    cameras: Cameras,
    size: int,
    antialias: int = 1,
    further: Mapping[str, np.ndarray] = MappingProxyType({}),
    progress: Progress = silent,
) -> None:
    """As :func:`render_to_file`, with views that something else renders.

    Args:
        render: views of an object, by its number, from cameras; with normals.
        size: of the views, pixels.
        antialias: rays per pixel along each axis that are rendered here.

    Raises:
        InputError: there are no objects, or no cameras.
    """
    own = objects.cameras
    views, count = len(cameras.cam_to_world) + (own is not None), len(objects)
    if not count:
        raise InputError("no objects to render; select at least one")
    if not views:
        raise InputError("no cameras to render from; give at least one")
    require_views(views, size, antialias)
    require_memory(_BYTES_PER_VIEW * count * views, f"{count:,} objects in {views:,} views each")
    angles = yaw_pitch_roll(cameras.cam_to_world)[:, :2]
    with stage.create() as file:
        storage.put(file, "name", objects.names)
        storage.put(file, "status", objects.status)
        storage.put(file, "row", objects.rows)
        storage.put(file, "latents", objects.latents)
        for name, values in {**objects.extra, **further}.items():
            storage.put(file, name, values)
        if own is not None:
            storage.put(file, "own_intrinsics", own.intrinsics)
            storage.put(file, "own_cam_to_world", own.cam_to_world)
            angles = np.concatenate([np.full((1, 2), np.nan), angles])
        storage.put(file, "angles", angles)
        if objects.tuned:
            group = file.create_group("tuned")
            for number, delta in sorted(objects.tuned.items()):
                storage.put_tree(group.create_group(str(number)), delta)
        if objects.images:
            storage.put_tree(
                file.create_group("photographs"),
                {str(number): picture for number, picture in objects.images.items()},
            )
        matrices, poses = np.zeros((count, views, 3, 3)), np.zeros((count, views, 4, 4))
        shape = (count, views, size, size)
        stored = {
            name: storage.allocate(file, name, (*shape, *channels))
            for name, channels in (
                ("rgb", (3,)),
                ("rgba", (4,)),
                ("opacity", ()),
                ("depth", ()),
                ("normals", (3,)),
            )
        }
        for number in range(count):
            chosen = [cameras] if own is None else [Cameras(*(part[number][None] for part in own)), cameras]
            seen = Cameras(*(np.concatenate(parts) for parts in zip(*chosen, strict=True)))
            matrices[number], poses[number] = seen.matrices(size), seen.cam_to_world
            if objects.status[number] in storage.USABLE:
                rendered = render(number, seen)
                for kind in KINDS:
                    stored[kind][number] = rendered.of_kind(kind)
            progress(number + 1, count)
        storage.put(file, "intrinsics", matrices)
        storage.put(file, "cam_to_world", poses)
