"""Training recipes: every number that a run depends on, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from nerfgen.settings import (
    MAX_COUNT,
    MAX_SIZE,
    MAX_WEIGHT,
    SettingError,
    Settings,
    check_types,
    choices_of,
    plain_type,
    setting,
    settings_of,
    types_of,
)

if TYPE_CHECKING:
    from nerfgen.field import FieldConfig

_MAX_LAYER = 65_536
# Finite in float32: a rate that is too large diverges, which training reports.
_MAX_RATE = 1e30


@dataclass(frozen=True)
class Recipe(Settings, title="Recipe"):
    """One recipe: every number that a training run depends on. ``--set name=value`` replaces any of them."""

    size: int = setting(minimum=1, maximum=MAX_SIZE, unit="pixels", help="Size of a framed image.")
    field: Literal["mlp", "planes"] = setting(
        help="Networks: mlp is the published network, planes the fast one."
    )
    latent_size: int = setting(minimum=1, maximum=_MAX_LAYER, help="Global latent dimensions.")
    latent: Literal["continuous", "vq"] = setting(
        help="Global latent dimensions: continuous numbers, or vq, an entry of a learned codebook for each group of "
        "dimensions.",
    )
    codebook_groups: int = setting(
        minimum=1,
        maximum=_MAX_LAYER,
        help="Groups of global dimensions with a codebook each, a divisor of latent_size (vq only).",
    )
    codebook_size: int = setting(minimum=2, maximum=_MAX_LAYER, help="Entries of a codebook (vq only).")
    codebook_decay: float = setting(
        minimum=0, below=1, help="Decay per step of the moving averages that entries are (vq only)."
    )
    lambda_commitment: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the squared distance of latent codes from their entries (vq only).",
    )
    width: int = setting(
        minimum=1, maximum=_MAX_LAYER, help="Width of the foreground network's hidden layers."
    )
    depth: int = setting(minimum=1, maximum=256, help="Hidden layers of the foreground network.")
    frequencies: int = setting(
        minimum=0, maximum=30, help="Octaves of the foreground network's positional encoding."
    )
    plane_size: int = setting(
        minimum=2, maximum=4096, help="Cells along a side of a feature plane (planes only)."
    )
    plane_channels: int = setting(minimum=1, maximum=4096, help="Channels of a feature plane (planes only).")
    mirror: bool = setting(help="Treat objects as mirror-symmetric (planes only, and classes that are).")
    odd_channels: int = setting(
        minimum=0,
        maximum=4096,
        help="Plane channels that may differ between the two sides of a mirrored object.",
    )
    local_size: int = setting(
        minimum=0,
        maximum=4096,
        help="Cells along a side of the grid of local latent features that each object has for each plane, for detail "
        "that the global dimensions are too few for; 0 for none (planes only, and objects seen from one side only).",
    )
    local_channels: int = setting(minimum=0, maximum=4096, help="Channels of the local latent features.")
    background_cells: int = setting(
        minimum=0,
        maximum=4096,
        help="Cells along a side of the grid of local latent features of a background; 0 for none (objects seen "
        "from one side only).",
    )
    background_channels: int = setting(
        minimum=0, maximum=4096, help="Channels of the background's local latent features."
    )
    background_width: int = setting(
        minimum=1, maximum=_MAX_LAYER, help="Width of the background network's hidden layers."
    )
    background_depth: int = setting(minimum=1, maximum=256, help="Hidden layers of the background network.")
    density_scale: float = setting(
        above=0, maximum=MAX_WEIGHT, help="Density per world unit of a raw output around 1.5."
    )
    sampler: Literal["stratified", "occupancy"] = setting(
        help="Sample placement: stratified over the whole ray, or by an occupancy grid that the class shares."
    )
    samples: int = setting(minimum=1, maximum=4096, help="Samples per ray.")
    images_per_batch: int = setting(minimum=1, maximum=1_000_000, help="Images per step.")
    rays_per_image: int = setting(minimum=1, maximum=1_000_000, help="Rays per image.")
    foreground_fraction: float = setting(
        minimum=0,
        maximum=1,
        help="Fraction of the rays drawn inside the dilated mask; the rest are drawn anywhere.",
    )
    steps: int | None = setting(
        minimum=1, maximum=MAX_COUNT, help="Length of a run; none where minutes end it."
    )
    learning_rate: float = setting(
        minimum=0, maximum=_MAX_RATE, help="Adam's rate of the networks at the start."
    )
    latent_learning_rate: float = setting(
        minimum=0, maximum=_MAX_RATE, help="Adam's rate of the latent codes at the start."
    )
    local_learning_rate: float = setting(
        minimum=0, maximum=_MAX_RATE, help="Adam's rate of the local latent features at the start."
    )
    final_rate: float = setting(
        above=0, maximum=1, help="Fraction of these rates at the end; the decay is exponential."
    )
    adam_b2: float = setting(above=0, below=1, help="Decay of Adam's second moment.")
    freeze: Literal["none", "foreground", "background"] = setting(
        help="Network that stays as it is, while the other one and the latent codes of new images are learned; only "
        "where a model is continued.",
    )
    average_decay: float = setting(
        minimum=0,
        below=1,
        help="Decay per step of the moving average of the networks, which the model then has in place of those of the "
        "last step; 0 for none.",
    )
    latent_std: float = setting(
        minimum=0,
        maximum=1000,
        help="Standard deviation of the initial latent codes; what training does not overwrite stays as noise.",
    )
    initial_codes: Literal["noise", "images"] = setting(
        help="Latent codes before the first step: noise of latent_std, or principal components of the framed images "
        "(of objects seen from one side only).",
    )
    lambda_mask: float = setting(minimum=0, maximum=MAX_WEIGHT, help="Weight of the mask loss.")
    mask_margin: float = setting(
        minimum=0,
        below=0.5,
        help="Mask probabilities nearer than this to 0 or 1 are taken for 0 or 1; not those of true masks.",
    )
    lambda_opaque: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the loss that draws accumulated opacity to 0 or 1; not with true masks.",
    )
    lambda_hard: float = setting(minimum=0, maximum=MAX_WEIGHT, help="Weight of the hard-surface loss.")
    lambda_smooth: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the plane-smoothness loss at the end of the run; it grows from 0 (planes only). Without it, "
        "parts that few images show are grainy.",
    )
    lambda_perceptual: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the perceptual loss: the distance of image features between patches of images and their "
        "renderings. It keeps detail that squared errors blur; 0 for none. Needs the extra perceptual.",
    )
    patch_size: int = setting(
        minimum=1,
        maximum=MAX_SIZE,
        unit="pixels",
        help="Size of a patch (only with the perceptual or the adversarial loss).",
    )
    patches_per_batch: int = setting(
        minimum=1,
        maximum=1_000_000,
        help="Images of a batch that have a patch (only with the perceptual or the adversarial loss); a divisor of "
        "images_per_batch.",
    )
    lambda_adversarial: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the adversarial loss, by which patches of new views are to pass for patches of images; only "
        "where a model is fine-tuned. Needs the extra perceptual.",
    )
    adversarial_mask: Literal["hidden", "none"] = setting(
        help="What the adversarial loss may change of objects that an image shows: hidden, what the image does not "
        "show; none, everything.",
    )
    discriminator_rate: float = setting(
        minimum=0, maximum=_MAX_RATE, help="Adam's rate of the discriminator; it does not decay."
    )
    lambda_r1: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the discriminator's squared gradient at image features (R1).",
    )
    camera_learning_rate: float = setting(
        minimum=0,
        maximum=_MAX_RATE,
        help="Adam's rate of a six-number correction of each camera; 0 keeps cameras fixed.",
    )
    lambda_camera: float = setting(
        minimum=0,
        maximum=MAX_WEIGHT,
        help="Weight of the mean squared displacement, in widths of the framed image, of the canonical keypoints' "
        "projections by a camera's correction: ties cameras to the landmarks that they were fitted to.",
    )
    camera_start: float = setting(
        minimum=0, maximum=1, help="Fraction of the run after which cameras are refined."
    )
    pose_fraction: float = setting(
        minimum=0,
        maximum=1,
        help="Fraction of the run in which latent codes have only pose_latent_size active dimensions, too few to "
        "absorb camera errors, so that the cameras are corrected first; where cameras are refined.",
    )
    pose_latent_size: int = setting(
        minimum=1, maximum=_MAX_LAYER, help="Active latent dimensions at first; see pose_fraction."
    )
    pose_fade: float = setting(
        above=0, maximum=1, help="Fraction of the run over which the other latent dimensions fade in."
    )
    focal_learning_rate: float = setting(
        minimum=0,
        maximum=_MAX_RATE,
        help="Adam's rate of the logarithm of one factor of all focal lengths; 0 keeps them. Distances scale with it, "
        "so that only the perspective changes. It is determined only where objects are turned far.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pose_fraction > 0 and self.pose_fraction + self.pose_fade > 1:
            raise SettingError(
                f"`pose_fraction` {self.pose_fraction:g} and `pose_fade` {self.pose_fade:g} exceed 1 together: "
                "some latent dimensions would never fade in fully"
            )
        if self.has_patches:
            self._check_patches()
        if self.latent == "vq" and self.latent_size % self.codebook_groups:
            raise SettingError(
                f"`codebook_groups` {self.codebook_groups} does not divide `latent_size` {self.latent_size}; "
                "choose a divisor"
            )

    def _check_patches(self) -> None:
        from nerfgen.pretrained import MIN_FEATURE_SIZE

        if not MIN_FEATURE_SIZE <= self.patch_size <= self.size:
            raise SettingError(
                f"`patch_size` {self.patch_size} is not between {MIN_FEATURE_SIZE} and `size` {self.size} pixels, "
                "as the perceptual and the adversarial loss need it"
            )
        if self.images_per_batch % self.patches_per_batch:
            raise SettingError(
                f"`patches_per_batch` {self.patches_per_batch} does not divide `images_per_batch` "
                f"{self.images_per_batch}; choose a divisor"
            )

    def with_values(self, **values: Any) -> Recipe:
        """A copy with fields replaced; strings are converted to the field's type, names of earlier versions mapped.

        Raises:
            InputError: an unknown field, or a value of the wrong type or out of range.
        """
        known = settings_of(type(self))
        converted: dict[str, Any] = {}
        for given, value in values.items():
            name, value = _current(given, value)
            if name not in known:
                raise SettingError(f"a recipe has no field {given!r}; its fields are {', '.join(known)}")
            kind = plain_type(types_of(type(self))[name])
            try:
                converted[name] = _convert(name, str if choices_of(type(self), name) else kind, value)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise SettingError(
                    f"`{name}` takes a value of type {kind.__name__}, not {value!r}"
                ) from error
        return replace(self, **converted)

    def values(self) -> dict[str, Any]:
        """All fields, as files record them; :func:`recorded_recipe` reads them."""
        return asdict(self)

    @property
    def has_patches(self) -> bool:
        """Whether a step compares patches of images, by image features."""
        return self.lambda_perceptual > 0 or self.lambda_adversarial > 0

    @property
    def rays_per_batch(self) -> int:
        """Rays of a step, those of patches included."""
        renderings = (self.lambda_perceptual > 0) + (self.lambda_adversarial > 0)
        patches = renderings * self.patches_per_batch * self.patch_size**2
        return self.images_per_batch * self.rays_per_image + patches

    def ray_loss(self, terms: Mapping[str, Any]) -> Any:
        """The weighted sum of the losses of rays (:func:`nerfgen.volume.training_losses`)."""
        return (
            terms["rgb"]
            + self.lambda_mask * terms["mask"]
            + self.lambda_hard * terms["hard"]
            + self.lambda_opaque * terms["opaque"]
        )

    def field_config(self, bounds: tuple[float, float, float]) -> FieldConfig:
        """Sizes of the networks, for objects within the box of half edges ``bounds``."""
        from nerfgen.field import FieldConfig

        shared = {field.name for field in fields(FieldConfig)} & {field.name for field in fields(self)}
        return FieldConfig(kind=self.field, bounds=bounds, **{name: getattr(self, name) for name in shared})


# Names and values of earlier versions, which files and scripts may still hold.
_RENAMED_FIELDS = {"foreground_share": "foreground_fraction", "pose_share": "pose_fraction"}
_RENAMED_VALUES = {"sampler": {"even": "stratified", "guided": "occupancy"}}
# Fields that files of earlier versions lack, with the values that reproduce what those did.
_ADDED_FIELDS: dict[str, Any] = {
    "latent": "continuous",
    "codebook_groups": 8,
    "codebook_size": 64,
    "codebook_decay": 0.99,
    "lambda_commitment": 0.25,
    "freeze": "none",
    "average_decay": 0.0,
    "local_size": 0,
    "local_channels": 0,
    "background_cells": 0,
    "background_channels": 0,
    "local_learning_rate": 0.0,
    "initial_codes": "noise",
    "mask_margin": 0.0,
    "lambda_opaque": 0.0,
    "lambda_camera": 0.0,
    "lambda_perceptual": 0.0,
    "patch_size": 32,
    "patches_per_batch": 2,
    "lambda_adversarial": 0.0,
    "adversarial_mask": "hidden",
    "discriminator_rate": 2e-3,
    "lambda_r1": 1.0,
}


def recorded_recipe(recorded: Mapping[str, Any]) -> Recipe:
    """The recipe that a file records, also a file of an earlier version.

    Ranges of sizes and counts are checked, those of other numbers are not: values that training refuses now have
    trained models.

    Raises:
        InputError: a field is unknown or missing, or has another type, none of its choices, or an impossible size.
    """
    known = settings_of(Recipe)
    values = dict(_ADDED_FIELDS)
    for given, value in recorded.items():
        name, values[name] = _current(given, value)
        if name not in known:
            raise SettingError(f"the recipe has a field {given!r}, which this version lacks; update nerfgen")
    missing = [name for name in known if name not in values]
    if missing:
        raise SettingError(f"the recipe lacks {', '.join(missing)}; the file is damaged")
    try:
        check_types(Recipe, values)
        for name, value in values.items():
            if isinstance(value, int):
                known[name].check(name, value)
    except SettingError as error:
        raise SettingError(f"the recipe's {error}; re-create the file, or update nerfgen") from error
    recipe = object.__new__(Recipe)
    recipe.__dict__.update(values)
    return recipe


def _current(name: str, value: Any) -> tuple[str, Any]:
    """Name and value of a field as this version has them."""
    name = _RENAMED_FIELDS.get(name, name)
    if name == "steps" and str(value).lower() in ("0", "none"):
        return name, None
    renamed = _RENAMED_VALUES.get(name, {})
    return name, renamed.get(value, value) if isinstance(value, str) else value


def _convert(name: str, kind: type, value: Any) -> Any:
    """``value`` as ``kind``; ValueError where that would change it."""
    if name == "steps" and value is None:
        return None
    if kind is bool:
        return _TRUTH[str(value).lower()]
    converted = kind(value)
    if isinstance(value, float) and converted != value and value == value:
        raise ValueError(value)
    return converted


_TRUTH = {"true": True, "1": True, "false": False, "0": False}

# The published schedule; 64 TPU v4 chips took 36 hours for the sizes of PAPER_HQ.
PAPER = Recipe(
    size=128,
    field="mlp",
    latent_size=256,
    latent="continuous",
    codebook_groups=8,
    codebook_size=64,
    codebook_decay=0.99,
    lambda_commitment=0.25,
    width=256,
    depth=8,
    frequencies=10,
    plane_size=32,
    plane_channels=8,
    mirror=False,
    odd_channels=0,
    local_size=0,
    local_channels=0,
    background_cells=0,
    background_channels=0,
    background_width=256,
    background_depth=5,
    density_scale=12.0,
    sampler="stratified",
    samples=128,
    images_per_batch=4096,
    rays_per_image=32,
    foreground_fraction=0.0,
    steps=500_000,
    learning_rate=5e-4,
    latent_learning_rate=5e-4,
    local_learning_rate=0.0,
    final_rate=0.2,
    adam_b2=0.999,
    freeze="none",
    average_decay=0.0,
    latent_std=0.1,
    initial_codes="noise",
    lambda_mask=1.0,
    mask_margin=0.0,
    lambda_opaque=0.0,
    lambda_hard=0.1,
    lambda_smooth=0.0,
    lambda_perceptual=0.0,
    patch_size=32,
    patches_per_batch=2,
    lambda_adversarial=0.0,
    adversarial_mask="hidden",
    discriminator_rate=2e-3,
    lambda_r1=1.0,
    camera_learning_rate=0.0,
    lambda_camera=0.0,
    camera_start=0.0,
    pose_fraction=0.0,
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
    local_size=12,
    local_channels=4,
    background_cells=16,
    background_channels=4,
    background_width=32,
    background_depth=2,
    sampler="occupancy",
    samples=16,
    images_per_batch=64,
    rays_per_image=16,
    foreground_fraction=0.75,
    steps=4_000,
    learning_rate=5e-3,
    latent_learning_rate=5e-2,
    local_learning_rate=5e-2,
    final_rate=0.02,
    adam_b2=0.99,
    latent_std=0.01,
    initial_codes="images",
    mask_margin=0.1,
    lambda_opaque=0.1,
    lambda_smooth=3.0,
    camera_learning_rate=2.5e-2,
    lambda_camera=50.0,
    camera_start=0.08,
    pose_fraction=0.4,
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
