"""How near a code is to the training objects: whether a new object is one of them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.generate.sampling import Principal, truncated_draw

# Of the distances between training rows and their nearest others, the share that counts as too near.
_NEAREST_SHARE = 0.01
# So many rows are compared with all others to find it, and so many with so many at a time.
_COMPARED = 2048
_ROWS_AT_A_TIME = 1 << 16
_ATTEMPTS = 100


@dataclass(frozen=True)
class Neighbours:
    """The training rows as neighbours of codes.

    The distance of two codes is sqrt(1 - cos a), with a the angle at the mean between them, in standard deviations
    along the principal axes: 0 in the same direction, about 1 for two independent draws from the table's Gaussian. It
    is that of directions, because truncation draws all objects towards the mean: a training object made more average
    is still that object, and an average one is nobody.

    Attributes:
        principal: of the table, all its axes.
        directions: of the rows from the mean, in standard deviations; unit vectors, or 0 at the mean.
        near: an object no farther than this from a training row is too near: of the training rows themselves, only
            the nearest 1% lie so near to another.
    """

    principal: Principal
    directions: Float[np.ndarray, "rows components"]
    near: float

    def nearest(
        self, latents: Float[np.ndarray, "codes latent"]
    ) -> tuple[Float[np.ndarray, "codes"], Int[np.ndarray, "codes"]]:
        """Distance of each code to the nearest training row, and which that is."""
        return _nearest(_directions(self.principal, latents), self.directions)


def neighbours(principal: Principal, latents: Float[np.ndarray, "rows latent"]) -> Neighbours:
    """The rows of a table, with its own ``principal``, as :class:`Neighbours`."""
    rows = _directions(principal, latents).astype(np.float32)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_COMPARED, len(rows))).astype(int))
    distance = _nearest(rows[chosen], rows, own=chosen)[0] if len(rows) > 1 else np.zeros(1)
    return Neighbours(principal, rows, float(np.quantile(distance, _NEAREST_SHARE)))


@dataclass(frozen=True)
class Drawn:
    """New identities.

    Attributes:
        coefficients: along the kept axes, in standard deviations.
        latents: their codes.
        distance, row: the nearest training row.
        attempts: draws that it took.
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
    """Truncated draws, each drawn again while it is nearer than ``min_distance`` to a training row.

    Attempt j of identity i depends only on (seed, i, j). The first is sample i of
    :func:`nerfgen.generate.truncated_draws`.

    Raises:
        InputError: an identity was too near in a hundred attempts.
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
                f"--min-distance {min_distance:g}: identity {numbers[waiting[0]]} was nearer to a training row in "
                f"{_ATTEMPTS} draws, the last at {distance[waiting[0]]:.2f}; lower it"
            )
        for place in waiting:
            key = (seed, numbers[place], int(attempts[place]))
            coefficients[place] = truncated_draw(len(principal.deviation), truncation, key)
        distance[waiting], row[waiting] = around.nearest(principal.codes(coefficients[waiting]))
        attempts[waiting] += 1
        waiting = np.flatnonzero(distance < min_distance)
    return Drawn(coefficients, principal.codes(coefficients), distance, row, attempts)


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
    """Distance of each direction to its nearest row, that of its ``own`` number left out, and which that is."""
    best, at = np.full(len(points), -np.inf), np.zeros(len(points), int)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = rows[start : start + _ROWS_AT_A_TIME]
        cosine = points.astype(rows.dtype) @ some.T
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < start + len(some)))
            cosine[here, own[here] - start] = -np.inf
        nearest = cosine.argmax(1)
        highest = np.take_along_axis(cosine, nearest[:, None], axis=1)[:, 0]
        closer = highest > best
        best[closer], at[closer] = highest[closer], start + nearest[closer]
    # Once more, in double precision and whatever the number of points at a time.
    cosine = np.einsum("ij,ij->i", points.astype(np.float64), rows[at].astype(np.float64))
    return np.sqrt(np.maximum(1 - cosine, 0)), at
