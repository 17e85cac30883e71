"""The rendering stage: views of many objects as one file, rendered and written object by object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PyTree

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras, yaw_pitch_roll
from nerfgen.memory import require_memory
from nerfgen.model import Model, Objects, load_model
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.render.backdrop import Backdrop
from nerfgen.render.settings import KINDS, Kind, RenderSettings
from nerfgen.render.views import Views, render_views, require_views

# Cameras of a view.
_BYTES_PER_VIEW = 8 * (9 + 16)
# Objects and pixels that a worker of a scheduler renders at a time.
_MOST_OBJECTS, _MOST_PIXELS = 100, 1 << 21


def render_to_file(
    model: Model,
    objects: Objects,
    stage: storage.Stage,
    *,
    cameras: Cameras,
    rendering: RenderSettings = RenderSettings(),
    further: Mapping[str, np.ndarray] = MappingProxyType({}),
    file: Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> None:
    """Render every object from its own camera, where it has one, and from all ``cameras``; write ``views/1``.

    Args:
        stage: the output and its provenance.
        rendering: size and quality of the views.
        further: datasets of ``views/1`` that have no entry per object.
        file: of the model, which the workers of a scheduler read.
        workers, scheduler: take workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.

    Raises:
        InputError: there are no objects, or no cameras.
    """
    size, antialias = rendering.size_of(model), rendering.antialias_of(model)
    options: dict[str, Any] = {
        "size": size,
        "samples": rendering.samples,
        "antialias": antialias,
        "backdrop": rendering.backdrop(len(model.images)),
    }

    def render(seen: Sequence[Seen]) -> Iterator[Views]:
        requests = (
            _Request(objects.latents[each.number], objects.tuned.get(each.number), each) for each in seen
        )
        if not scheduler:
            yield from (_render(model, request, **options) for request in requests)
            return
        pixels = sum(len(each.cameras.cam_to_world) for each in seen[:1]) * size**2
        yield from map_ordered(
            partial(_render_in_worker, **options),
            list(requests),
            workers=workers,
            initializer=_start,
            initializer_arguments=(file,),
            batch=max(1, min(_MOST_OBJECTS, _MOST_PIXELS // max(1, pixels))),
            scheduler=scheduler,
            name_of=lambda request: objects.names[request.seen.number],
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


class Seen(NamedTuple):
    """An object to render, by its number, and the cameras that see it."""

    number: int
    cameras: Cameras


class _Request(NamedTuple):
    latent: Float[np.ndarray, "latent"]
    tuned: dict[str, PyTree] | None
    seen: Seen


# Of a worker of a scheduler.
_model: Model


def _start(file: Path) -> None:
    global _model
    _model = load_model(file)


def _render_in_worker(request: _Request, **options: Any) -> Views:
    return _render(_model, request, **options)


def _render(
    model: Model,
    request: _Request,
    *,
    size: int,
    samples: int | None,
    antialias: int,
    backdrop: Backdrop | None,
) -> Views:
    cameras = request.seen.cameras
    count, matrices = len(cameras.cam_to_world), cameras.matrices(size)
    views = render_views(
        model.tuned(request.tuned),
        np.broadcast_to(request.latent, (count, len(request.latent))),
        matrices,
        cameras.cam_to_world,
        size,
        samples=samples,
        antialias=antialias,
        with_normals=True,
    )
    return backdrop.behind(views, model, matrices, cameras.cam_to_world, antialias) if backdrop else views


def write_views(
    render: Callable[[Sequence[Seen]], Iterable[Views]],
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
        render: views of objects in order, with normals.
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
    shape = (views, size, size)
    channels: dict[Kind, tuple[int, ...]] = {
        "rgb": (3,),
        "rgba": (4,),
        "opacity": (),
        "depth": (),
        "normals": (3,),
    }
    arrays: dict[str, tuple[int, ...]] = {kind: (*shape, *channels[kind]) for kind in KINDS}
    arrays |= {"intrinsics": (views, 3, 3), "cam_to_world": (views, 4, 4)}
    seen = [_seen(objects, number, cameras) for number in range(count)]
    if own is not None:
        arrays |= {"own_intrinsics": (3, 3), "own_cam_to_world": (4, 4)}
        angles = np.concatenate([np.full((1, 2), np.nan), angles])
    is_usable = storage.usable(objects.status)
    with stage.create() as file:
        writer = storage.RowWriter(file, count, **arrays)
        rendered = iter(render([each for each in seen if is_usable[each.number]]))
        for number, each in enumerate(seen):
            found = next(rendered) if is_usable[number] else None
            row: dict[str, Any] = {
                "name": objects.names[number],
                "status": objects.status[number],
                "row": objects.rows[number],
                "latents": objects.latents[number],
                "intrinsics": each.cameras.matrices(size),
                "cam_to_world": each.cameras.cam_to_world,
                **{name: values[number] for name, values in objects.extra.items()},
                **{kind: found.of_kind(kind) if found else None for kind in KINDS},
            }
            if own is not None:
                row |= {f"own_{name}": values[number] for name, values in own._asdict().items()}
            trees: dict[str, dict[int, Any]] = {"photographs": objects.images, "tuned": objects.tuned}
            writer.add(row, {name: tree[number] for name, tree in trees.items() if number in tree})
            progress(number + 1, count)
        next(rendered, None)  # its end: workers that stop
        writer.finish(angles=angles, **further)


def _seen(objects: Objects, number: int, cameras: Cameras) -> Seen:
    """An object with its own camera, if it has one, and the others."""
    own = objects.cameras
    chosen = [cameras] if own is None else [Cameras(*(part[number][None] for part in own)), cameras]
    return Seen(number, Cameras(*(np.concatenate(parts) for parts in zip(*chosen, strict=True))))
