"""A trained model as a value, and its file; files of earlier versions are read as they were meant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int, PyTree

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.field import FieldConfig, add_parameters, parameter_shapes
from nerfgen.model.code_prior import CodePrior, fit_code_prior
from nerfgen.model.codebook import dequantised, nearest_entries
from nerfgen.model.latent_space import Principal, principal_axes
from nerfgen.model.mixture import Mixture, fit_mixture
from nerfgen.model.preparation import Preparation
from nerfgen.model.recipe import Recipe, recorded_recipe
from nerfgen.objectclass import ObjectClass
from nerfgen.settings import MAX_COUNT, MAX_LENGTH
from nerfgen.untrusted import content_of, parse_json


class InitialGuess(NamedTuple):
    """A linear guess of an image's latent code: features @ weights + offset (:mod:`nerfgen.inversion.initial_guess`).

    The outputs are the global part of the latent code and, if training refined cameras, the six numbers that correct
    the image's camera.
    """

    weights: Float[np.ndarray, "features outputs"]
    offset: Float[np.ndarray, "outputs"]


_FINITE = ("latents", "intrinsics", "cam_to_world", "window", "canonical", "occupancy")
# Products of refined rotations are off by rounding alone.
_ROTATION_TOLERANCE = 0.01
# That correct a camera.
_CAMERA_NUMBERS = 6


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        object_class: the class.
        recipe: the effective training recipe.
        config: sizes of the networks.
        parameters: arrays of the networks, as flax names them.
        latents: the table Z, one latent code per row.
        occupancy: class-shared grid that guides sample placement.
        images, digests: path of each row's image, and SHA-256 of the file.
        further_images, further_digests, further_row: the same of further images of the rows' objects, and the row of
            each.
        image_size, intrinsics, cam_to_world, window: cameras of the rows' images, as training refined them.
        canonical_index, canonical: keypoints that the cameras were fitted to, and those of new images have to be;
            empty where the cameras were known.
        steps: training steps done.
        guess: initial guess of the latent codes of new images; None if training learned none.
        preparation: how the training images were prepared.
        codebook: entries that the rows' global dimensions are of; None where they are continuous.
    """

    object_class: ObjectClass
    recipe: Recipe
    config: FieldConfig
    parameters: dict[str, PyTree]
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
    guess: InitialGuess | None = None
    preparation: Preparation = field(default_factory=Preparation)
    further_images: list[str] = field(default_factory=list)
    further_digests: list[str] = field(default_factory=list)
    further_row: Int[np.ndarray, "further"] = field(default_factory=lambda: np.zeros(0, np.int32))
    codebook: Float[np.ndarray, "groups entries numbers"] | None = None

    @property
    def distance(self) -> float:
        """Median distance of the training cameras from the world origin, world units."""
        return float(np.median(np.linalg.norm(self.cam_to_world[:, :3, 3], axis=-1)))

    @property
    def focal(self) -> float:
        """Median focal length of the training images, in units of their longer sides."""
        return float(np.median(self.intrinsics[:, 0, 0] / self.image_size.max(axis=1)))

    def check(self) -> None:
        """Check that the parts fit together, and what only a model knows of its numbers.

        Raises:
            InputError: naming the first dataset that does not.
        """
        rows, size = self.latents.shape
        if not rows:
            raise InputError("the table has no rows")
        if size != self.config.code_size:
            raise InputError(
                f"dataset latents has {size} columns, but the recipe describes {self.config.code_size}"
            )
        for name in _FINITE:
            if not np.isfinite(getattr(self, name)).all():
                raise InputError(f"dataset {name} has numbers that are not finite")
        turns = np.linalg.det(self.cam_to_world[:, :3, :3])
        for name, fits, what in (
            ("image_size", self.image_size > 0, "sizes that are not positive"),
            ("intrinsics", self.intrinsics[:, (0, 1), (0, 1)] > 0, "focal lengths that are not positive"),
            ("cam_to_world", np.abs(turns - 1) < _ROTATION_TOLERANCE, "poses that are no rotations"),
            ("window", self.window[:, 2] > 0, "empty windows"),
            ("canonical_index", self.canonical_index >= 0, "negative numbers"),
            ("occupancy", self.occupancy >= 0, "negative numbers"),
            ("further_row", (self.further_row >= 0) & (self.further_row < rows), "rows that are absent"),
        ):
            if not fits.all():
                raise InputError(f"dataset {name} has {what}")
        if self.guess is not None:
            latent = self.config.latent_size
            is_finite = all(np.isfinite(part).all() for part in self.guess)
            if not is_finite or len(self.guess.offset) not in (latent, latent + _CAMERA_NUMBERS):
                raise InputError("datasets guess_weights and guess_offset do not fit the latent codes")

    @cached_property
    def principal(self) -> Principal:
        """The table as a Gaussian, all its axes."""
        return principal_axes(self.latents, self.config.latent_size)

    @cached_property
    def mixture(self) -> Mixture:
        """The table as a Gaussian mixture, on the axes that vary."""
        varying = self.principal.only_varying()
        return fit_mixture(varying.coefficients(self.latents))

    @cached_property
    def code_prior(self) -> CodePrior:
        """Which entries of the codebooks go together in the table.

        Raises:
            InputError: the latent codes are continuous.
        """
        if self.codebook is None:
            raise InputError(
                "the model's latent codes are not vector-quantised, so that there are no entries to draw"
            )
        return fit_code_prior(nearest_entries(self.codebook, self.latents), self.codebook.shape[1])

    @property
    def size(self) -> int:
        """Size of the framed images that it was trained on, pixels."""
        return self.recipe.size

    @cached_property
    def device_parameters(self) -> dict[str, PyTree]:
        """The parameters as JAX arrays, transferred to the device when they are first used."""
        import jax

        return jax.tree.map(jax.numpy.asarray, self.parameters)

    def tuned(self, delta: dict[str, PyTree] | None) -> Model:
        """The model with ``delta`` added to its parameters; ``delta`` is a tree like theirs, or a part of it."""
        return replace(self, parameters=add_parameters(self.parameters, delta)) if delta else self


_SCHEMA = "model/1"
# Version of what the file means; 1: files without it. Raised when a reader of this version would misread the next.
_VERSION = 2

_TABLE = (
    "image_size",
    "intrinsics",
    "cam_to_world",
    "window",
    "canonical_index",
    "canonical",
    "occupancy",
)


def save_model(
    stage: storage.Stage,
    model: Model,
    *,
    log: Float[np.ndarray, "entries columns"],
    log_names: Sequence[str],
    latents: Iterable[Float[np.ndarray, "some latent"]] | None = None,
) -> None:
    """Write the stage's output, a ``model/1`` file.

    Args:
        latents: the table in blocks of rows, where ``model`` has none of them.
        log: rows of a step and the schema's ``log_values``.
        log_names: names of these values.
    """
    with stage.create() as file:
        storage.put(file, "image", model.images)
        storage.put(file, "image_sha256", model.digests)
        _put_latents(file, model, [model.latents] if latents is None else latents)
        for name in _TABLE:
            storage.put(file, name, getattr(model, name))
        if model.further_images:
            storage.put(file, "further_image", model.further_images)
            storage.put(file, "further_sha256", model.further_digests)
            storage.put(file, "further_row", model.further_row)
        if model.guess:
            storage.put(file, "guess_weights", model.guess.weights)
            storage.put(file, "guess_offset", model.guess.offset)
        storage.put(file, "log_step", log[:, 0])
        storage.put(file, "log_values", log[:, 1:])
        storage.put_tree(file.create_group("field"), model.parameters)
        file.attrs["log_names"] = json.dumps(list(log_names))
        file.attrs["model_version"] = _VERSION
        file.attrs["preparation"] = model.preparation.to_json()
        file.attrs["preset"] = json.dumps(model.recipe.values(), sort_keys=True)
        file.attrs["bounds"] = model.config.bounds
        file.attrs["steps"] = model.steps


def _put_latents(file: h5py.File, model: Model, blocks: Iterable[Float[np.ndarray, "some latent"]]) -> None:
    """Write the table; of vector-quantised codes, the numbers of their entries in place of the global dimensions."""
    rows, size, codebook = len(model.images), model.config.code_size, model.codebook
    if codebook is None:
        storage.put_blocks(file, "latents", (rows, size), blocks)
        return
    indices: list[np.ndarray] = []

    def local() -> Iterator[np.ndarray]:
        for block in blocks:
            indices.append(nearest_entries(codebook, block))
            yield block[:, model.config.latent_size :]

    storage.put_blocks(file, "latents", (rows, size - model.config.latent_size), local())
    storage.put(file, "code_indices", np.concatenate(indices))
    storage.put(file, "codebook", codebook)


def _latents(file: h5py.File, recipe: Recipe) -> storage.Record:
    """The table, and its codebook if it has one."""
    if not has_all(file, "code_indices", "codebook"):
        if recipe.latent == "vq":
            raise InputError("dataset codebook is missing, which the recipe's latent codes are of")
        return {"latents": file["latents"][:]}
    indices, codebook, local = file["code_indices"][:], file["codebook"][:], file["latents"][:]
    expected = (recipe.codebook_groups, recipe.codebook_size, recipe.latent_size // recipe.codebook_groups)
    if recipe.latent != "vq" or codebook.shape != expected or indices.shape[1] != len(codebook):
        raise InputError("datasets code_indices and codebook do not fit the recipe")
    if not np.isfinite(codebook).all() or not ((indices >= 0) & (indices < codebook.shape[1])).all():
        raise InputError("datasets code_indices and codebook have numbers that are out of range")
    return {"latents": np.concatenate([dequantised(codebook, indices), local], axis=1), "codebook": codebook}


def _bounds(file: h5py.File) -> tuple[float, float, float]:
    values = np.asarray(file.attrs.get("bounds"))
    if values.shape != (3,) or values.dtype.kind not in "fiu" or not (values > 0).all():
        raise InputError("attribute bounds is not three positive numbers")
    if not (values < MAX_LENGTH).all():
        raise InputError("attribute bounds has numbers that are too large")
    x, y, z = (float(value) for value in values)
    return x, y, z


def _count(file: h5py.File, name: str, default: int) -> int:
    value = file.attrs.get(name, default)
    if not isinstance(value, int | np.integer) or not 0 <= value <= MAX_COUNT:
        raise InputError(f"attribute {name} is {value}, not a count")
    return int(value)


def has_all(file: h5py.File, *names: str) -> bool:
    """Whether a file has optional datasets that belong together.

    Raises:
        InputError: it has some of them.
    """
    present = [name for name in names if name in file]
    if present and len(present) < len(names):
        raise InputError(f"dataset {present[0]} is there without {min({*names} - {*present})}")
    return bool(present)


def _further(file: h5py.File) -> storage.Record:
    """The further images of the rows' objects; nothing where there are none."""
    if not has_all(file, "further_row", "further_image", "further_sha256"):
        return {}
    return {
        "further_images": storage.strings(file["further_image"]),
        "further_digests": storage.strings(file["further_sha256"]),
        "further_row": file["further_row"][:],
    }


def model_file(path: Path) -> Path:
    """A model's file by its own path, or by the folder that holds ``model.h5``."""
    return path / "model.h5" if path.is_dir() else path


def load_model(path: Path) -> Model:
    """Read a model file, or the ``model.h5`` of a folder.

    Raises:
        InputError: it is missing, not a model, from a later version, or inconsistent.
    """
    path = model_file(path)
    made_by = f"nerfgen train {path.parent}"
    with (
        storage.reading(path, _SCHEMA, made_by=made_by) as file,
        content_of(path, f"re-create it with `{made_by}`"),
    ):
        if _count(file, "model_version", 1) > _VERSION:
            raise InputError(f"{path} was written by a newer version of nerfgen; update nerfgen")
        model = _read(file)
        model.check()
        return model


def _read(file: h5py.File) -> Model:
    recipe = recorded_recipe(_json_object(file, "preset"))
    config = recipe.field_config(_bounds(file))
    return Model(
        object_class=storage.class_of(file),
        recipe=recipe,
        config=config,
        parameters=read_parameters(file["field"], parameter_shapes(config), where="field"),
        images=storage.strings(file["image"]),
        digests=storage.strings(file["image_sha256"]),
        steps=_count(file, "steps", -1),
        guess=InitialGuess(file["guess_weights"][:], file["guess_offset"][:])
        if has_all(file, "guess_weights", "guess_offset")
        else None,
        preparation=Preparation.from_json(str(file.attrs.get("preparation", "{}"))),
        **_further(file),
        **_latents(file, recipe),
        **{name: file[name][:] for name in _TABLE},
    )


def _json_object(file: h5py.File, name: str) -> dict[str, Any]:
    found = parse_json(str(file.attrs.get(name, "")), f"attribute {name}")
    if not isinstance(found, dict):
        raise InputError(f"attribute {name} is no JSON object")
    return found


def read_parameters(
    group: Any, like: Mapping[str, PyTree], *, where: str, some: bool = False
) -> dict[str, PyTree]:
    """The arrays of a group of a file, if they are those of a network.

    Args:
        group: what the file holds.
        like: the network's parameters, or their shapes.
        where: the group's name, for messages.
        some: parts of the tree may be absent.

    Raises:
        InputError: naming the first array that differs, or that is not finite.
    """
    if not isinstance(group, h5py.Group) or not (
        group.keys() <= like.keys() if some else group.keys() == like.keys()
    ):
        raise InputError(f"group {where} does not hold the layers that the model's recipe describes")
    tree: dict[str, PyTree] = {}
    for name, item in group.items():
        expected, path = like[name], f"{where}/{name}"
        if isinstance(expected, Mapping):
            tree[name] = read_parameters(item, expected, where=path, some=some)
            continue
        if not isinstance(item, h5py.Dataset) or item.shape != expected.shape or item.dtype.kind != "f":
            raise InputError(
                f"dataset {path} is not numbers of shape {expected.shape}, as the model's recipe describes"
            )
        tree[name] = item[()]
        if not np.isfinite(tree[name]).all():
            raise InputError(f"dataset {path} has numbers that are not finite")
    return tree
