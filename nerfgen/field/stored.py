"""A trained model as a value, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.field.model import FieldConfig
from nerfgen.field.tunable import added
from nerfgen.objectclass import ObjectClass


class FirstGuess(NamedTuple):
    """A guess of a photograph's code from its features (``train.guess``): features @ weights + offset.

    The outputs are the code and, where cameras were refined in training, the six numbers that correct its camera.
    """

    weights: Float[np.ndarray, "features outputs"]
    offset: Float[np.ndarray, "outputs"]


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        object_class: what is known of the class.
        preset: the effective training recipe.
        config: sizes of the networks.
        parameters: arrays of the networks, as flax names them.
        latents: the table Z, one code per training image.
        occupancy: class-shared grid that guides samples.
        images, digests: path of each row's image, and SHA-256 of the file.
        further_images, further_digests, further_row: the same of further photographs of the rows' objects, and the
            row of each.
        image_size, intrinsics, cam_to_world, window: the rows' photographs' cameras, as refined in training.
        canonical_index, canonical: keypoints that the training cameras were fitted to, which new photographs
            have to be fitted to as well; empty where the cameras came from elsewhere.
        steps: training steps done.
        guess: of the codes of new photographs; None if training made none.
    """

    object_class: ObjectClass
    preset: dict[str, Any]
    config: FieldConfig
    parameters: dict[str, Any]
    latents: Float[np.ndarray, "rows latent"]
    occupancy: Float[np.ndarray, "grid grid grid"]
    images: list[str]
    digests: list[str]
    image_size: Int[np.ndarray, "rows 2"]
    intrinsics: Float[np.ndarray, "rows 3 3"]
    cam_to_world: Float[np.ndarray, "rows 4 4"]
    window: Float[np.ndarray, "rows 3"]
    canonical_index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "points 3"]
    steps: int
    guess: FirstGuess | None = None
    further_images: list[str] = field(default_factory=list)
    further_digests: list[str] = field(default_factory=list)
    further_row: Int[np.ndarray, "further"] = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def distance(self) -> float:
        """Median distance of the training cameras from the world origin, world units."""
        return float(np.median(np.linalg.norm(self.cam_to_world[:, :3, 3], axis=-1)))

    @property
    def focal(self) -> float:
        """Median focal length of the training photographs, in units of their longer sides."""
        return float(np.median(self.intrinsics[:, 0, 0] / self.image_size.max(axis=1)))

    @property
    def size(self) -> int:
        """Edge of the rasters that it was trained on, pixels."""
        return int(self.preset["size"])

    def tuned(self, delta: dict[str, Any] | None) -> Model:
        """The model with ``delta``, a tree like that of the parameters or a part of it, added to its parameters."""
        return replace(self, parameters=added(self.parameters, delta)) if delta else self


_TABLE = (
    "latents",
    "image_size",
    "intrinsics",
    "cam_to_world",
    "window",
    "canonical_index",
    "canonical",
    "occupancy",
)


def save_model(
    path: Path,
    model: Model,
    *,
    parameters: dict[str, Any],
    inputs: list[dict[str, Any]],
    log: Float[np.ndarray, "entries 8"],
) -> None:
    """Write ``model/1``; ``log`` rows are a step and the schema's ``log_values``."""
    with artifact.create(
        path, "model/1", object_class=model.object_class, parameters=parameters, inputs=inputs
    ) as file:
        artifact.put(file, "image", model.images)
        artifact.put(file, "image_sha256", model.digests)
        for name in _TABLE:
            artifact.put(file, name, getattr(model, name))
        if model.further_images:
            artifact.put(file, "further_image", model.further_images)
            artifact.put(file, "further_sha256", model.further_digests)
            artifact.put(file, "further_row", model.further_row)
        if model.guess:
            artifact.put(file, "guess_weights", model.guess.weights)
            artifact.put(file, "guess_offset", model.guess.offset)
        artifact.put(file, "log_step", log[:, 0])
        artifact.put(file, "log_values", log[:, 1:])
        artifact.put_tree(file.create_group("field"), model.parameters)
        file.attrs["preset"] = json.dumps(model.preset, sort_keys=True)
        file.attrs["bounds"] = model.config.bounds
        file.attrs["steps"] = model.steps


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _further(file: h5py.File) -> dict[str, Any]:
    """Photographs beyond the first of each row, where there are any."""
    if "further_row" not in file:
        return {}
    return {
        "further_images": artifact.strings(file["further_image"]),
        "further_digests": artifact.strings(file["further_sha256"]),
        "further_row": file["further_row"][:],
    }


def model_file(path: Path) -> Path:
    """A model's file by its own path, or by the folder that holds ``model.h5``."""
    return path / "model.h5" if path.is_dir() else path


def load_model(path: Path) -> Model:
    """Read a model file, or the ``model.h5`` of a folder.

    Raises:
        InputError: it is missing or no model.
    """
    path = model_file(path)
    with artifact.reading(path, "model/1", made_by=f"nerfgen train {path.parent}") as file:
        preset = json.loads(file.attrs["preset"])
        try:
            shared = {one.name for one in fields(FieldConfig)} & preset.keys()
            config = FieldConfig(
                kind=preset["field"],
                bounds=_three(file.attrs["bounds"]),
                **{name: preset[name] for name in shared},
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: its preset lacks {error}; train the model anew") from error
        return Model(
            object_class=artifact.class_of(file),
            preset=preset,
            config=config,
            parameters=artifact.get_tree(file["field"]),
            images=artifact.strings(file["image"]),
            digests=artifact.strings(file["image_sha256"]),
            steps=int(file.attrs["steps"]),
            guess=FirstGuess(file["guess_weights"][:], file["guess_offset"][:])
            if "guess_weights" in file
            else None,
            **_further(file),
            **{name: file[name][:] for name in _TABLE},
        )
