"""The colours of a head: iris and lashes, brows, lips, blush, beard, hair and clothes. Lengths in cm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from nerfgen.synth.head_identity import Identity
from nerfgen.synth.sdf import Triple, Values, bump, step
from nerfgen.synth.shading import Color, Material

_SCLERA: Triple = (0.74, 0.72, 0.70)
_DARK: Triple = (0.012, 0.009, 0.008)


def almond(who: Identity, ax: Values, y: Values) -> Values:
    """Signed height beyond the opening of the lids, as seen from the front: negative inside."""
    u = (ax - who.eye_x) / who.eye_half
    v = y - who.eye_y - 0.06 * u
    arch = 1.0 - u * u
    return np.maximum(v - who.lid_up * arch, -v - who.lid_down * arch)


def paint(who: Identity, part: np.ndarray, x: Values, y: Values, z: Values) -> Material:
    """Colours at surface points; ``part`` is the part of each: 0 skin, 1 eye, 2 hair, 3 clothes."""
    albedo = np.empty((len(x), 3), np.float32)
    gloss, sharpness = np.empty_like(x), np.empty_like(x)
    painters: tuple[tuple[Callable[..., Color], float, float], ...] = (
        (_skin, 0.09, 14.0),
        (_eye, 0.9, 160.0),
        (_hair, 0.10, 9.0),
        (_clothes, 0.02, 8.0),
    )
    for number, (painter, strength, exponent) in enumerate(painters):
        chosen = np.flatnonzero(part == number)
        if len(chosen):
            albedo[chosen] = painter(who, x[chosen], y[chosen], z[chosen])
            gloss[chosen], sharpness[chosen] = strength, exponent
    return Material(albedo, gloss, sharpness)


def _flat(color: Triple, count: int) -> Color:
    return np.tile(np.asarray(color, np.float32), (count, 1))


def _blend(base: Color, color: Triple | Float[np.ndarray, "*points 3"], amount: Values) -> Color:
    return base + amount[:, None] * (np.asarray(color, np.float32) - base)


def _skin(who: Identity, x: Values, y: Values, z: Values) -> Color:
    ax = np.abs(x)
    front = step(z, 0.5, 2.0)
    base = _flat(who.skin_color, len(x))
    # Blood under the skin: cheeks, nose and ears are redder; lids a little darker.
    red = np.asarray(who.skin_color, np.float32) * np.array([1.02, 0.72, 0.72], np.float32)
    flush = who.blush * bump(np.hypot(ax - 4.3, y + 0.9), 1.7) * front
    flush += 0.35 * bump(np.hypot(ax, y - who.nose_tip[1]), 1.3) * step(z, 4.0, 5.5) + 0.5 * step(
        ax, 7.0, 7.6
    )
    base = _blend(base, red, np.minimum(flush, 1.0))
    opening = almond(who, ax, y)
    hollow = 0.28 * bump(np.hypot((ax - who.eye_x) * 0.6, y - who.eye_y), 0.95) * front
    ear = who.ear
    hollow += (
        0.45
        * bump(np.hypot((y - ear[1] - 0.3) * 0.5, z - ear[2] - 0.2), 0.5)
        * step(ax, ear[0] - 0.2, ear[0] + 0.2)
    )
    base *= (1.0 - hollow)[:, None]
    base = _beard(who, base, ax, y, z)

    across = np.minimum(ax / who.mouth_half, 1.2)
    bow = 1.0 - across * across
    height = y - who.mouth_y - who.smile * across * across
    top = (0.36 + 0.95 * who.upper_lip) * bow - 0.16 * bump(ax, 0.35)
    bottom = (0.46 + 0.85 * who.lower_lip) * np.sqrt(np.maximum(bow, 0.0))
    lips = step(np.maximum(height - top, -height - bottom), 0.1, -0.1) * step(z, 2.0, 3.0)
    base = _blend(base, who.lip_color, 0.9 * lips)
    line = bump(height, 0.1) * step(across, 1.04, 0.9) * step(z, 2.0, 3.0)
    base = _blend(base, _DARK, 0.85 * line)

    along = np.clip((ax - 1.3) / 3.6, 0.0, 1.0)
    arc = who.eye_y + who.brow_height + who.brow_slope * (ax - 3.0) + 0.45 * np.sin(2.6 * along) - 0.25
    thick = who.brow_thickness * (1.0 - 0.65 * along * along)
    brow = step(np.abs(y - arc), thick + 0.1, thick - 0.12) * step(ax, 0.9, 1.5) * step(ax, 5.2, 4.6) * front
    base = _blend(base, who.brow_color, 0.88 * brow)

    upper = step(y, who.eye_y - 0.15, who.eye_y + 0.1)
    near_eye = step(np.abs(ax - who.eye_x), who.eye_half + 0.25, who.eye_half) * front
    lashes = step(opening, 0.26, 0.1) * (0.28 + 0.67 * upper) * near_eye
    base = _blend(base, _DARK, lashes)
    crease = bump(opening - 0.52, 0.09) * upper * near_eye
    base = _blend(base, _DARK, 0.3 * crease)

    tip = who.nose_tip
    nostril = bump(np.hypot((ax - 0.55 * who.nose_wing) / 1.15, y - tip[1] + 1.0), 0.3)
    return _blend(base, _DARK, 0.9 * nostril * step(z, tip[2] - 1.9, tip[2] - 1.4))


def _beard(who: Identity, base: Color, ax: Values, y: Values, z: Values) -> Color:
    """Hair painted on chin, jaw and upper lip, and the shadow of cropped hair on the skull."""
    if who.beard > 0:
        cheek_line = -4.9 + 0.9 * step(ax, 1.0, 3.2) + 3.4 * step(z, 1.5, -2.0)
        low = step(y - cheek_line, 0.9, -0.9) * step(y, -11.0, -9.0) * step(z, -3.8, -2.6)
        moustache = bump(np.hypot(ax * 0.33, y - who.mouth_y - 1.05), 0.4) * step(z, 3.0, 4.0)
        base = _blend(base, who.brow_color, who.beard * np.maximum(low, moustache))
    if who.hair_thickness <= 0:
        scalp = step(y - 0.8 * (z + 4.0), who.nape, who.nape + 1.2) * step(z, 2.5, 0.5)
        base = _blend(base, who.hair_color, 0.25 * scalp)
    return base


def _eye(who: Identity, x: Values, y: Values, z: Values) -> Color:
    ax = np.abs(x)
    radius = np.hypot(ax - who.eye_x, y - who.eye_y)
    iris = 0.5 * who.eye_radius
    base = _flat(_SCLERA, len(x))
    base = _blend(base, (0.55, 0.30, 0.26), step(np.abs(ax - who.eye_x), 0.95, 1.4) * 0.5)
    base = _blend(base, who.iris_color, step(radius, iris + 0.04, iris - 0.04))
    base = _blend(base, _DARK, 0.8 * bump(radius - iris + 0.02, 0.07))
    base = _blend(base, _DARK, step(radius, 0.46 * iris, 0.34 * iris))
    glint = np.hypot(x - np.sign(x) * who.eye_x + 0.24, y - who.eye_y - 0.26)
    base = _blend(base, (1.0, 1.0, 1.0), 0.9 * step(glint, 0.16, 0.06))
    # The lids shade the ball, the upper one most.
    opening = almond(who, ax, y)
    lid = step(opening, -0.32, 0.0) * (0.35 + 0.45 * step(y - who.eye_y, -0.1, 0.2))
    return base * (1.0 - lid)[:, None]


def _hair(who: Identity, x: Values, y: Values, z: Values) -> Color:
    """Strands: fine light and dark lines that run down from the crown."""
    around = np.arctan2(x, z + 4.5) + 0.03 * who.curl * np.sin(0.8 * y)
    strand = 0.6 * np.sin(46.0 * around) + 0.4 * np.sin(19.0 * around + 0.25 * y)
    lift = 1.0 + 0.3 * strand
    roots = 0.75 + 0.25 * step(np.abs(x - who.parting), 0.0, 1.2)
    return np.asarray(who.hair_color, np.float32) * (lift * roots)[:, None]


def _clothes(who: Identity, x: Values, y: Values, z: Values) -> Color:
    base = _flat(who.clothes_color, len(x))
    if who.stripe > 0:
        base = _blend(base, who.trim_color, step(np.sin(2 * np.pi * y / who.stripe), -0.2, 0.2))
    if who.collar <= 0:
        # An open neck: skin above a V (or almost none).
        v = np.abs(x) * 1.3 - (y + 14.0 + who.neckline)
        base = _blend(base, who.skin_color, step(v, 0.2, -0.2) * step(z, -5.5, -4.5))
    return base
