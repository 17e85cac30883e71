"""Distance of latent codes to the training objects: whether a new object repeats one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.model.latent_space import Principal, truncated_draw

# Quantile of the distances between training rows and their nearest others, up to which objects are too near.
_NEAREST_QUANTILE = 0.01
# Rows that are compared with all others to estimate it, and rows that are compared in one pass.
_COMPARED = 2048
_ROWS_PER_PASS = 1 << 16
# Draws of one identity before giving up.
_ATTEMPTS = 100


@dataclass(frozen=True)
class Neighbours:
    """The training rows as neighbours of latent codes.

    The distance of two latent codes is sqrt(1 - cos a), where a is the angle between them at the mean, in standard
    deviations along the principal axes: 0 in the same direction, about 1 for two independent draws from the table's
    Gaussian. It compares directions because truncation moves all objects towards the mean: a training object made more
    average is still that object, and an average one is nobody.

    Attributes:
        principal: of the table, all its axes.
        directions: of the rows from the mean, in standard deviations; unit vectors, or 0 at the mean.
        near: objects up to this distance from a training row are too near. 1% of the training rows have another
            training row within it.
    """

    principal: Principal
    directions: Float[np.ndarray, "rows components"]
    near: float

    def nearest(
        self, latents: Float[np.ndarray, "codes latent"]
    ) -> tuple[Float[np.ndarray, "codes"], Int[np.ndarray, "codes"]]:
        """Distance of each latent code to the nearest training row, and the number of that row."""
        return _nearest(_directions(self.principal, latents), self.directions)


def neighbours(principal: Principal, latents: Float[np.ndarray, "rows latent"]) -> Neighbours:
    """The rows of a table, whose Gaussian is ``principal``, as :class:`Neighbours`."""
    rows = _directions(principal, latents).astype(np.float32)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(int))
    distance = _nearest(rows[chosen], rows, own=chosen)[0] if len(rows) > 1 else np.zeros(1)
    return Neighbours(principal, rows, float(np.quantile(distance, _NEAREST_QUANTILE)))


@dataclass(frozen=True)
class Drawn:
    """New identities.

    Attributes:
        coefficients: along the chosen axes, in standard deviations.
        latents: latent codes.
        distance, row: distance and number of the nearest training row.
        attempts: number of draws.
    """

    coefficients: Float[np.ndarray, "identities components"]
    latents: Float[np.ndarray, "identities latent"]
    distance: Float[np.ndarray, "identities"]
    row: Int[np.ndarray, "identities"]
    attempts: Int[np.ndarray, "identities"]


def draw_identities(
    numbers: Sequence[int],
    around: Neighbours,
    *,
    components: int = 0,
    truncation: float,
    seed: int,
    min_distance: float = 0.0,
) -> Drawn:
    """Truncated draws, each repeated while it is nearer than ``min_distance`` to a training row.

    Attempt j of identity i depends only on (seed, i, j). The first is sample i of
    :func:`nerfgen.model.truncated_draws`.

    Raises:
        InputError: an identity was too near in all of a hundred attempts.
    """
    principal = around.principal.first(components)
    count = len(numbers)
    coefficients = np.zeros((count, len(principal.deviation)))
    distance, row = np.full(count, -np.inf), np.zeros(count, int)
    attempts = np.zeros(count, int)
    waiting = np.arange(count)
    while len(waiting):
        if attempts.max() == _ATTEMPTS:
            raise InputError(
                f"`min_distance` {min_distance:g} is too large: identity {numbers[waiting[0]]} was nearer to a "
                f"training row in {_ATTEMPTS} draws, the last at {distance[waiting[0]]:.2f}; lower it"
            )
        for place in waiting:
            key = (seed, numbers[place], int(attempts[place]))
            coefficients[place] = truncated_draw(len(principal.deviation), truncation, key)
        distance[waiting], row[waiting] = around.nearest(principal.codes(coefficients[waiting]))
        attempts[waiting] += 1
        waiting = np.flatnonzero(distance < min_distance)
    keys = [(seed, number, int(attempt) - 1) for number, attempt in zip(numbers, attempts, strict=True)]
    return Drawn(coefficients, principal.drawn_codes(coefficients, truncation, keys), distance, row, attempts)


def _directions(
    principal: Principal, latents: Float[np.ndarray, "codes latent"]
) -> Float[np.ndarray, "codes components"]:
    coordinates = principal.coefficients(latents)
    return coordinates / np.maximum(np.linalg.norm(coordinates, axis=1, keepdims=True), 1e-9)


def _nearest(
    points: Float[np.ndarray, "points components"],
    rows: Float[np.ndarray, "rows components"],
    own: Int[np.ndarray, "points"] | None = None,
) -> tuple[Float[np.ndarray, "points"], Int[np.ndarray, "points"]]:
    """Distance of each direction to its nearest row other than ``own``, and the number of that row."""
    best, at = np.full(len(points), -np.inf), np.zeros(len(points), int)
    for start in range(0, len(rows), _ROWS_PER_PASS):
        part = rows[start : start + _ROWS_PER_PASS]
        cosine = points.astype(rows.dtype) @ part.T
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < start + len(part)))
            cosine[here, own[here] - start] = -np.inf
        nearest = cosine.argmax(1)
        highest = np.take_along_axis(cosine, nearest[:, None], axis=1)[:, 0]
        closer = highest > best
        best[closer], at[closer] = highest[closer], start + nearest[closer]
    # Recomputed in double precision, so that it does not depend on the number of points.
    cosine = np.einsum("ij,ij->i", points.astype(np.float64), rows[at].astype(np.float64))
    return np.sqrt(np.maximum(1 - cosine, 0)), at
