"""A trained estimator as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass, class_from_text
from nerfgen.objectclass import object_class as named_class

SCHEMA = "landmarker/1"
# Scores from here on are objects: chosen on cats, of which it keeps 98%, and faces, which it takes for cats in 3 to 7%.
THRESHOLD = 0.8


@dataclass(frozen=True)
class Landmarker:
    """What a landmark estimator's file holds.

    Attributes:
        classes: that it tells apart; all have the same landmarks.
        shape: the mean shape in the unit window.
        parameters: of the networks ``finder`` and ``measurer``.
        threshold: score from which on an object is one.
    """

    classes: tuple[ObjectClass, ...]
    shape: Float[np.ndarray, "landmark 2"]
    parameters: dict[str, Any]
    threshold: float = THRESHOLD

    def label_of(self, described: ObjectClass, path: Path) -> int:
        """The label of a class.

        Raises:
            InputError: the estimator was not trained for it, or for other landmarks.
        """
        names = [known.name for known in self.classes]
        if described.landmark_names != self.classes[0].landmark_names:
            raise InputError(
                f"{path} finds {', '.join(self.classes[0].landmark_names)}, but the landmarks of class "
                f"{described.name} are {', '.join(described.landmark_names) or 'none'}; train one for the class"
            )
        if described.name not in names:
            raise InputError(
                f"{path} was trained for {', '.join(names)}, not for {described.name}; "
                f"train one with `nerfgen train-landmarker IMAGES ANNOTATIONS --class {described.name}`"
            )
        return 1 + names.index(described.name)


def save_landmarker(
    path: Path,
    landmarker: Landmarker,
    *,
    held_out: Sequence[str],
    errors: Float[np.ndarray, "image landmark"],
    scores: Float[np.ndarray, " image"],
    summary: Mapping[str, Any],
    about: artifact.About,
) -> None:
    """Write ``landmarker/1``.

    Args:
        held_out: images that were not trained on.
        errors: of their landmarks, in units of the class.
        scores: of the objects found there.
        summary: figures that the file keeps as attributes.
    """
    with artifact.create(path, SCHEMA, **about) as file:
        artifact.put(file, "landmark_names", landmarker.classes[0].landmark_names)
        artifact.put(file, "class_names", [described.name for described in landmarker.classes])
        artifact.put(file, "class_descriptions", [described.text for described in landmarker.classes])
        artifact.put(file, "mean_shape", landmarker.shape)
        artifact.put(file, "threshold", landmarker.threshold)
        artifact.put(file, "held_out_image", list(held_out))
        artifact.put(file, "held_out_error", errors)
        artifact.put(file, "held_out_score", scores)
        for name, value in summary.items():
            file.attrs[name] = value
        artifact.put_tree(file.create_group("weights"), landmarker.parameters)


def load_landmarker(path: Path) -> Landmarker:
    """Read a ``landmarker/1`` file.

    Raises:
        InputError: it is missing or something else.
    """
    with artifact.reading(
        path, SCHEMA, made_by=f"nerfgen train-landmarker IMAGES ANNOTATIONS -o {path}"
    ) as file:
        texts = artifact.strings(file["class_descriptions"])
        classes = tuple(
            class_from_text(text, f"{path}: class") if text else named_class(name)
            for name, text in zip(artifact.strings(file["class_names"]), texts, strict=True)
        )
        return Landmarker(
            classes, file["mean_shape"][:], artifact.get_tree(file["weights"]), float(file["threshold"][()])
        )
