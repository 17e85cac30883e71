"""What a training step computes, and the values that it passes on."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from nerfgen.data import Batch, PatchPlan, PixelTable, SamplingPlan, TableRows
from nerfgen.geometry import evenly_chosen
from nerfgen.model import Recipe
from nerfgen.pretrained import FeatureParameters
from nerfgen.train.state import Parameters


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What does not change during a run; hashable, because steps are compiled for it.

    Attributes:
        recipe: the recipe.
        bounds: half edges of the box that holds the object, world units.
        seed: random numbers of a step depend on it and on the step's number only.
        num_images, num_rows: images, and rows of the table.
        num_base, num_rehearsal: rows of a base model and its rehearsal renderings, which both stay as they are.
        one_image_per_row: whether row and image are the same number.
        num_devices: devices that a batch is divided among.
        images_per_pass: images per device in one pass; the gradients of passes add up to those of the batch.
        precision: of the factors of the networks' matrix products, ``float32`` or ``bfloat16``.
        rematerialise: compute the network's layers again for the gradient instead of keeping them.
        keypoints: some of the canonical keypoints that the cameras were fitted to.
    """

    recipe: Recipe
    bounds: tuple[float, float, float]
    seed: int
    num_images: int
    num_rows: int
    num_base: int
    num_rehearsal: int
    one_image_per_row: bool
    num_devices: int
    images_per_pass: int
    precision: str = "float32"
    rematerialise: bool = False
    keypoints: tuple[tuple[float, float, float], ...] = ()

    @classmethod
    def of_rows(
        cls,
        recipe: Recipe,
        bounds: tuple[float, float, float],
        rows: TableRows,
        seed: int,
        canonical: Float[np.ndarray, "points 3"],
        **execution: Any,
    ) -> StepPlan:
        """The plan of a run over these rows.

        Args:
            canonical: keypoints that the cameras were fitted to, if they were.
            execution: the other attributes.
        """
        return cls(
            recipe,
            bounds,
            seed,
            rows.num_images,
            rows.count,
            rows.num_base,
            rows.num_rehearsal,
            rows.one_image_per_row,
            keypoints=tuple((float(x), float(y), float(z)) for x, y, z in evenly_chosen(canonical)),
            **execution,
        )

    @property
    def sampling(self) -> SamplingPlan:
        """How the pixels of a step are sampled."""
        recipe = self.recipe
        return SamplingPlan(
            self.seed,
            self.num_images,
            recipe.images_per_batch,
            recipe.rays_per_image,
            recipe.foreground_fraction,
            self.num_rehearsal,
            self.patches,
        )

    @property
    def has_known_codes(self) -> bool:
        """Whether the codebooks are those of a model that training continues."""
        return self.num_base > 0 or self.recipe.lambda_adversarial > 0

    @property
    def patches(self) -> PatchPlan | None:
        """How the patches of a step are sampled; None where no loss needs them."""
        recipe = self.recipe
        if not recipe.has_patches:
            return None
        every = recipe.images_per_batch // recipe.patches_per_batch
        return PatchPlan(every, recipe.patch_size, recipe.size)

    @property
    def images_per_device(self) -> int:
        """Images of a batch on each device."""
        return self.recipe.images_per_batch // self.num_devices


class StepInput(NamedTuple):
    """What a step reads besides the state.

    Attributes:
        pixels: all pixels, of which the step samples its batch, or a batch.
        row_of_image: row of the table of every image; empty where row and image are the same number.
        fraction: fraction of the run that is done, in [0, 1].
        features: parameters of the feature network; None where no loss needs it.
    """

    pixels: PixelTable | Batch
    row_of_image: Int[Array, "images"]
    fraction: Float[Array, ""]
    features: FeatureParameters | None = None


class StepBatch(NamedTuple):
    """The batch of a step.

    Attributes:
        images, rows: of the whole batch, the same on all devices.
        own: this device's part of it.
        keys: random keys of the device's images, for the samples on their rays.
    """

    images: Int[Array, "batch"]
    rows: Int[Array, "batch"]
    own: Batch
    keys: Array


class ImageUnknowns(NamedTuple):
    """What is learned of each image of a batch: the correction of its camera, and its latent code."""

    cameras: Float[Array, "images 6"]
    latents: Float[Array, "images latent"]


class Gradients(NamedTuple):
    """Gradients of a loss: of the networks, and of each image's unknowns."""

    networks: Parameters
    images: ImageUnknowns
