"""What a rendering request asks for, as views to render: its objects and cameras, checked, within the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import Cameras
from nerfgen.live import LiveModel, TunedModel, View
from nerfgen.model import Model, Objects, SampleSettings, new_objects, parse_numbers, table_objects
from nerfgen.render import Backdrop, Part, RenderSettings, ViewCameras, Views, find_backdrop, samples_of
from nerfgen.serve.answers import Rendered
from nerfgen.serve.bodies import CamerasBody, Draw, ObjectsBody, RenderBody
from nerfgen.serve.settings import Limits
from nerfgen.settings import MAX_LENGTH, SettingError

_SOURCES = ("rows", "latents", "coordinates", "sample", "fitted")
# Of coordinates along principal axes, in standard deviations; of the numbers of a latent code; of focal lengths and
# principal points, in units of the view.
_MAX_COORDINATE, _MAX_LATENT, _MAX_FOCAL = 1000.0, 1e6, 1e4
# Of rotations, whose numbers were rounded to be written as text.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Plan:
    """A rendering that a request asks for.

    Attributes:
        objects: to render.
        views: of all objects, in order.
        intrinsics: of the views, in their pixels.
        cam_to_world: of the views.
        model: that they are of.
        antialias: rays per pixel along each axis.
        backdrop: what is behind the objects; None for each object's own background.
    """

    objects: Objects
    views: list[View]
    intrinsics: Float[np.ndarray, "objects views 3 3"]
    cam_to_world: Float[np.ndarray, "objects views 4 4"]
    model: Model
    antialias: int
    backdrop: Backdrop | None

    def result(self, views: Sequence[Views]) -> Rendered:
        """The views in order as those of objects."""
        count = self.intrinsics.shape[1]
        if self.backdrop:
            matrices, poses = self.intrinsics.reshape(-1, 3, 3), self.cam_to_world.reshape(-1, 4, 4)
            views = [
                self.backdrop.behind(each, self.model, matrix[None], pose[None], self.antialias)
                for each, matrix, pose in zip(views, matrices, poses, strict=True)
            ]
        rows = [list(views[start : start + count]) for start in range(0, len(views), count)]
        return Rendered(self.objects.names, self.objects.latents, rows, self.intrinsics, self.cam_to_world)


def plan_views(
    body: RenderBody, live: LiveModel, tuned: TunedModel | None, fitted: Objects | None, limits: Limits
) -> Plan:
    """What a rendering request asks for.

    Args:
        tuned: the networks of the request's owner.
        fitted: the images of the request's owner.

    Raises:
        InputError: a value is wrong or beyond the limits; names the field in backticks.
    """
    objects = select_objects(body, live, fitted, limits)
    rendering = RenderSettings(size=body.size, samples=body.samples, antialias=body.antialias)
    size, antialias = rendering.size_of(live.model), rendering.antialias_of(live.model)
    samples = samples_of(live.model, body.samples)
    require_at_most("size", size, limits.max_size)
    require_at_most("samples", samples, limits.max_samples)
    cameras = _cameras_of_objects(body.cameras, live, objects, limits)
    count = len(cameras[0].cam_to_world)
    require_at_most("cameras", count * len(objects), limits.max_views, "views")
    rays = count * len(objects) * (size * antialias) ** 2
    if rays > limits.max_rays:
        raise SettingError(
            f"`size`: {count * len(objects):,} views of {size:,} x {size:,} pixels with {antialias} x {antialias} rays "
            f"per pixel are {rays:,} rays, more than {limits.max_rays:,}; ask for fewer or smaller views"
        )
    part = Part(0, 0, size, size)
    with_normals = body.with_normals or body.kind == "normals"
    matrices = np.stack([each.matrices(size) for each in cameras])
    poses = np.stack([each.cam_to_world for each in cameras])
    views = []
    for number, latent in enumerate(objects.latents):
        shown = live.object(latent, tuned)
        for matrix, pose in zip(matrices[number], poses[number], strict=True):
            views.append(View(shown, matrix, pose, part, samples, antialias, with_normals))
    backdrop = None
    if body.background is not None:
        backdrop = find_backdrop(body.background, len(live.model.images), with_files=False)
    return Plan(objects, views, matrices, poses, live.model, antialias, backdrop)


def select_objects(body: ObjectsBody, live: LiveModel, fitted: Objects | None, limits: Limits) -> Objects:
    """The objects that a request names.

    Args:
        fitted: the images of the request's owner.

    Raises:
        InputError: a value is wrong or beyond the limits; names the field in backticks.
    """
    source_of(body)
    model, principal = live.model, live.model.principal
    if body.rows is not None:
        return table_objects(model, numbers("rows", body.rows, len(model.images), limits))
    if body.fitted is not None:
        if fitted is None:
            raise SettingError("`fitted` needs the owner of fitted images; send their token")
        return _some(fitted, numbers("fitted", body.fitted, len(fitted), limits))
    if body.sample is not None:
        return draw_objects(body.sample, live, limits)
    if body.latents is not None:
        latents = _table("latents", body.latents, limits)
        if latents.shape[1] != model.config.code_size:
            raise SettingError(
                f"`latents` have {latents.shape[1]} numbers, and codes of this model {model.config.code_size}"
            )
        _require_range("latents", latents, _MAX_LATENT)
        return _codes("code", latents.astype(np.float32))
    assert body.coordinates is not None
    coordinates = _table("coordinates", body.coordinates, limits)
    require_at_most("coordinates", coordinates.shape[1], principal.varying, "axes")
    _require_range("coordinates", coordinates, _MAX_COORDINATE)
    missing = len(principal.deviation) - coordinates.shape[1]
    latents = principal.codes(np.pad(coordinates, ((0, 0), (0, missing))))
    return _codes("coordinates", latents.astype(np.float32))


def source_of(body: ObjectsBody) -> str:
    """The field by which a request names its objects.

    Raises:
        InputError: there is none, or there are several.
    """
    given = [name for name in _SOURCES if getattr(body, name) is not None]
    if len(given) != 1:
        raise SettingError(
            f"`{(given or _SOURCES)[0]}`: give one of {', '.join(_SOURCES)}, not {len(given)} of them"
        )
    return given[0]


def draw_objects(draw: Draw, live: LiveModel, limits: Limits) -> Objects:
    """New objects; see :func:`select_objects`."""
    sampling = SampleSettings(**{field.name: getattr(draw, field.name) for field in fields(SampleSettings)})
    require_at_most("count", sampling.count, limits.max_codes)
    return new_objects(live.model, sampling)


def numbers(name: str, given: str | Sequence[int], count: int, limits: Limits) -> list[int]:
    """Numbers of objects, from a list or a text such as ``0,5-9``.

    Args:
        name: of the field.
        count: how many objects there are.

    Raises:
        InputError: others, none, or too many.
    """
    found: Sequence[int] = (
        parse_numbers(given, count, f"`{name}` {given[:100]}", name, limits.max_codes)
        if isinstance(given, str)
        else given
    )
    if not found or not all(0 <= each < count for each in found):
        raise SettingError(f"`{name}` are one or more numbers from 0 to {count - 1}")
    require_at_most(name, len(found), limits.max_codes, "objects")
    return list(found)


def require_at_most(name: str, value: int, limit: int, what: str = "") -> None:
    """Raise :class:`SettingError` where a request asks for too much.

    Args:
        name: of the field.
        what: is counted; nothing where the field is a number itself.
    """
    if value > limit:
        asked = f"{value:,} {what}" if what else f"{value:,}"
        raise SettingError(f"`{name}`: {asked}, more than {limit:,}; ask for less")


def _table(name: str, rows: Sequence[Sequence[float]], limits: Limits) -> Float[np.ndarray, "rows columns"]:
    """Rows of equal length; at least one of at least one number."""
    require_at_most(name, len(rows), limits.max_codes, "objects")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or 0 in lengths:
        raise SettingError(f"`{name}` is one or more lists of equal length")
    return np.array(rows, float)


def _require_range(name: str, values: np.ndarray, largest: float) -> None:
    if np.abs(values).max() > largest:
        raise SettingError(f"`{name}` has to be from {-largest:g} to {largest:g}")


def _codes(name: str, latents: Float[np.ndarray, "objects latent"]) -> Objects:
    count = len(latents)
    return Objects(
        [f"{name} {number}" for number in range(count)], ["ok"] * count, np.full(count, -1), latents
    )


def _some(objects: Objects, chosen: Sequence[int]) -> Objects:
    """Some of fitted images, without what was tuned to each."""
    for number in chosen:
        if objects.status[number] not in ("ok", "not_converged"):
            raise SettingError(f"`fitted` {number} is unusable: its status is {objects.status[number]}")
    cameras = objects.cameras and Cameras(*(part[list(chosen)] for part in objects.cameras))
    return Objects(
        names=[f"fitted {number}" for number in chosen],
        status=["ok"] * len(chosen),
        rows=np.full(len(chosen), -1),
        latents=objects.latents[list(chosen)],
        cameras=cameras,
    )


def _cameras_of_objects(
    given: CamerasBody | None, live: LiveModel, objects: Objects, limits: Limits
) -> list[Cameras]:
    """The cameras of each object."""
    if given is not None:
        return [_cameras(given, live, limits)] * len(objects)
    if objects.cameras is None:
        raise SettingError(
            'these objects have no `cameras` of their own; give some, such as {"yaw": [-30, 0, 30]}'
        )
    return [Cameras(*(part[number][None] for part in objects.cameras)) for number in range(len(objects))]


def _cameras(given: CamerasBody, live: LiveModel, limits: Limits) -> Cameras:
    matrices = given.intrinsics, given.cam_to_world
    chosen = given.model_dump(exclude={"intrinsics", "cam_to_world"}, exclude_none=True)
    if matrices == (None, None):
        # Before anything is computed for each of them.
        yaws, pitches = (chosen.get(name) or default for name, default in (("yaw", "12345"), ("pitch", "1")))
        count = chosen.get("orbit") or len(yaws) * len(pitches)
        require_at_most("cameras", count, limits.max_views, "views")
        cameras = ViewCameras(**{name: _tuple(value) for name, value in chosen.items()})
        return cameras.of(live.model.object_class, live.model.distance).path.cameras
    if chosen:
        raise SettingError(f"`{next(iter(chosen))}` and matrices exclude each other; give one of them")
    if given.intrinsics is None or given.cam_to_world is None or not given.intrinsics:
        raise SettingError("`intrinsics` and `cam_to_world` belong together; give one of each for every view")
    if len(given.intrinsics) != len(given.cam_to_world):
        raise SettingError("`intrinsics` and `cam_to_world` have to have one matrix each for every view")
    intrinsics, poses = np.array(given.intrinsics), np.array(given.cam_to_world)
    focal = intrinsics[:, (0, 1), (0, 1)]
    rest = intrinsics[:, (0, 1, 2, 2, 2), (1, 0, 0, 1, 2)]
    is_pinhole = (focal > 0).all() and (rest == (0, 0, 0, 0, 1)).all()
    if not is_pinhole or np.abs(intrinsics).max() > _MAX_FOCAL or focal.min() < 1 / _MAX_FOCAL:
        raise SettingError("`intrinsics` have to be pinhole matrices of a view of size 1, without skew")
    turns = poses[:, :3, :3]
    is_rigid = (
        np.abs(turns @ turns.swapaxes(1, 2) - np.eye(3)).max() < _TOLERANCE
        and (np.linalg.det(turns) > 0).all()
        and (poses[:, 3] == (0, 0, 0, 1)).all()
    )
    if not is_rigid or np.abs(poses).max() > MAX_LENGTH:
        raise SettingError("`cam_to_world` have to be rotations and positions: rigid 4 x 4 matrices")
    return Cameras(intrinsics, poses)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
