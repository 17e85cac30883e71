"""The procedural classes: object, cameras and background as functions of a seed and an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, turned_camera
from nerfgen.synth.cars import Car
from nerfgen.synth.heads import Head
from nerfgen.synth.shading import Rendering, Solid, render

Camera = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]

# Independent streams of random numbers for each object.
_IDENTITY, _BACKGROUND, _CAMERA = range(3)


@dataclass(frozen=True)
class ProceduralClass:
    """A procedural class. ``object_class`` is the name under which the pipeline knows it."""

    object_class: str
    make: Callable[[np.random.Generator], Solid]
    camera: Callable[[np.random.Generator, int], Camera]
    background: Callable[[np.random.Generator, int], Float[np.ndarray, "size size 3"]]
    supersample: int = 2


def procedural_class(name: str) -> ProceduralClass:
    """The class called ``name``.

    Raises:
        InputError: no class has this name.
    """
    if name not in PROCEDURAL_CLASSES:
        raise InputError(f"unknown synthetic class {name!r}; choose {' or '.join(PROCEDURAL_CLASSES)}")
    return PROCEDURAL_CLASSES[name]


def make_object(kind: str, seed: int, index: int) -> Solid:
    """Object ``index`` of a class; depends on the seed and the index alone."""
    return procedural_class(kind).make(_stream(seed, index, _IDENTITY))


def draw_camera(kind: str, seed: int, index: int, size: int, view: int = 0) -> Camera:
    """(intrinsics, cam_to_world) of image 0 of an object, or of its held-out view ``view`` >= 1."""
    return procedural_class(kind).camera(_stream(seed, index, _CAMERA + view), size)


def draw_cameras(kind: str, seed: int, index: int, size: int, count: int) -> list[Camera]:
    """Cameras of ``count`` images of an object with one lens and one distance from the origin.

    The first is that of :func:`draw_camera`, and camera i does not depend on ``count``.
    """
    intrinsics, first = draw_camera(kind, seed, index, size)
    distance = np.linalg.norm(first[:3, 3])
    cameras = [(intrinsics, first)]
    for view in range(1, count):
        _, pose = procedural_class(kind).camera(np.random.default_rng([seed, index, _CAMERA, view]), size)
        pose[:3, 3] *= distance / np.linalg.norm(pose[:3, 3])
        cameras.append((intrinsics, pose))
    return cameras


def render_object(
    kind: str,
    seed: int,
    index: int,
    camera: Camera | None = None,
    *,
    size: int = 128,
    supersample: int | None = None,
) -> Rendering:
    """Render object ``index`` from ``camera``, or from its own if none is given.

    Args:
        kind: ``heads`` or ``cars``.
        camera: (intrinsics of a ``size`` x ``size`` image, cam_to_world).
        supersample: rays per pixel along each side; None for the class's default.
    """
    chosen = procedural_class(kind)
    intrinsics, cam_to_world = draw_camera(kind, seed, index, size) if camera is None else camera
    background = chosen.background(_stream(seed, index, _BACKGROUND), size)
    solid = make_object(kind, seed, index)
    return render(solid, background, intrinsics, cam_to_world, size, supersample or chosen.supersample)


def world_keypoints(solid: Solid) -> dict[str, Float[np.ndarray, " 3"]]:
    """The keypoints of an object in world units."""
    origin = np.asarray(solid.origin)
    return {name: (np.asarray(point) - origin) / solid.unit for name, point in solid.keypoints().items()}


def _stream(seed: int, index: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, number])


def _head_camera(rng: np.random.Generator, size: int) -> Camera:
    """Portraits: the head turned up to 35 degrees to the sides and 15 up and down, not quite centred."""
    yaw, pitch, roll = rng.uniform(-35, 35), rng.uniform(-15, 15), 4.0 * rng.standard_normal()
    distance, focal = 4.63 * rng.uniform(0.93, 1.07), 2.0 * size * rng.uniform(0.96, 1.04)
    cam_to_world = turned_camera(yaw, pitch, distance, roll)
    sideways = np.clip(rng.normal(0.0, 0.035, 2), -0.09, 0.09)
    cam_to_world[:3, 3] += cam_to_world[:3, :2] @ sideways
    return intrinsic_matrix(focal, (0.5 * size, 0.5 * size)), cam_to_world


def _car_camera(rng: np.random.Generator, size: int) -> Camera:
    """From all round and somewhat above; the unit sphere fills 90% of the image."""
    yaw, pitch, distance = rng.uniform(0, 360), rng.uniform(5, 45), rng.uniform(3.0, 4.6)
    focal = 0.45 * size * np.sqrt(distance**2 - 1.0)
    return intrinsic_matrix(focal, (0.5 * size, 0.5 * size)), turned_camera(yaw, pitch, distance)


def _blurred_scene(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """An out-of-focus background of a portrait: a gradient with soft light and dark blobs."""
    row, column = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + 0.7 * ((column - 0.5) * np.cos(angle) + (row - 0.5) * np.sin(angle))
    first, second = rng.uniform(0.04, 0.7, (2, 1)) * rng.uniform(0.6, 1.0, (2, 3))
    image = first + ramp[..., None] * (second - first)
    for _ in range(int(rng.integers(2, 7))):
        x, y, radius = rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 1.1), rng.uniform(0.06, 0.3)
        color, strength = rng.uniform(0.02, 0.9) * rng.uniform(0.6, 1.0, 3), rng.uniform(0.2, 0.8)
        blob = strength * np.exp(-0.5 * ((column - x) ** 2 + (row - y) ** 2) / radius**2)
        image = image + blob[..., None] * (color - image)
    return np.clip(image, 0.0, 1.0)


def _white(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    return np.ones((size, size, 3))


PROCEDURAL_CLASSES: dict[str, ProceduralClass] = {
    "heads": ProceduralClass("heads", Head, _head_camera, _blurred_scene),
    "cars": ProceduralClass("cars", Car, _car_camera, _white),
}
