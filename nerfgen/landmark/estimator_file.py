"""A trained estimator as a value, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.landmark.union import LandmarkUnion
from nerfgen.objectclass import ObjectClass, class_from_text, shipped_class

SCHEMA = "landmarker/1"
# Names of the weights of the two networks in files: of the one that proposes objects, and of the one that locates
# landmarks.
NETWORKS = PROPOSAL, LANDMARK = "finder", "measurer"
# Scores from here on count as objects. Chosen with cats, of which 98% pass, and faces, of which 3 to 7% pass as cats.
THRESHOLD = 0.8


@dataclass(frozen=True)
class TrainedEstimator:
    """A trained landmark estimator.

    Attributes:
        classes: classes that it distinguishes.
        shapes: the mean shape of each class in the unit window; NaN for landmarks of other classes.
        parameters: of both networks, see :mod:`nerfgen.landmark.network`.
        threshold: smallest score of an object.
    """

    classes: tuple[ObjectClass, ...]
    shapes: Float[np.ndarray, "class landmark 2"]
    parameters: storage.Record
    threshold: float = THRESHOLD

    @cached_property
    def landmarks(self) -> LandmarkUnion:
        """All landmarks that it finds."""
        return LandmarkUnion.of(self.classes)

    def label_of(self, described: ObjectClass, path: Path) -> int:
        """The label of a class.

        Args:
            path: names the estimator in errors.

        Raises:
            InputError: the estimator was trained for other classes, or for other landmarks.
        """
        names = [known.name for known in self.classes]
        namesakes = [known for known in self.classes if known.name == described.name] or self.classes
        if described.landmark_names not in [known.landmark_names for known in namesakes]:
            raise InputError(
                f"{path} finds {', '.join(namesakes[0].landmark_names)}, but the landmarks of class "
                f"{described.name} are {', '.join(described.landmark_names) or 'none'}; train one for the class"
            )
        if described.name not in names:
            raise InputError(
                f"{path} was trained for {', '.join(names)}, not for {described.name}; "
                f"train one with `nerfgen train-landmarker IMAGES ANNOTATIONS --class {described.name}`"
            )
        return 1 + names.index(described.name)


def save_estimator(
    stage: storage.Stage,
    trained: TrainedEstimator,
    *,
    held_out: Sequence[str],
    errors: Float[np.ndarray, "image landmark"],
    scores: Float[np.ndarray, " image"],
    summary: storage.Record,
) -> None:
    """Write ``landmarker/1``.

    Args:
        held_out: images that were held out.
        errors: of their landmarks, in the class's unit.
        scores: of the objects found in them.
        summary: values that become attributes of the file.
    """
    with stage.create() as file:
        storage.put(file, "landmark_names", trained.landmarks.names)
        storage.put(file, "class_names", [described.name for described in trained.classes])
        storage.put(file, "class_descriptions", [described.text for described in trained.classes])
        if trained.landmarks.is_shared:
            storage.put(file, "mean_shape", trained.shapes[0])
        else:
            storage.put(file, "mean_shape", np.nanmean(trained.shapes, axis=0))
            storage.put(file, "mean_shapes", trained.shapes)
        storage.put(file, "threshold", trained.threshold)
        storage.put(file, "held_out_image", list(held_out))
        storage.put(file, "held_out_error", errors)
        storage.put(file, "held_out_score", scores)
        for name, value in summary.items():
            file.attrs[name] = value
        storage.put_tree(file.create_group("weights"), trained.parameters)


def load_estimator(path: Path) -> TrainedEstimator:
    """Read a ``landmarker/1`` file.

    Raises:
        InputError: it is missing or not such a file, or its content does not fit together.
    """
    with storage.reading(
        path, SCHEMA, made_by=f"nerfgen train-landmarker IMAGES ANNOTATIONS -o {path}"
    ) as file:
        texts = storage.strings(file["class_descriptions"])
        classes = tuple(
            class_from_text(text, f"{path}: class") if text else shipped_class(name)
            for name, text in zip(storage.strings(file["class_names"]), texts, strict=True)
        )
        names = tuple(storage.strings(file["landmark_names"]))
        shape, threshold = file["mean_shape"][:], float(file["threshold"][()])
        shapes = file["mean_shapes"][:] if "mean_shapes" in file else np.tile(shape, (len(classes), 1, 1))
        weights = storage.get_tree(file["weights"])
    fits = (
        bool(classes)
        and len({described.name for described in classes}) == len(classes)
        and _are_of(shapes, classes, names)
        and 0 <= threshold <= 1
        and all(isinstance(weights.get(name), dict) and _is_finite(weights[name]) for name in NETWORKS)
    )
    if not fits:
        raise InputError(
            f"{path}: its classes, landmarks, mean shape and weights do not fit together; train it again"
        )
    return TrainedEstimator(classes, shapes, weights, threshold)


def _are_of(
    shapes: Float[np.ndarray, "class landmark 2"], classes: Sequence[ObjectClass], names: tuple[str, ...]
) -> bool:
    """Whether shapes are those of the classes' landmarks."""
    union = LandmarkUnion.of(classes)
    return union.names == names and all(
        bool(
            np.isfinite(shape[own]).all()
            and np.ptp(shape[own]) > 0
            and np.isfinite(shape).all(-1).sum() == len(own)
        )
        for shape, own in zip(shapes, union.places, strict=True)
    )


def _is_finite(tree: storage.Record) -> bool:
    """Whether all leaves are finite floating-point numbers."""
    leaves = [item for item in tree.values() if not isinstance(item, dict)]
    return all(
        np.issubdtype(np.asarray(leaf).dtype, np.floating) and np.isfinite(leaf).all() for leaf in leaves
    ) and all(_is_finite(item) for item in tree.values() if isinstance(item, dict))
