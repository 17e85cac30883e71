"""Rendering a solid from a camera: normals, light, shadow, supersampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.geometry import optical_axis
from nerfgen.synth.march import Hits, Raster, in_blocks, trace
from nerfgen.synth.sdf import Triple, Values

Color = Float[np.ndarray, " points 3"]


@dataclass(frozen=True)
class Light:
    """A key light with shadow, a fill light without, and light from sky and ground; linear RGB.

    Directions are unit vectors towards the light, in the object's frame.
    """

    key: Triple
    key_color: Triple
    fill: Triple
    fill_color: Triple
    sky: Triple
    ground: Triple
    # How far the key light wraps around the terminator: 0 hard (Lambert), 0.3 soft as skin.
    wrap: float


@dataclass(frozen=True)
class Material:
    """Reflectance at surface points: linear RGB ``albedo``, strength and sharpness of the gloss."""

    albedo: Color
    gloss: Values
    sharpness: Values


class Solid(Protocol):
    """An object of a procedural class, in its own unit of length (one world unit is ``unit`` of them)."""

    unit: float
    origin: Triple
    low: Triple
    high: Triple
    light: Light

    def distance(self, x: Values, y: Values, z: Values) -> Values:
        """Distance to the surface, negative inside; never much larger than the true distance."""

    def surface(self, x: Values, y: Values, z: Values) -> Material:
        """Colours and gloss at surface points."""

    def keypoints(self) -> dict[str, Triple]:
        """Named points of the surface, in the object's own frame."""


@dataclass(frozen=True)
class Rendering:
    """An image with its ground truth; ``depth`` along the optical axis in world units, 0 on the background."""

    rgb: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size"]
    depth: Float[np.ndarray, "size size"]


def render(
    solid: Solid,
    background: Float[np.ndarray, "size size 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_to_world: Float[np.ndarray, "4 4"],
    size: int,
    supersample: int,
) -> Rendering:
    """Render ``solid`` in front of ``background`` (linear RGB), with ``supersample`` squared rays per pixel."""
    raster = Raster(
        origin=cam_to_world[:3, 3] * solid.unit + np.asarray(solid.origin),
        right=cam_to_world[:3, 0],
        down=cam_to_world[:3, 1],
        forward=optical_axis(cam_to_world),
        focal=float(intrinsics[0, 0]) * supersample,
        center=(float(intrinsics[0, 2]) * supersample, float(intrinsics[1, 2]) * supersample),
        size=size * supersample,
    )
    hits = trace(solid.distance, raster, solid.low, solid.high)
    rows, columns = np.divmod(hits.index, raster.size)
    pixel = (rows // supersample) * size + columns // supersample
    color = _shade(solid, hits, pixel, raster.focal)

    samples = supersample * supersample
    count = np.bincount(pixel, minlength=size * size)
    coverage = (count / samples).reshape(size, size)
    total = np.stack([np.bincount(pixel, color[:, c], size * size) for c in range(3)], axis=-1)
    linear = total.reshape(size, size, 3) / samples + (1.0 - coverage[..., None]) * background
    depth = np.bincount(pixel, hits.depth, size * size) / np.maximum(count, 1) / solid.unit
    return Rendering(
        rgb=to_bytes(linear),
        mask=np.round(coverage * 255).astype(np.uint8),
        depth=depth.reshape(size, size).astype(np.float32),
    )


def to_bytes(linear: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Linear light in [0, 1] as sRGB bytes."""
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def _shade(solid: Solid, hits: Hits, pixel: np.ndarray, focal: float) -> Color:
    """Light that leaves each hit towards the camera, linear RGB."""
    if len(hits.index) == 0:
        return np.zeros((0, 3), np.float32)
    x, y, z, light = hits.x, hits.y, hits.z, solid.light
    nx, ny, nz = _normals(solid, hits, focal)
    # Shadow and occlusion are smooth: once for each pixel, not for each of its samples.
    _, first, back = np.unique(pixel, return_index=True, return_inverse=True)
    points = (x[first], y[first], z[first])
    normals = (nx[first], ny[first], nz[first])
    shadow = _shadow(solid, points, normals, light.key)[back]
    open_sky = _openness(solid, points, normals)[back]

    key = nx * light.key[0] + ny * light.key[1] + nz * light.key[2]
    diffuse = np.maximum((key + light.wrap) / (1.0 + light.wrap), 0.0) * shadow
    fill = (
        np.maximum((nx * light.fill[0] + ny * light.fill[1] + nz * light.fill[2] + 0.4) / 1.4, 0.0) * open_sky
    )
    up = (0.5 + 0.5 * ny) * open_sky
    down = (0.5 - 0.5 * ny) * open_sky
    # Blinn-Phong: the half vector of light and viewer against the normal.
    hx, hy, hz = (light.key[axis] - hits.direction[axis] for axis in range(3))
    half = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
    surface = solid.surface(x, y, z)
    gloss = surface.gloss * np.maximum(half, 0.0) ** surface.sharpness * shadow * (key > 0)
    color = np.empty((len(x), 3), np.float32)
    for channel in range(3):
        received = (
            diffuse * light.key_color[channel]
            + fill * light.fill_color[channel]
            + up * light.sky[channel]
            + down * light.ground[channel]
        )
        color[:, channel] = surface.albedo[:, channel] * received + gloss * light.key_color[channel]
    return color


def _normals(solid: Solid, hits: Hits, focal: float) -> tuple[Values, Values, Values]:
    """Unit normals by differences over about the width of a sample, the finest visible detail."""
    x, y, z = hits.x, hits.y, hits.z
    width = float(np.clip(0.5 * hits.depth.mean() / focal, 2e-4 * solid.unit, 0.01 * solid.unit))
    # Four corners of a tetrahedron give the gradient with as many distances.
    a = in_blocks(solid.distance, x + width, y - width, z - width)
    b = in_blocks(solid.distance, x - width, y - width, z + width)
    c = in_blocks(solid.distance, x - width, y + width, z - width)
    d = in_blocks(solid.distance, x + width, y + width, z + width)
    nx, ny, nz = a - b - c + d, c + d - a - b, b + d - a - c
    length = np.maximum(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
    return nx / length, ny / length, nz / length


def _shadow(
    solid: Solid, points: tuple[Values, Values, Values], normals: tuple[Values, Values, Values], key: Triple
) -> Values:
    """Fraction of the key light that arrives, 0 to 1, with soft edges from how narrowly rays pass solids."""
    result = np.ones_like(points[0])
    facing = normals[0] * key[0] + normals[1] * key[1] + normals[2] * key[2]
    # Where the surface turns away, the diffuse term is dark already.
    active = np.flatnonzero(facing > -0.2)
    x, y, z = (p[active] + 0.02 * solid.unit * n[active] for p, n in zip(points, normals, strict=True))
    t = np.full_like(x, 0.02 * solid.unit)
    open_way = np.ones_like(x)
    for _ in range(9):
        value = solid.distance(x + t * key[0], y + t * key[1], z + t * key[2])
        open_way = np.minimum(open_way, np.maximum(7.0 * value / t, 0.0))
        t = t + np.clip(value, 0.02 * solid.unit, 0.25 * solid.unit)
        going = np.flatnonzero((open_way > 0.02) & (t < 1.1 * solid.unit))
        result[active] = open_way
        if len(going) == 0:
            break
        active, x, y, z, t, open_way = (a[going] for a in (active, x, y, z, t, open_way))
    return result * result * (3.0 - 2.0 * result)


def _openness(
    solid: Solid, points: tuple[Values, Values, Values], normals: tuple[Values, Values, Values]
) -> Values:
    """Ambient visibility, 0 to 1, from distances at three heights above the surface."""
    closed = np.zeros_like(points[0])
    for height, weight in ((0.03, 9.0), (0.08, 4.5), (0.18, 2.0)):
        reach = height * solid.unit
        value = solid.distance(*(p + reach * n for p, n in zip(points, normals, strict=True)))
        closed += np.clip((reach - value) / solid.unit, 0.0, 0.2) * weight
    return np.clip(1.0 - closed, 0.15, 1.0)
