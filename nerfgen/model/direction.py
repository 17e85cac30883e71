"""Directions with a name in the space of latent codes: learned from labels of rows, walked along by name.

A label that is a number is explained by ridge regression, one of two words by logistic regression, both on the rows'
coordinates along the principal axes, in standard deviations. The direction is that of the weights: along it the label
changes most, for a step of a given typicality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.model.labels import Labels
from nerfgen.model.latent_space import Principal
from nerfgen.model.regression import ridge
from nerfgen.untrusted import content_of, parse_json

SCHEMA = "direction/1"
SUFFIX = ".direction.h5"
# Fewer labels than these say little, of all and of the rarer word.
FEW_LABELS, FEW_OF_A_WORD = 30, 10
_FOLDS = 10
_STRENGTHS = np.logspace(-4, 2, 13)
_NEWTON_STEPS = 50
# Directions of which less is left after others were taken out point nowhere.
_LEAST_LEFT = 0.1
_LENGTH_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Direction:
    """A direction in principal coordinates.

    Attributes:
        name: by which it is chosen.
        vector: of length 1, in standard deviations along the axes that vary.
        words: that the label takes on the low and on the high side; empty for numbers.
        boundary: coordinate along the direction at which both words are equally likely; for numbers, that of their
            mean.
        slope: change of a number per standard deviation; of the log-odds of the second word.
        score: cross-validated: R^2 of numbers, area under the ROC curve of words.
        num_labels: labels that it was learned from.
        orthogonal_to: directions that were taken out of it.
    """

    name: str
    vector: Float[np.ndarray, "axes"]
    words: tuple[str, ...]
    boundary: float
    slope: float
    score: float
    num_labels: int
    orthogonal_to: tuple[str, ...] = ()

    def without(self, others: Sequence[Direction]) -> Direction:
        """The direction with others taken out of it: a step along it leaves their coordinates as they are.

        Orthogonal in principal coordinates means that the table's codes are uncorrelated along the two. The boundary
        and the slope are those along what is left.

        Raises:
            InputError: next to nothing is left.
        """
        basis = np.linalg.qr(np.stack([other.vector for other in others], axis=1))[0]
        rest = self.vector - basis @ (basis.T @ self.vector)
        left = float(np.linalg.norm(rest))
        names = tuple(other.name for other in others)
        if left < _LEAST_LEFT:
            raise InputError(
                f"direction {self.name} is nearly a combination of {', '.join(names)}: {left:.2f} of it is orthogonal "
                "to them; leave some of them out"
            )
        return replace(
            self,
            vector=rest / left,
            slope=self.slope * left,
            boundary=self.boundary * left,
            orthogonal_to=names,
        )


def learn_direction(
    principal: Principal, latents: Float[np.ndarray, "rows code"], labels: Labels, name: str
) -> Direction:
    """The direction along which labels change.

    The strength of the regularisation is chosen by cross-validation in ten parts, each row by itself if there are
    fewer; the score is that of the same predictions.

    Args:
        principal: of the whole table.
        latents: the table.

    Raises:
        InputError: there are fewer than four labels, or fewer than two of a word.
    """
    coordinates = principal.only_varying().coefficients(latents[labels.rows])
    values = labels.values
    rarest = int(min((values == 0).sum(), (values == 1).sum())) if labels.words else len(values)
    if len(values) < 4 or rarest < 2:
        raise InputError(
            f"{len(values)} labels are too few for a direction; give at least four, and two of each word"
        )
    fold = _folds(values, stratified=bool(labels.words))
    if labels.words:
        weights, offset, predicted = _logistic(coordinates, values, fold)
        score = _area(predicted, values)
    else:
        weights, offset = _ridge(coordinates, values)
        predicted = np.zeros(len(values))
        for part in np.unique(fold):
            some, middle = _ridge(coordinates[fold != part], values[fold != part])
            predicted[fold == part] = coordinates[fold == part] @ some + middle
        score = 1 - float(((values - predicted) ** 2).sum() / ((values - values.mean()) ** 2).sum())
    slope = float(np.linalg.norm(weights))
    if not slope > 0:
        raise InputError(f"direction {name}: the labels do not depend on the latent codes")
    level = 0.0 if labels.words else float(values.mean())
    return Direction(
        name, weights / slope, labels.words, (level - offset) / slope, slope, float(score), len(values)
    )


def _folds(values: Float[np.ndarray, "labels"], *, stratified: bool) -> Int[np.ndarray, "labels"]:
    """A part for each label, evenly over the sorted labels, and so with both words in each where there are enough."""
    parts = min(_FOLDS, len(values))
    if stratified:
        parts = max(2, min(parts, int(min((values == 0).sum(), (values == 1).sum()))))
    fold = np.zeros(len(values), int)
    fold[np.argsort(values, kind="stable")] = np.arange(len(values)) % parts
    return fold


def _ridge(
    coordinates: Float[np.ndarray, "labels axes"], values: Float[np.ndarray, "labels"]
) -> tuple[Float[np.ndarray, "axes"], float]:
    weights, offset = ridge(coordinates, values[:, None], blocks=(coordinates.shape[1],))
    return weights[:, 0], float(offset[0])


def _logistic(
    coordinates: Float[np.ndarray, "labels axes"],
    values: Float[np.ndarray, "labels"],
    fold: Int[np.ndarray, "labels"],
) -> tuple[Float[np.ndarray, "axes"], float, Float[np.ndarray, "labels"]]:
    """Weights and offset of the log-odds with the strength of the smallest cross-validated loss, and cross-validated
    log-odds."""
    best, least, kept = _STRENGTHS[-1], math.inf, np.zeros(len(values))
    for strength in _STRENGTHS:
        predicted = np.zeros(len(values))
        for part in np.unique(fold):
            some, offset = _newton(coordinates[fold != part], values[fold != part], strength)
            predicted[fold == part] = coordinates[fold == part] @ some + offset
        loss = float(np.mean(np.logaddexp(0, predicted) - values * predicted))
        if loss < least:
            best, least, kept = strength, loss, predicted
    weights, offset = _newton(coordinates, values, best)
    return weights, offset, kept


def _newton(
    coordinates: Float[np.ndarray, "labels axes"], values: Float[np.ndarray, "labels"], strength: float
) -> tuple[Float[np.ndarray, "axes"], float]:
    """Logistic regression by Newton's method: mean loss + strength / 2 |weights|^2, the offset free."""
    inputs = np.concatenate([coordinates, np.ones((len(values), 1))], axis=1)
    penalty = np.full(inputs.shape[1], strength)
    penalty[-1] = 1e-6
    found = np.zeros(inputs.shape[1])
    for _ in range(_NEWTON_STEPS):
        odds = inputs @ found
        probability = 1 / (1 + np.exp(-odds.clip(-30, 30)))
        gradient = inputs.T @ (probability - values) / len(values) + penalty * found
        spread = probability * (1 - probability)
        curvature = (inputs * spread[:, None]).T @ inputs / len(values) + np.diag(penalty)
        move = np.linalg.solve(curvature, gradient)
        found = found - move
        if np.abs(move).max() < 1e-9:
            break
    return found[:-1], float(found[-1])


def _area(scores: Float[np.ndarray, "labels"], values: Float[np.ndarray, "labels"]) -> float:
    """Area under the ROC curve: how often a label 1 has a larger score than a label 0."""
    positive = values == 1
    ranks = rankdata(scores)
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def save_direction(stage: storage.Stage, direction: Direction) -> None:
    """Write the stage's output, a ``direction/1`` file."""
    with stage.create() as file:
        storage.put(file, "vector", direction.vector)
        storage.put(file, "words", list(direction.words))
        storage.put(file, "orthogonal_to", list(direction.orthogonal_to))
        file.attrs["name"] = direction.name
        for name in ("boundary", "slope", "score"):
            file.attrs[name] = getattr(direction, name)
        file.attrs["num_labels"] = direction.num_labels


def load_direction(path: Path, model_digest: str) -> Direction:
    """Read a direction of a model.

    Args:
        model_digest: SHA-256 of the model's file.

    Raises:
        InputError: the file is missing, no direction, or one of another model.
    """
    remedy = "learn it from this model with `nerfgen directions`"
    with storage.reading(path, SCHEMA, made_by="nerfgen directions") as file, content_of(path, remedy):
        made_from = parse_json(str(file.attrs.get("inputs", "[]")), "attribute inputs")
        if model_digest not in [each.get("sha256") for each in made_from if isinstance(each, dict)]:
            raise InputError("it is a direction of another model")
        vector = file["vector"][:]
        if not np.isfinite(vector).all() or abs(np.linalg.norm(vector) - 1) > _LENGTH_TOLERANCE:
            raise InputError("dataset vector does not have length 1")
        boundary, slope, score = (float(file.attrs[name]) for name in ("boundary", "slope", "score"))
        return Direction(
            str(file.attrs["name"]),
            vector,
            tuple(storage.strings(file["words"])),
            boundary,
            slope,
            score,
            int(file.attrs["num_labels"]),
            tuple(storage.strings(file["orthogonal_to"])),
        )


def find_direction(name: str, folder: Path) -> Path:
    """The file of a direction: the path of one, or a name, whose file is in the model's folder.

    Raises:
        InputError: there is none; names those that there are.
    """
    for path in (Path(name), folder / f"{name}{SUFFIX}"):
        if path.is_file():
            return path
    known = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    raise InputError(
        f"direction {name} does not exist beside the model; "
        + (f"known are {', '.join(known)}" if known else "learn it with `nerfgen directions`")
    )
