"""Toy cars: the solid and its paint. y up, the front at +z; about 1.2 to 1.7 world units long."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nerfgen.synth.sdf import (
    Triple,
    Values,
    axle_cylinder,
    ellipsoid,
    rounded_box,
    slanted_plane,
    smooth_max,
    smooth_min,
    step,
)
from nerfgen.synth.shading import Color, Light, Material

_GLASS: Triple = (0.03, 0.045, 0.06)
_TYRE: Triple = (0.022, 0.022, 0.024)
_CHROME: Triple = (0.45, 0.46, 0.48)
_HEADLIGHT: Triple = (0.95, 0.90, 0.66)
_TAIL_LIGHT: Triple = (0.62, 0.015, 0.012)


@dataclass(frozen=True)
class Style:
    """Proportions of one body style; ranges are drawn from evenly.

    ``cabin_front`` and ``cabin_back``: where the glasshouse begins and ends at the belt line, as a fraction
    of half the length; ``windshield`` and ``rear`` lean: horizontal run for each unit of height.
    """

    half_length: tuple[float, float]
    body_height: tuple[float, float]
    cabin_height: tuple[float, float]
    cabin_front: tuple[float, float]
    cabin_back: tuple[float, float]
    windshield: tuple[float, float]
    rear: tuple[float, float]


STYLES = {
    "sedan": Style(
        (0.68, 0.78), (0.19, 0.23), (0.17, 0.21), (0.36, 0.50), (-0.74, -0.60), (0.8, 1.3), (0.7, 1.3)
    ),
    "hatchback": Style(
        (0.58, 0.66), (0.20, 0.25), (0.19, 0.25), (0.40, 0.55), (-0.97, -0.90), (0.6, 1.1), (0.2, 0.6)
    ),
    "van": Style(
        (0.66, 0.78), (0.24, 0.30), (0.24, 0.34), (0.62, 0.88), (-0.98, -0.93), (0.3, 0.7), (0.02, 0.12)
    ),
    "pickup": Style(
        (0.70, 0.80), (0.21, 0.25), (0.19, 0.24), (0.34, 0.50), (-0.22, -0.05), (0.5, 1.0), (0.05, 0.3)
    ),
}


class Car:
    """One car: a solid of :class:`nerfgen.synth.shading.Solid`, drawn by ``rng``. Mirrored in x."""

    unit = 1.2
    origin: Triple = (0.0, 0.0, 0.0)
    low: Triple = (-0.5, -0.5, -0.95)
    high: Triple = (0.5, 0.5, 0.95)
    light = Light(
        key=(0.40, 0.80, 0.447),
        key_color=(0.72, 0.70, 0.66),
        fill=(-0.70, 0.30, -0.648),
        fill_color=(0.22, 0.23, 0.25),
        sky=(0.36, 0.37, 0.39),
        ground=(0.20, 0.20, 0.19),
        wrap=0.15,
    )

    def __init__(self, rng: np.random.Generator) -> None:
        def between(bounds: tuple[float, float]) -> float:
            return float(rng.uniform(*bounds))

        self.style = str(rng.choice(list(STYLES), p=[0.34, 0.28, 0.2, 0.18]))
        style = STYLES[self.style]
        self.half_length, self.half_width = between(style.half_length), between((0.26, 0.32))
        clearance, body, cabin = (
            between((0.05, 0.085)),
            between(style.body_height),
            between(style.cabin_height),
        )
        # The arches stay below the hood.
        self.wheel_radius = between((0.38, 0.44)) * (clearance + body - 0.04)
        # Ground, underside, belt line and roof, with the middle of the height at 0.
        self.ground = -0.5 * (clearance + body + cabin)
        self.bottom = self.ground + clearance
        self.belt = self.bottom + body
        self.roof = self.belt + cabin
        self.cabin_front = between(style.cabin_front) * self.half_length
        self.cabin_back = between(style.cabin_back) * self.half_length
        self.windshield, self.rear = between(style.windshield), between(style.rear)
        self.tumblehome, self.rounding = between((0.15, 0.4)), between((0.05, 0.10))
        self.hood_slope, self.trunk_slope = between((0.06, 0.2)), between((0.0, 0.15))
        self.wheel_base = between((0.58, 0.66)) * self.half_length
        self.wheel_shift = between((-0.02, 0.03))
        self.wheel_width = between((0.045, 0.065))
        self.light_height = self.bottom + between((0.5, 0.68)) * body
        self.light_x = between((0.62, 0.74)) * self.half_width
        self.light_radii = (between((0.045, 0.065)), between((0.03, 0.05)))
        self.bumper = between((0.01, 0.035))
        self.pillar = between((0.35, 0.6))

        self.paint = _paint(rng)
        self.second_paint = _paint(rng)
        self.decor = str(
            rng.choice(["plain", "two-tone", "racing", "side", "roof"], p=[0.5, 0.2, 0.1, 0.1, 0.1])
        )
        self.decor_width = between((0.03, 0.06))
        self.rim = _CHROME if rng.random() < 0.7 else self.second_paint

    def distance(self, x: Values, y: Values, z: Values) -> Values:
        return np.minimum.reduce(self._parts(np.abs(x), y, z))

    def surface(self, x: Values, y: Values, z: Values) -> Material:
        ax = np.abs(x)
        part = np.stack(self._parts(ax, y, z)).argmin(axis=0)
        albedo = self._body_paint(ax, y, z)
        glass = self._glass(ax, y, z)
        albedo += glass[:, None] * (np.asarray(_GLASS, np.float32) - albedo)
        wheel_z = np.abs(z - self.wheel_shift) - self.wheel_base
        from_hub = np.hypot(wheel_z, y - self.ground - self.wheel_radius) / self.wheel_radius
        hub = step(from_hub, 0.64, 0.56)
        tyre = np.asarray(_TYRE, np.float32)
        wheel = tyre + hub[:, None] * (np.asarray(self.rim, np.float32) - tyre)
        albedo = np.where((part == 1)[:, None], wheel, albedo)
        albedo = np.where((part == 2)[:, None], np.asarray(_CHROME, np.float32) * 0.6, albedo)
        lamp = np.where(
            (z > 0)[:, None], np.asarray(_HEADLIGHT, np.float32), np.asarray(_TAIL_LIGHT, np.float32)
        )
        albedo = np.where((part == 3)[:, None], lamp, albedo).astype(np.float32)
        matt = (part == 1) & (hub < 0.5)
        gloss = np.where(matt, 0.02, 0.22 + 0.2 * glass * (part == 0)).astype(np.float32)
        return Material(albedo, gloss, np.full_like(x, 30.0))

    def keypoints(self) -> dict[str, Triple]:
        hub_x = self.half_width + 0.01
        axle_y = self.ground + self.wheel_radius
        front, back = self.wheel_shift + self.wheel_base, self.wheel_shift - self.wheel_base
        lamp_z = self.half_length + 0.5 * self.light_radii[1]
        points: dict[str, Triple] = {}
        for side, sign in (("left", -1.0), ("right", 1.0)):
            points[f"headlight_{side}"] = (sign * self.light_x, self.light_height, lamp_z)
            points[f"tail_light_{side}"] = (sign * self.light_x, self.light_height, -lamp_z)
            points[f"wheel_front_{side}"] = (sign * hub_x, axle_y, front)
            points[f"wheel_back_{side}"] = (sign * hub_x, axle_y, back)
        return points

    def _parts(self, ax: Values, y: Values, z: Values) -> list[Values]:
        """Distances to body, wheels, bumpers and lamps."""
        length, width = self.half_length, self.half_width
        middle, half = 0.5 * (self.bottom + self.belt), 0.5 * (self.belt - self.bottom)
        body = rounded_box(ax, y, z, (0.0, middle, 0.0), (width, half, length), self.rounding)
        hood = slanted_plane(y, z - self.cabin_front, self.belt, -self.hood_slope)
        trunk = slanted_plane(y, z - self.cabin_back, self.belt, self.trunk_slope)
        body = smooth_max(body, np.maximum(hood, trunk), 0.05)
        if self.style == "pickup":
            # Its walls are thick enough to keep the wheel arches out.
            floor = self.belt - 0.6 * (self.belt - self.bottom)
            back, front = -length + 0.05, self.cabin_back - 0.05
            bed = rounded_box(
                ax,
                y,
                z,
                (0.0, floor + 0.3, 0.5 * (back + front)),
                (width - 0.05, 0.3, 0.5 * (front - back)),
                0.02,
            )
            body = smooth_max(body, -bed, 0.02)
        body = smooth_min(body, self._cabin(ax, y, z), 0.03)
        wheel_z, axle = np.abs(z - self.wheel_shift), self.ground + self.wheel_radius
        center = (width, axle, self.wheel_base)
        body = smooth_max(
            body, -axle_cylinder(ax, y, wheel_z, center, 1.15 * self.wheel_radius, 0.09, 0.01), 0.02
        )
        inset = (width + 0.01 - self.wheel_width, axle, self.wheel_base)
        wheels = axle_cylinder(ax, y, wheel_z, inset, self.wheel_radius, self.wheel_width, 0.02)
        bumper_half = (0.96 * width, 0.025, 0.03)
        bumper = rounded_box(
            ax, y, np.abs(z), (0.0, self.bottom + 0.035, length - 0.03 + self.bumper), bumper_half, 0.02
        )
        flat, deep = self.light_radii
        lamps = ellipsoid(
            ax, y, np.abs(z), (self.light_x, self.light_height, length - 0.5 * deep), (flat, 0.7 * flat, deep)
        )
        return [body, wheels, bumper, lamps]

    def _cabin_sides(self, ax: Values, y: Values, z: Values) -> tuple[Values, Values, Values, Values]:
        """Distances beyond the cabin's side, windshield, rear and roof; all negative inside."""
        rise = y - self.belt
        side = (ax - (self.half_width - 0.02) + self.tumblehome * rise) / math.hypot(1.0, self.tumblehome)
        front = (z - self.cabin_front + self.windshield * rise) / math.hypot(1.0, self.windshield)
        rear = (self.cabin_back - z + self.rear * rise) / math.hypot(1.0, self.rear)
        return side, front, rear, y - self.roof

    def _cabin(self, ax: Values, y: Values, z: Values) -> Values:
        side, front, rear, top = self._cabin_sides(ax, y, z)
        round_off = 0.07
        solid = smooth_max(smooth_max(side, np.maximum(front, rear), round_off), top, round_off)
        return np.maximum(solid, self.bottom + 0.02 - y)

    def _glass(self, ax: Values, y: Values, z: Values) -> Values:
        """Fraction of glass, 0 to 1: panes inside their frames on the four sides of the cabin."""
        side, front, rear, top = self._cabin_sides(ax, y, z)
        above = np.minimum(y - self.belt - 0.025, -top - 0.035)
        ends = np.minimum(-front, -rear) - 0.035
        pillar = self.cabin_front + self.pillar * (self.cabin_back - self.cabin_front)
        lateral = np.minimum(np.minimum(above, ends), np.abs(z - pillar) - 0.012)
        if self.style == "van":
            # Panels, not panes, behind the front doors.
            lateral = np.minimum(lateral, z - pillar)
        across = np.minimum(above, -side - 0.03)
        facing_ends = (np.maximum(front, rear) > side).astype(np.float32)
        return np.where(facing_ends > 0, step(across, -0.004, 0.004), step(lateral, -0.004, 0.004))

    def _body_paint(self, ax: Values, y: Values, z: Values) -> Color:
        amount = np.zeros_like(ax)
        edge = 0.006
        belt_line = 0.45 * (self.bottom + self.belt)
        if self.decor == "two-tone":
            amount = step(y, belt_line + edge, belt_line - edge)
        elif self.decor == "racing":
            inner, outer = 0.02, 0.02 + 1.6 * self.decor_width
            amount = step(ax, inner - edge, inner + edge) * step(ax, outer + edge, outer - edge)
        elif self.decor == "side":
            amount = step(
                np.abs(y - belt_line - 0.03), 0.6 * self.decor_width + edge, 0.6 * self.decor_width - edge
            )
        elif self.decor == "roof":
            amount = step(y, self.belt + 0.01, self.belt + 0.03)
        # The gap around the door.
        door = np.abs(np.abs(z - 0.5 * (self.cabin_front + self.cabin_back)) - 0.17)
        gap = (
            step(door, 0.012, 0.004)
            * step(y, self.bottom + 0.03, self.bottom + 0.05)
            * (ax > 0.8 * self.half_width)
        )
        paint, second = np.asarray(self.paint, np.float32), np.asarray(self.second_paint, np.float32)
        color = paint + amount[:, None] * (second - paint)
        return color * (1.0 - 0.55 * gap * (y < self.belt))[:, None]


def _paint(rng: np.random.Generator) -> Triple:
    """Linear RGB of a car's paint: mostly strong colours, some grey, white and black."""
    if rng.random() < 0.25:
        grey = float(rng.choice([0.03, 0.15, 0.4, 0.75]))
        return (grey, grey, grey)
    hue, value, purity = float(rng.random()), float(rng.uniform(0.25, 0.8)), float(rng.uniform(0.75, 1.0))
    wheel = [np.clip(abs((hue * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0.0, 4.0, 2.0)]
    red, green, blue = (float(value * (1 - purity + purity * part)) ** 1.3 for part in wheel)
    return (red, green, blue)
