"""Training recipes: every number that a run depends on, in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from nerfgen.errors import InputError
from nerfgen.field import FieldConfig


@dataclass(frozen=True)
class Preset:
    """One recipe. Every field can be overridden with ``--set name=value``.

    Attributes:
        size: edge of the square raster that each photograph's window is resampled to, pixels.
        field: ``mlp`` is the published network, ``planes`` the fast one.
        latent_size: D.
        width, depth, frequencies: hidden layers of the foreground network and octaves of its encoding.
        plane_size, plane_channels: feature planes (only ``planes``).
        mirror: take objects for mirror-symmetric (only ``planes``, and classes that are so).
        odd_channels: channels that may differ between the sides of a mirrored object.
        background_width, background_depth: hidden layers of the background network.
        density_scale: density per world unit of a raw output around 1.5.
        sampler: ``even`` is stratified over the whole cube, ``guided`` follows a class-shared occupancy.
        samples: samples a ray.
        images_per_batch, rays_per_image: a step's rays.
        foreground_share: share of the rays that is drawn inside the dilated mask; the rest anywhere.
        steps: length of a run.
        learning_rate, latent_learning_rate: Adam's rates at the start, of the networks and of the table.
        final_rate: share of these rates at the end; the decay is exponential.
        adam_b2: decay of Adam's second moment.
        latent_std: standard deviation of the table's first values; what of them training does not overwrite
            stays in the objects as noise.
        lambda_mask, lambda_hard: weights of the mask loss and of the hard-surface loss.
        lambda_smooth: weight, at the end of the run, of squared differences between neighbours in the planes (only
            ``planes``); it grows from 0. Without it, what few photographs show is grainy.
        camera_learning_rate: Adam's rate for a six-number correction of each camera; 0 keeps cameras as they are.
        camera_start: share of the run after which cameras move.
        pose_share: where cameras move, share of the run in which codes have only ``pose_latent_size`` numbers,
            too few to absorb camera errors, so that the cameras are mended first.
        pose_latent_size: see ``pose_share``.
        pose_fade: share of the run over which the rest of the codes then comes in.
        focal_learning_rate: Adam's rate for the logarithm of one factor of all focal lengths; 0 keeps them. Distances
            grow with it, so that only the perspective changes. It can be known where objects are turned far.
    """

    size: int
    field: Literal["mlp", "planes"]
    latent_size: int
    width: int
    depth: int
    frequencies: int
    plane_size: int
    plane_channels: int
    mirror: bool
    odd_channels: int
    background_width: int
    background_depth: int
    density_scale: float
    sampler: Literal["even", "guided"]
    samples: int
    images_per_batch: int
    rays_per_image: int
    foreground_share: float
    steps: int
    learning_rate: float
    latent_learning_rate: float
    final_rate: float
    adam_b2: float
    latent_std: float
    lambda_mask: float
    lambda_hard: float
    lambda_smooth: float
    camera_learning_rate: float
    camera_start: float
    pose_share: float
    pose_latent_size: int
    pose_fade: float
    focal_learning_rate: float

    def with_values(self, **values: Any) -> Preset:
        """A copy with fields replaced; strings are converted to the field's type.

        Raises:
            InputError: an unknown field or a value of the wrong type.
        """
        converted: dict[str, Any] = {}
        for name, value in values.items():
            if name not in {field.name for field in fields(self)}:
                known = ", ".join(field.name for field in fields(self))
                raise InputError(f"a preset has no field {name!r}; its fields are {known}")
            kind = type(getattr(self, name))
            try:
                converted[name] = _truth(value) if kind is bool else kind(value)
            except ValueError as error:
                raise InputError(f"{name} wants a value of type {kind.__name__}, not {value!r}") from error
            _check_number(name, converted[name])
            if name in _CHOICES and converted[name] not in _CHOICES[name]:
                raise InputError(f"{name} is one of {', '.join(_CHOICES[name])}, not {value!r}")
        return replace(self, **converted)

    def field_config(self, bounds: tuple[float, float, float]) -> FieldConfig:
        """Sizes of the networks, for objects within the box of half edges ``bounds``."""
        shared = {field.name for field in fields(FieldConfig)} & {field.name for field in fields(self)}
        return FieldConfig(kind=self.field, bounds=bounds, **{name: getattr(self, name) for name in shared})


_MAY_BE_ZERO = {
    "steps",
    "frequencies",
    "foreground_share",
    "learning_rate",
    "latent_learning_rate",
    "latent_std",
}
_MAY_BE_ZERO |= {
    "lambda_mask",
    "lambda_hard",
    "lambda_smooth",
    "camera_learning_rate",
    "camera_start",
    "pose_share",
}
_MAY_BE_ZERO |= {"focal_learning_rate", "odd_channels"}
_AT_MOST_ONE = {"foreground_share", "final_rate", "adam_b2", "camera_start", "pose_share", "pose_fade"}


def _truth(value: Any) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in words:
        raise ValueError
    return words[str(value).lower()]


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, str | bool):
        return
    least = name in _MAY_BE_ZERO
    if not math.isfinite(value) or value < 0 or (value == 0 and not least):
        raise InputError(f"{name} has to be {'at least' if least else 'above'} 0, not {value}")
    if name in _AT_MOST_ONE and value > 1:
        raise InputError(f"{name} has to be at most 1, not {value}")


_CHOICES = {"field": ("mlp", "planes"), "sampler": ("even", "guided")}

PAPER = Preset(
    size=128,
    field="mlp",
    latent_size=256,
    width=256,
    depth=8,
    frequencies=10,
    plane_size=32,
    plane_channels=8,
    mirror=False,
    odd_channels=0,
    background_width=256,
    background_depth=5,
    density_scale=12.0,
    sampler="even",
    samples=128,
    images_per_batch=32,
    rays_per_image=32,
    foreground_share=0.0,
    steps=500_000,
    learning_rate=5e-4,
    latent_learning_rate=5e-4,
    final_rate=0.2,
    adam_b2=0.999,
    latent_std=0.1,
    lambda_mask=1.0,
    lambda_hard=0.1,
    lambda_smooth=0.0,
    camera_learning_rate=0.0,
    camera_start=0.0,
    pose_share=0.0,
    pose_latent_size=256,
    pose_fade=0.1,
    focal_learning_rate=0.0,
)

# The published sizes for CelebA-HQ and FFHQ at 256 x 256.
PAPER_HQ = replace(PAPER, size=256, latent_size=2048, width=1024, pose_latent_size=2048)

FAST = replace(
    PAPER,
    size=64,
    field="planes",
    latent_size=32,
    width=32,
    depth=2,
    mirror=True,
    odd_channels=2,
    background_width=32,
    background_depth=2,
    sampler="guided",
    samples=16,
    images_per_batch=64,
    rays_per_image=16,
    foreground_share=0.75,
    steps=4_000,
    learning_rate=5e-3,
    latent_learning_rate=5e-2,
    final_rate=0.02,
    adam_b2=0.99,
    latent_std=0.01,
    lambda_smooth=3.0,
    camera_learning_rate=2.5e-2,
    camera_start=0.08,
    pose_share=0.4,
    pose_latent_size=12,
)

QUALITY = replace(
    FAST,
    size=128,
    latent_size=96,
    plane_size=48,
    samples=24,
    rays_per_image=32,
    steps=60_000,
)

PRESETS = {"paper": PAPER, "paper-hq": PAPER_HQ, "fast": FAST, "quality": QUALITY}
