"""Human-like heads: the solid. All lengths in cm, x to the viewer's right, y up, z out of the face."""

from __future__ import annotations

import numpy as np

from nerfgen.synth import head_paint
from nerfgen.synth.head_identity import Identity, draw_identity
from nerfgen.synth.sdf import (
    Triple,
    Values,
    capsule,
    ellipsoid,
    slanted_plane,
    smooth_max,
    smooth_min,
    sphere,
)
from nerfgen.synth.shading import Light, Material

# Features of the face change the distance to its bulk by less than this.
_DETAIL_DEPTH = 0.9
_DETAIL_FROM = 1.8

SKIN, EYE, HAIR, CLOTHES = range(4)


class Head:
    """One person: a solid of :class:`nerfgen.synth.shading.Solid`, drawn by ``rng``."""

    unit = 13.5
    origin: Triple = (0.0, 2.2, -2.5)
    low: Triple = (-21.0, -22.0, -19.0)
    high: Triple = (21.0, 18.5, 9.0)
    light = Light(
        key=(-0.457, 0.508, 0.730),
        key_color=(0.86, 0.82, 0.76),
        fill=(0.762, 0.127, 0.635),
        fill_color=(0.20, 0.21, 0.24),
        sky=(0.24, 0.25, 0.27),
        ground=(0.13, 0.11, 0.10),
        wrap=0.25,
    )

    def __init__(self, rng: np.random.Generator) -> None:
        self.identity = draw_identity(rng)

    def distance(self, x: Values, y: Values, z: Values) -> Values:
        ax = np.abs(x)
        bulk = self._bulk(ax, y, z)
        others = np.minimum(self._clothes(ax, y, z), self._hair(ax, x, y, z))
        # Lids, lips and nostrils matter only close by; farther off a bound will do.
        result = np.minimum(bulk - np.where(bulk > _DETAIL_FROM, np.float32(_DETAIL_DEPTH), 0), others)
        near = np.flatnonzero(
            (bulk < _DETAIL_FROM) & (z > -1.5) & (y > -9.0) & (y < 8.0) & (bulk < others + 1.0)
        )
        if len(near):
            ax, y, z = ax[near], y[near], z[near]
            skin = self._features(bulk[near], ax, y, z)
            result[near] = np.minimum(np.minimum(skin, self._eyeball(ax, y, z)), others[near])
        return result

    def surface(self, x: Values, y: Values, z: Values) -> Material:
        ax = np.abs(x)
        skin = self._features(self._bulk(ax, y, z), ax, y, z)
        parts = np.stack([skin, self._eyeball(ax, y, z), self._hair(ax, x, y, z), self._clothes(ax, y, z)])
        return head_paint.paint(self.identity, parts.argmin(axis=0), x, y, z)

    def keypoints(self) -> dict[str, Triple]:
        who = self.identity
        points = {
            "eye_left": (-who.eye_x, who.eye_y),
            "eye_right": (who.eye_x, who.eye_y),
            "nose_tip": (0.0, who.nose_tip[1]),
            "mouth_left": (-who.mouth_half, who.mouth_y + who.smile),
            "mouth_right": (who.mouth_half, who.mouth_y + who.smile),
        }
        x, y = (np.array([point[axis] for point in points.values()], np.float32) for axis in (0, 1))
        return {name: (*points[name], float(z)) for name, z in zip(points, self._front(x, y), strict=True)}

    def _front(self, x: Values, y: Values) -> Values:
        """z of the surface under each (x, y), seen from the front."""
        far, near, steps = np.zeros_like(x), np.full_like(x, 9.0), 65
        # Each round finds the first step, counted from the front, that is inside.
        for _ in range(3):
            z = np.linspace(near, far, steps, dtype=np.float32)
            across, up = np.broadcast_to(x, z.shape).ravel(), np.broadcast_to(y, z.shape).ravel()
            inside = self.distance(across, up, z.ravel()).reshape(z.shape) < 0
            first = np.maximum(inside.argmax(axis=0), 1)
            near, far = (np.take_along_axis(z, row[None], axis=0)[0] for row in (first - 1, first))
        return 0.5 * (near + far)

    def _bulk(self, ax: Values, y: Values, z: Values) -> Values:
        """Skull, face, jaw, nose, ears and neck."""
        who = self.identity
        d = ellipsoid(ax, y, z, (0.0, 4.6, -4.4), who.cranium)
        d = smooth_min(d, ellipsoid(ax, y, z, (0.0, -0.8, -0.6), who.face), 2.5)
        d = smooth_min(d, capsule(ax, y, z, who.jaw_back, who.jaw_front, 1.5, 1.2), 2.8)
        d = smooth_min(d, sphere(ax, y, z, who.chin, who.chin_radius), 1.5)
        d = smooth_min(d, capsule(ax, y, z, (0.0, -4.0, -5.0), (0.0, -17.0, -6.8), who.neck), 2.0)
        d = smooth_min(d, capsule(ax, y, z, who.nose_root, who.nose_tip, 0.55, who.nose_radius), 1.3)
        return smooth_min(d, ellipsoid(ax, y, z + 0.35 * (ax - 7.0), who.ear, who.ear_radii), 0.6)

    def _features(self, d: Values, ax: Values, y: Values, z: Values) -> Values:
        """The bulk ``d`` with cheeks, muzzle, brows, sockets, lids, wings of the nose and lips."""
        who = self.identity
        d = smooth_min(d, ellipsoid(ax, y, z, (4.0, -0.4, 1.9), who.cheek), 2.2)
        d = smooth_min(d, ellipsoid(ax, y, z, (0.0, -4.0, 2.2), who.muzzle), 2.0)
        ridge = capsule(ax, y, z, (1.0, who.eye_y + 1.5, 3.6), (4.6, who.eye_y + 1.35, 1.8), who.ridge)
        d = smooth_min(d, ridge, 1.3)
        socket = ellipsoid(ax, y, z, (who.eye_x + 0.1, who.eye_y, 4.6), (2.1, 1.15, 1.7))
        d = smooth_max(d, -socket, 1.3)
        tip = who.nose_tip
        wing = (who.nose_wing, tip[1] - 0.35, tip[2] - 1.35)
        d = smooth_min(d, ellipsoid(ax, y, z, wing, (0.62, 0.68, 0.95)), 0.55)
        nostril = (0.55 * who.nose_wing, tip[1] - 1.0, tip[2] - 0.75)
        d = smooth_max(d, -ellipsoid(ax, y, z, nostril, (0.34, 0.36, 0.5)), 0.25)
        d = self._lips(d, ax, y, z)
        lids = np.maximum(
            sphere(ax, y, z, (who.eye_x, who.eye_y, who.eye_z), who.eye_radius + 0.17),
            -np.maximum(head_paint.almond(who, ax, y), who.eye_z - z),
        )
        return smooth_min(d, lids, 0.3)

    def _lips(self, d: Values, ax: Values, y: Values, z: Values) -> Values:
        who = self.identity
        across = np.minimum(ax / who.mouth_half, 1.4)
        bend = across * across
        height = y - who.mouth_y - who.smile * bend
        forward = z + 0.95 * bend
        z_lips = who.mouth_z
        upper = ellipsoid(ax, height, forward, (0.0, 0.36, z_lips), (who.mouth_half, who.upper_lip, 0.72))
        lower = ellipsoid(
            ax, height, forward, (0.0, -0.46, z_lips - 0.05), (who.mouth_half * 0.92, who.lower_lip, 0.8)
        )
        d = smooth_min(d, upper, 0.35)
        d = smooth_min(d, lower, 0.35)
        groove = np.maximum(np.abs(height) - 0.07, np.abs(forward - z_lips - 0.6) - 0.45)
        return smooth_max(d, -np.maximum(groove, ax - who.mouth_half), 0.2)

    def _eyeball(self, ax: Values, y: Values, z: Values) -> Values:
        who = self.identity
        return sphere(ax, y, z, (who.eye_x, who.eye_y, who.eye_z), who.eye_radius)

    def _hair(self, ax: Values, x: Values, y: Values, z: Values) -> Values:
        who: Identity = self.identity
        if who.hair_thickness <= 0:
            return np.full_like(x, 50.0)
        a, b, c = who.cranium
        grown = who.hair_thickness
        shell = ellipsoid(
            x, y, z, (0.0, 4.8, -5.1), (a + 1.2 * grown, b + grown * who.hair_top, c + grown * 0.8)
        )
        shell = np.maximum(shell, -slanted_plane(y, z + 4.0, who.nape, 0.8))
        if who.curtain_length > 0:
            middle = 5.0 - 0.5 * who.curtain_length
            half = 0.5 * who.curtain_length + 2.0
            side = ellipsoid(ax, y, z, (who.cranium[0] - 0.6, middle, -4.6), (1.5 + grown, half, 4.0))
            back = ellipsoid(x, y, z, (0.0, middle, -9.2), (a + 0.2, half, 3.6))
            shell = smooth_min(shell, smooth_min(side, back, 2.0), 2.0)
        if who.bun_radius > 0:
            shell = smooth_min(shell, sphere(x, y, z, who.bun, who.bun_radius), 1.0)
        # The opening for the face, off-centre where the hair is parted to one side, its edge in locks.
        opening = ellipsoid(
            x - who.parting * (y - 2.0) * 0.12, y, z, (0.0, who.hairline - 9.5, 4.6), who.opening
        )
        phase = who.wave_pitch * (ax - 0.9 * z)
        locks = np.sin(phase + who.curl * np.sin(0.8 * y + who.parting))
        shell = smooth_max(shell, 0.25 * who.wave_height * locks - opening, 1.7)
        return shell + who.wave_height * 0.15 * locks

    def _clothes(self, ax: Values, y: Values, z: Values) -> Values:
        who = self.identity
        shoulders = capsule(ax, y, z, (0.0, -16.2, -7.0), (who.shoulder, -18.6, -7.2), 4.0)
        d = smooth_min(shoulders, ellipsoid(ax, y, z, (0.0, -27.0, -6.5), (18.0, 11.5, 9.0)), 3.0)
        if who.collar > 0:
            ring = np.maximum(
                np.abs(capsule(ax, y, z, (0.0, -4.0, -5.0), (0.0, -17.0, -6.8), who.neck + 0.7)) - 0.35,
                slanted_plane(y, z + 5.0, -13.5 + who.collar, -0.35),
            )
            d = smooth_min(d, ring, 0.8)
        return d
