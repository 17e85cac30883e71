"""A run that goes on from a trained model: on new photographs, with the model's own objects kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.train.preset import Preset

_STEPS = 1000
# The networks know the class already: they have a little to learn, and much to forget.
_SLOWER = 0.2


@dataclass(frozen=True)
class Start:
    """A model to go on from, and pictures of its objects that keep it from forgetting them.

    Attributes:
        model: its rows come first in the new table, and stay as they are.
        record: provenance of its file.
        seed: by which rows and cameras of the pictures were drawn.
        size: edge of the pictures, pixels.
        rows: row that each picture shows.
        intrinsics, cam_to_world: cameras of the pictures.
        render: makes the pictures.
    """

    model: Model
    record: dict[str, Any]
    seed: int
    size: int
    rows: Int[np.ndarray, "pictures"]
    intrinsics: Float[np.ndarray, "pictures 3 3"]
    cam_to_world: Float[np.ndarray, "pictures 4 4"]
    render: Callable[[], UInt8[np.ndarray, "pictures size size 4"]]

    @cached_property
    def pictures(self) -> UInt8[np.ndarray, "pictures size size 4"]:
        """Red, green, blue and opacity times 255, rendered when they are first needed: not by a run whose pixels or
        model are there already."""
        return self.render()

    @property
    def account(self) -> dict[str, int]:
        """What determines the pictures, with the model."""
        return {"count": len(self.rows), "seed": self.seed}

    @property
    def names(self) -> list[str]:
        """What the pictures are called among the photographs."""
        return [f"row {row} of {self.record['file']}, picture {place}" for place, row in enumerate(self.rows)]

    def known(self, images: list[str], digests: Mapping[str, str]) -> list[bool]:
        """Which photographs of a folder are rows of the model already, whatever their names.

        Args:
            digests: SHA-256 of each image's file.

        Raises:
            InputError: a new photograph has the path of a row.
        """
        names, contents = set(self.model.images), {*self.model.digests, *self.model.further_digests}
        found = [digests[image] in contents for image in images]
        for image, there in zip(images, found, strict=True):
            if not there and image in names:
                raise InputError(
                    f"{image} has the name of another photograph, row {self.model.images.index(image)} of "
                    f"{self.record['file']}; rename it, or put the new photographs into a folder within DATA"
                )
        return found


def going_on(model: Model) -> Preset:
    """The recipe with which a model's training goes on: its own, shorter and slower, with all of its codes in use."""
    own = Preset(**model.preset)
    return replace(
        own, steps=_STEPS, learning_rate=_SLOWER * own.learning_rate, camera_start=0.0, pose_share=0.0
    )


def check_fits(preset: Preset, model: Model) -> None:
    """Check that a recipe has the networks of a model.

    Raises:
        InputError: naming the first size that differs.
    """
    wanted = preset.field_config(model.config.bounds)
    for name, value in vars(model.config).items():
        if getattr(wanted, name) != value:
            raise InputError(
                f"{name} is {value} in the model that training goes on from, not {getattr(wanted, name)}; "
                "leave it as it is, or train anew without --init"
            )
