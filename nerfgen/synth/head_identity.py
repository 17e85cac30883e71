"""The identity of a head: about forty random parameters and the colours. Lengths in cm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nerfgen.synth.sdf import Triple

# Linear RGB.
_SKINS: tuple[Triple, ...] = (
    (0.80, 0.56, 0.45),
    (0.70, 0.46, 0.34),
    (0.58, 0.36, 0.25),
    (0.42, 0.25, 0.165),
    (0.26, 0.145, 0.09),
    (0.16, 0.088, 0.058),
)
_HAIRS: tuple[Triple, ...] = (
    (0.018, 0.014, 0.012),
    (0.045, 0.026, 0.016),
    (0.11, 0.058, 0.030),
    (0.24, 0.125, 0.05),
    (0.48, 0.31, 0.13),
    (0.28, 0.075, 0.025),
    (0.42, 0.41, 0.40),
)
_IRISES: tuple[Triple, ...] = (
    (0.07, 0.032, 0.014),
    (0.13, 0.07, 0.025),
    (0.12, 0.14, 0.06),
    (0.08, 0.18, 0.30),
    (0.20, 0.24, 0.26),
)


@dataclass(frozen=True)
class Identity:
    """Shape and colours of one head. Paired parts are given on the side of positive x."""

    cranium: Triple
    face: Triple
    jaw_back: Triple
    jaw_front: Triple
    chin: Triple
    chin_radius: float
    neck: float
    cheek: Triple
    muzzle: Triple
    ridge: float
    ear: Triple
    ear_radii: Triple
    eye_x: float
    eye_y: float
    eye_z: float
    eye_radius: float
    eye_half: float
    lid_up: float
    lid_down: float
    nose_root: Triple
    nose_tip: Triple
    nose_radius: float
    nose_wing: float
    mouth_y: float
    mouth_z: float
    mouth_half: float
    upper_lip: float
    lower_lip: float
    smile: float
    brow_height: float
    brow_thickness: float
    brow_slope: float
    hair_thickness: float
    hair_top: float
    hairline: float
    opening: Triple
    nape: float
    parting: float
    curtain_length: float
    bun: Triple
    bun_radius: float
    wave_height: float
    wave_pitch: float
    curl: float
    shoulder: float
    collar: float
    neckline: float
    stripe: float
    beard: float
    blush: float
    lip_paint: float
    skin_color: Triple
    lip_color: Triple
    hair_color: Triple
    brow_color: Triple
    iris_color: Triple
    clothes_color: Triple
    trim_color: Triple


def draw_identity(rng: np.random.Generator) -> Identity:
    """A head at random: sizes by clipped normals of 3 to 7% (nose 11%, lips 17%)."""

    def vary(mean: float, deviation: float) -> float:
        return mean * (1.0 + deviation * _clipped(rng))

    def shift(mean: float, deviation: float) -> float:
        return mean + deviation * _clipped(rng)

    overall = vary(1.0, 0.03)
    width, jaw, length = vary(1.0, 0.04), vary(1.0, 0.06), vary(1.0, 0.035)
    eye_y = shift(2.6, 0.18)
    nose_length, nose_out, nose_width = vary(3.55, 0.07), shift(6.3, 0.25), vary(1.0, 0.11)
    chin = (0.0, shift(-7.7, 0.4) * length, shift(2.1, 0.3))
    mouth_y, upper, lower = shift(-4.25, 0.2), vary(0.62, 0.17), vary(0.72, 0.17)
    tone, shade = float(rng.uniform(0, len(_SKINS) - 1)), vary(1.0, 0.06)
    skin = _mix(_SKINS, tone, shade)
    # Fair hair and light eyes go with fair skin, more often than not.
    fair = tone < 2.2
    hair = _HAIRS[int(rng.integers(0, 7 if fair else 3))] if rng.random() > 0.06 else _HAIRS[6]
    hair = _scaled(hair, vary(1.0, 0.15))
    iris = _scaled(_IRISES[int(rng.integers(0, 5 if fair else 2))], vary(1.0, 0.15))
    style = rng.choice(
        ["short", "full", "long", "bun", "buzz", "bald"], p=[0.27, 0.2, 0.28, 0.12, 0.08, 0.05]
    )
    long_haired = style in ("long", "bun")
    thickness = {"short": 1.2, "full": 2.0, "long": 1.6, "bun": 0.9, "buzz": 0.5, "bald": 0.0}[style]
    hue, brightness, saturation = rng.random(3)
    clothes = _hue(float(hue), float(0.03 + 0.6 * brightness**1.5), float(0.9 * saturation))
    bearded = not long_haired and rng.random() < 0.35
    painted = long_haired and rng.random() < 0.6
    parting, curly = float(rng.normal()), rng.random() < 0.35
    stripe_hue, striped, neckline = float(rng.random()), rng.random() < 0.3, float(rng.uniform(0, 4.0))
    identity = Identity(
        cranium=(vary(7.2 * width, 0.02), vary(9.2, 0.035) * overall, vary(9.2, 0.035)),
        face=(vary(6.1 * width, 0.02), 8.0 * length, vary(5.3, 0.03)),
        jaw_back=(4.8 * width * jaw, shift(-3.6, 0.3), -2.2),
        jaw_front=(vary(1.1, 0.15), chin[1] + 0.3, chin[2] - 0.2),
        chin=chin,
        chin_radius=vary(1.75, 0.07),
        neck=vary(4.9, 0.07) * (0.93 if long_haired else 1.05),
        cheek=(vary(2.1, 0.07), 2.3, vary(2.2, 0.07)),
        muzzle=(vary(3.1, 0.04), 2.7, vary(2.8, 0.03)),
        ridge=vary(0.75, 0.1),
        ear=(7.3 * width, shift(1.1, 0.3), -3.6),
        ear_radii=(0.75, vary(3.0, 0.08), vary(1.7, 0.07)),
        eye_x=vary(3.15, 0.035),
        eye_y=eye_y,
        eye_z=shift(2.35, 0.08),
        eye_radius=vary(1.3, 0.02),
        eye_half=vary(1.42, 0.05),
        lid_up=vary(0.62, 0.12),
        lid_down=vary(0.5, 0.1),
        nose_root=(0.0, eye_y + 0.7, shift(4.0, 0.15)),
        nose_tip=(0.0, eye_y - nose_length, nose_out),
        nose_radius=vary(0.92, 0.06) * nose_width,
        nose_wing=vary(1.2, 0.04) * nose_width,
        mouth_y=mouth_y,
        mouth_z=shift(4.75, 0.1),
        mouth_half=vary(2.55, 0.06),
        upper_lip=upper,
        lower_lip=lower,
        smile=shift(0.05, 0.14),
        brow_height=shift(1.75, 0.14),
        brow_thickness=vary(0.36, 0.2) * (0.8 if long_haired else 1.1),
        brow_slope=shift(0.0, 0.06),
        hair_thickness=vary(thickness, 0.2),
        hair_top=vary(1.2, 0.2),
        hairline=shift(8.0, 0.6) - (0.5 if style == "full" else 0.0),
        opening=(vary(6.7, 0.03) * width, 9.5, vary(7.4, 0.06)),
        nape=shift(1.2, 0.7),
        parting=parting,
        curtain_length=float(rng.uniform(11, 22)) if style == "long" else 0.0,
        bun=(0.0, shift(11.5, 1.5), shift(-11.5, 1.0)),
        bun_radius=vary(3.0, 0.15) if style == "bun" else 0.0,
        wave_height=vary(1.0 if curly else 0.6, 0.3) * (thickness > 0.5),
        wave_pitch=vary(2.2 if curly else 3.2, 0.15),
        curl=vary(2.2 if curly else 0.5, 0.2),
        shoulder=vary(14.0, 0.06) * (0.94 if long_haired else 1.05),
        collar=float(rng.uniform(0, 3.0)) if rng.random() < 0.35 else 0.0,
        neckline=neckline,
        stripe=vary(2.2, 0.3) if striped else 0.0,
        beard=float(rng.uniform(0.25, 0.9)) if bearded else 0.0,
        blush=float(rng.uniform(0.1, 0.5)),
        lip_paint=float(rng.uniform(0.4, 0.9)) if painted else 0.0,
        skin_color=skin,
        lip_color=(0.42, 0.05, 0.06) if painted else (skin[0] * 0.72, skin[1] * 0.46, skin[2] * 0.48),
        hair_color=hair,
        brow_color=_scaled(hair, 0.55),
        iris_color=iris,
        clothes_color=clothes,
        trim_color=_hue(stripe_hue, 0.5, 0.5),
    )
    return identity


def _clipped(rng: np.random.Generator) -> float:
    return float(np.clip(rng.standard_normal(), -2.0, 2.0))


def _scaled(color: Triple, factor: float) -> Triple:
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def _mix(palette: tuple[Triple, ...], position: float, factor: float) -> Triple:
    colors: Float[np.ndarray, "colors 3"] = np.asarray(palette)
    low = min(int(position), len(palette) - 2)
    mixed = (colors[low] + (position - low) * (colors[low + 1] - colors[low])) * factor
    return (float(mixed[0]), float(mixed[1]), float(mixed[2]))


def _hue(hue: float, value: float, saturation: float) -> Triple:
    """Linear RGB of a hue in [0, 1)."""
    wheel = [0.5 + 0.5 * np.cos(2 * np.pi * (hue - third)) for third in (0.0, 1 / 3, 2 / 3)]
    red, green, blue = (float(value * (1 - saturation + saturation * part)) for part in wheel)
    return (red, green, blue)
