"""Walks through the space of codes: between objects, and along a principal axis."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.generate.codes import Objects
from nerfgen.generate.sampling import Principal

# Angles and lengths, in standard deviations, that count as none.
_NONE = 1e-9


def walk_between(objects: Objects, principal: Principal, frames: int) -> Objects:
    """Objects on a path through given ones, in order, that stays where codes are typical.

    In coordinates that are standard deviations along the principal axes, codes of a Gaussian table lie about on a
    sphere. A straight line between two would pass near the mean, through objects that are too average; the path
    follows :func:`great_arc` instead. What lies off the axes, and what a network was tuned by, changes linearly.

    Args:
        principal: of the whole table, all its axes.
        frames: of the whole path. Every given object is one of them, with exactly its own code; the others are dealt
            out evenly between them, and divide each part of the path evenly.

    Returns:
        The frames as objects, without cameras; ``coefficients`` in ``extra``.

    Raises:
        InputError: fewer than two objects, more than frames, or one that can't be used.
    """
    count = len(objects)
    if count < 2:
        raise InputError(
            f"a path needs two objects or more, and here is {count}; give rows such as 0 5, or files"
        )
    if frames < count:
        raise InputError(
            f"{frames} frames are too few for a path through {count} objects; each of them is a frame"
        )
    _require_usable(objects)
    coordinates = principal.coefficients(objects.latents)
    remainders = objects.latents - principal.codes(coordinates)
    stops = np.round(np.linspace(0, frames - 1, count)).astype(int)
    names = []
    path, latents = np.empty((frames, coordinates.shape[1])), np.empty((frames, objects.latents.shape[1]))
    tuned: dict[int, dict[str, Any]] = {}
    for part, (start, stop) in enumerate(itertools.pairwise(stops)):
        there = np.arange(start, stop)
        share = (there - start) / (stop - start)
        path[there] = great_arc(coordinates[part], coordinates[part + 1], share)
        off = remainders[part] + share[:, None] * (remainders[part + 1] - remainders[part])
        latents[there] = principal.codes(path[there]) + off
        names += [f"{objects.names[part]} to {objects.names[part + 1]}, {each:.3f}" for each in share]
        deltas = objects.tuned.get(part, {}), objects.tuned.get(part + 1, {})
        if any(deltas):
            tuned |= {
                frame: _mixed(*deltas, each)
                for frame, each in zip(there.tolist(), share.tolist(), strict=True)
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
    share: Float[np.ndarray, "steps"],
) -> Float[np.ndarray, "steps components"]:
    """From one point to another about the origin: the direction turns evenly, and the length changes evenly.

    Shoemake, "Animating rotation with quaternion curves" (slerp), with lengths. Where one of the points is the
    origin, or both lie in one direction, this is a straight line. Between opposite points there are many arcs: the
    one taken passes the coordinate axis that is least aligned with them.
    """
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    straight = start + share[:, None] * (end - start)
    if min(lengths) < _NONE:
        return straight
    first, last = start / lengths[0], end / lengths[1]
    angle = 2 * np.arctan2(np.linalg.norm(first - last), np.linalg.norm(first + last))
    side = last - (first @ last) * first
    if np.linalg.norm(side) < _NONE and first @ last < 0:
        side = np.eye(len(first))[np.abs(first).argmin()]
        side = side - (first @ side) * first
    if np.linalg.norm(side) < _NONE:
        return straight
    side = side / np.linalg.norm(side)
    turned = np.cos(share * angle)[:, None] * first + np.sin(share * angle)[:, None] * side
    return (lengths[0] + share * (lengths[1] - lengths[0]))[:, None] * turned


def walk_axis(
    principal: Principal, axis: int, values: Float[np.ndarray, "frames"], start: Objects | None = None
) -> Objects:
    """Objects that differ along one principal axis only.

    Args:
        principal: of the whole table, all its axes.
        axis: counted from 1, the axis of largest variance.
        values: what the coordinate along it becomes, in standard deviations.
        start: one object that has all other coordinates; None for the mean.

    Returns:
        The frames as objects, without cameras; ``coefficients`` in ``extra``.

    Raises:
        InputError: there is no such axis, or not one object to start from.
    """
    if not 1 <= axis <= principal.varying:
        raise InputError(
            f"there is no principal axis {axis}; the table varies along axes 1 to {principal.varying}"
        )
    code, name, tuned = principal.mean, "mean", None
    if start is not None:
        if len(start) != 1:
            raise InputError(f"a walk along an axis starts from one object, and here are {len(start)}")
        _require_usable(start)
        code, name, tuned = start.latents[0], start.names[0], start.tuned.get(0)
    coordinates = np.tile(principal.coefficients(code[None]), (len(values), 1))
    moves = values - coordinates[:, axis - 1]
    coordinates[:, axis - 1] = values
    return Objects(
        names=[f"{name}, axis {axis} at {value:+.3f}" for value in values],
        status=["ok"] * len(values),
        rows=np.full(len(values), -1),
        latents=code + moves[:, None] * principal.deviation[axis - 1] * principal.axes[axis - 1],
        tuned={frame: tuned for frame in range(len(values))} if tuned else {},
        extra={"coefficients": coordinates},
    )


def _mixed(first: dict[str, Any], second: dict[str, Any], share: float) -> dict[str, Any]:
    """Two trees of arrays, (1 - share) of one and share of the other; what a tree lacks is 0 there."""

    def mixed(one: Any, other: Any) -> Any:
        if isinstance(one, dict) or isinstance(other, dict):
            return _mixed(one or {}, other or {}, share)
        return sum(part * value for part, value in ((1 - share, one), (share, other)) if value is not None)

    return {name: mixed(first.get(name), second.get(name)) for name in sorted({*first, *second})}


def _require_usable(objects: Objects) -> None:
    for name, status in zip(objects.names, objects.status, strict=True):
        if status not in artifact.USABLE:
            raise InputError(f"{name} can't be walked from: its status is {status}; leave it out")
