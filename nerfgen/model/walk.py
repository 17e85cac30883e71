"""Walks through latent space: between objects, and along a principal axis."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, PyTree

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.model.direction import Direction
from nerfgen.model.latent_space import Principal, require_codes
from nerfgen.model.objects import Objects

# Angles and lengths, in standard deviations, below which a direction is undefined.
_TINY = 1e-9


def walk_between(objects: Objects, principal: Principal, frames: int) -> Objects:
    """Objects on a path through the given ones, in order, that stays among typical latent codes.

    In standard deviations along the principal axes, the latent codes of a Gaussian table lie close to a sphere. A
    straight line between two of them would pass near the mean, through objects that are too average; the path follows
    :func:`great_arc` instead. Components off the axes, and changes of the networks, are interpolated linearly.

    Args:
        principal: of the whole table, all its axes.
        frames: length of the path. Every given object is a frame, with exactly its own latent code; the other frames
            are distributed evenly over the parts of the path, at equal steps within each.

    Returns:
        The frames as objects, without cameras; ``coefficients`` in ``extra``.

    Raises:
        InputError: there are fewer than two objects, more objects than frames, or an unusable one.
    """
    count = len(objects)
    if count < 2:
        raise InputError(f"a path needs at least two objects, not {count}; give rows such as 0 5, or files")
    if frames < count:
        raise InputError(
            f"`frames` {frames} is too few for a path through {count} objects: each of them is a frame"
        )
    _require_usable(objects)
    require_codes(frames, objects.latents.shape[1])
    coordinates = principal.coefficients(objects.latents)
    remainders = objects.latents - principal.codes(coordinates)
    stops = np.round(np.linspace(0, frames - 1, count)).astype(int)
    names = []
    path, latents = np.empty((frames, coordinates.shape[1])), np.empty((frames, objects.latents.shape[1]))
    tuned: dict[int, dict[str, PyTree]] = {}
    for part, (start, stop) in enumerate(itertools.pairwise(stops)):
        there = np.arange(start, stop)
        fraction = (there - start) / (stop - start)
        path[there] = great_arc(coordinates[part], coordinates[part + 1], fraction)
        off = remainders[part] + fraction[:, None] * (remainders[part + 1] - remainders[part])
        latents[there] = principal.codes(path[there]) + off
        names += [f"{objects.names[part]} to {objects.names[part + 1]}, {each:.3f}" for each in fraction]
        deltas = objects.tuned.get(part, {}), objects.tuned.get(part + 1, {})
        if any(deltas):
            tuned |= {
                frame: _interpolated(*deltas, each)
                for frame, each in zip(there.tolist(), fraction.tolist(), strict=True)
            }
    names.append("")
    for number, stop in enumerate(stops):
        names[stop] = objects.names[number]
        path[stop], latents[stop] = coordinates[number], objects.latents[number]
        tuned.pop(int(stop), None)
        if number in objects.tuned:
            tuned[int(stop)] = objects.tuned[number]
    return Objects(
        names=names,
        status=["ok"] * frames,
        rows=np.full(frames, -1),
        latents=latents,
        tuned=tuned,
        extra={"coefficients": path},
    )


def great_arc(
    start: Float[np.ndarray, "components"],
    end: Float[np.ndarray, "components"],
    fraction: Float[np.ndarray, "steps"],
) -> Float[np.ndarray, "steps components"]:
    """Points between two others, with direction and length interpolated at constant rates.

    Shoemake, "Animating rotation with quaternion curves" (slerp), with lengths. If one of the points is the origin, or
    both have the same direction, this is a straight line. Between opposite points the arc is not unique: this one
    passes the coordinate axis that is least aligned with them.

    Args:
        fraction: of the way from ``start`` to ``end``.
    """
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    straight = start + fraction[:, None] * (end - start)
    if min(lengths) < _TINY:
        return straight
    first, last = start / lengths[0], end / lengths[1]
    angle = 2 * np.arctan2(np.linalg.norm(first - last), np.linalg.norm(first + last))
    side = last - (first @ last) * first
    if np.linalg.norm(side) < _TINY and first @ last < 0:
        side = np.eye(len(first))[np.abs(first).argmin()]
        side = side - (first @ side) * first
    if np.linalg.norm(side) < _TINY:
        return straight
    side = side / np.linalg.norm(side)
    turned = np.cos(fraction * angle)[:, None] * first + np.sin(fraction * angle)[:, None] * side
    return (lengths[0] + fraction * (lengths[1] - lengths[0]))[:, None] * turned


def walk_axis(
    principal: Principal, axis: int, values: Float[np.ndarray, "frames"], start: Objects | None = None
) -> Objects:
    """Objects that differ along one principal axis only.

    Args:
        principal: of the whole table, all its axes.
        axis: number of the axis; 1 has the largest variance.
        values: coordinate of each frame along the axis, in standard deviations.
        start: one object with the other coordinates; None for the mean.

    Returns:
        The frames as objects, without cameras; ``coefficients`` in ``extra``.

    Raises:
        InputError: the axis does not exist, or ``start`` is not one usable object.
    """
    _require_axis(principal, axis)
    require_codes(len(values), len(principal.mean))
    vector = np.zeros(len(principal.deviation))
    vector[axis - 1] = 1.0
    return _along(principal, vector, f"axis {axis}", values, start)


def walk_direction(
    principal: Principal,
    direction: Direction,
    values: Float[np.ndarray, "frames"],
    start: Objects | None = None,
) -> Objects:
    """Objects that differ along a direction only: as :func:`walk_axis`, along any line of principal coordinates.

    Args:
        values: coordinate of each frame along the direction, in standard deviations.

    Raises:
        InputError: the table varies along other axes, or ``start`` is not one usable object.
    """
    vector = np.zeros(len(principal.deviation))
    if len(direction.vector) != principal.varying:
        raise InputError(
            f"direction {direction.name} is along {len(direction.vector)} axes, and the table varies along "
            f"{principal.varying}"
        )
    vector[: principal.varying] = direction.vector
    require_codes(len(values), len(principal.mean))
    return _along(principal, vector, direction.name, values, start)


def _along(
    principal: Principal,
    vector: Float[np.ndarray, "components"],
    name: str,
    values: Float[np.ndarray, "frames"],
    start: Objects | None,
) -> Objects:
    """Objects whose coordinates change along a vector of length 1 alone."""
    start = mean_object(principal) if start is None else start
    if len(start) != 1:
        raise InputError(f"a walk along {name} starts from one object, not {len(start)}")
    _require_usable(start)
    code, tuned = start.latents[0], start.tuned.get(0)
    coordinates = principal.coefficients(code[None])
    moves = (values - coordinates[0] @ vector)[:, None]
    return Objects(
        names=[f"{start.names[0]}, {name} at {value:+.3f}" for value in values],
        status=["ok"] * len(values),
        rows=np.full(len(values), -1),
        latents=code + moves * ((vector * principal.deviation) @ principal.axes),
        tuned={frame: tuned for frame in range(len(values))} if tuned else {},
        extra={"coefficients": coordinates + moves * vector},
    )


def mean_object(principal: Principal) -> Objects:
    """The mean latent code as an object."""
    return Objects(["mean"], ["ok"], np.full(1, -1), principal.mean[None])


def move_to(
    objects: Objects, principal: Principal, coordinates: Mapping[int, float] | Sequence[tuple[int, float]]
) -> Objects:
    """Objects moved along principal axes to given coordinates; all else of them stays.

    Args:
        principal: of the whole table, all its axes.
        coordinates: coordinate along an axis, in standard deviations, by number of the axis; 1 has the largest
            variance.

    Raises:
        InputError: an axis does not exist.
    """
    present = principal.coefficients(objects.latents)
    latents = objects.latents.astype(np.float64)
    for axis, value in dict(coordinates).items():
        _require_axis(principal, axis)
        moves = value - present[:, axis - 1]
        latents += moves[:, None] * principal.deviation[axis - 1] * principal.axes[axis - 1]
    where = ", ".join(f"axis {axis} at {value:+.3f}" for axis, value in dict(coordinates).items())
    return replace(
        objects,
        names=[f"{name}, {where}" for name in objects.names] if where else objects.names,
        rows=np.full(len(objects), -1) if where else objects.rows,
        latents=latents,
        extra={},
    )


def _require_axis(principal: Principal, axis: int) -> None:
    if not 1 <= axis <= principal.varying:
        raise InputError(
            f"principal axis {axis} does not exist; the table varies along axes 1 to {principal.varying}"
        )


def _interpolated(first: dict[str, PyTree], second: dict[str, PyTree], fraction: float) -> dict[str, PyTree]:
    """(1 - fraction) * first + fraction * second for trees of arrays; arrays that a tree lacks are 0."""

    def leaf(one: PyTree, other: PyTree) -> PyTree:
        if isinstance(one, dict) or isinstance(other, dict):
            return _interpolated(one or {}, other or {}, fraction)
        return sum(
            part * value for part, value in ((1 - fraction, one), (fraction, other)) if value is not None
        )

    return {name: leaf(first.get(name), second.get(name)) for name in sorted({*first, *second})}


def _require_usable(objects: Objects) -> None:
    for name, status in zip(objects.names, objects.status, strict=True):
        if status not in storage.USABLE:
            raise InputError(f"{name} is unusable: its status is {status}; leave it out")
