"""Pictures of a ``views/1`` file: PNGs, contact sheets and the frames of videos, read view by view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import h5py
import numpy as np
from jaxtyping import UInt8

from nerfgen.artifact import remove_abandoned
from nerfgen.field import Model
from nerfgen.generate.sheet import framed_photograph
from nerfgen.photo import resample_window
from nerfgen.picture import (
    DEPTH_TEXT,
    FARTHEST,
    color_normals,
    contact_sheet,
    depth_levels,
    depth_limits,
    over_white,
    save_picture,
    shade_depth,
    shade_opacity,
)

Kind = Literal["rgb", "rgba", "depth", "normals", "opacity"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Limits = tuple[float, float]
Picture = UInt8[np.ndarray, "_ _ 3"]


def save_pngs(file: h5py.File, folder: Path, kinds: Sequence[Kind]) -> tuple[int, int]:
    """Write every view of every object as ``OBJECT_VIEW.png`` (rgb) or ``OBJECT_VIEW.KIND.png``, of which what else is
    in the folder stays.

    rgba has straight alpha; depth has 16 bits, see :func:`nerfgen.picture.depth_levels`; normals are those in the world
    as :func:`nerfgen.picture.color_normals`; opacity is grey.

    Returns:
        How many were written, and how many of their pixels have a depth beyond what 16 bits say.
    """
    objects, views = file["rgb"].shape[:2]
    remove_abandoned(folder, "*", ".png")
    beyond = 0
    for number, view, kind in np.ndindex(objects, views, len(kinds)):
        name, values = kinds[kind], file[kinds[kind]][number, view]
        suffix = "png" if name == "rgb" else f"{name}.png"
        if name == "depth":
            beyond += int((values > FARTHEST).sum())
            values = depth_levels(values)
        save_picture(
            folder / f"{number:04d}_{view:03d}.{suffix}",
            color_normals(values) if name == "normals" else values,
            text=DEPTH_TEXT if name == "depth" else None,
            tidy=False,
        )
    return objects * views * len(kinds), beyond


def input_photographs(file: h5py.File, model: Model, data: Path, size: int) -> Iterator[Picture | None]:
    """The framed photograph of each object of a views file, or None where it was made from none.

    Args:
        data: folder that holds the photographs of the model's rows; those that are not there are grey.
        size: edge of the pictures, pixels.
    """
    fitted = file.get("photographs", {})
    for number, row in enumerate(file["row"][:]):
        if row >= 0:
            yield framed_photograph(model, int(row), data, size)
        elif str(number) in fitted:
            picture = fitted[str(number)][:]
            yield resample_window(picture, (0, 0, picture.shape[0]), size)[0]
        else:
            yield None


def views_sheet(
    file: h5py.File, kinds: Sequence[Kind] = ("rgb",), photographs: Sequence[Picture | None] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """A row for each object and kind: its photograph, once and if any object has one, then all its views.

    Where a row would be a single picture, the sheet is about square.
    """
    views, size = file["rgb"].shape[1:3]
    blank = np.full((size, size, 3), 255, np.uint8)
    with_photographs = any(picture is not None for picture in photographs)
    strips = []
    for number in range(file["rgb"].shape[0]):
        limits = _object_limits(file, number, kinds)
        for place, kind in enumerate(kinds):
            photograph = photographs[number] if with_photographs and not place else None
            cells = [blank if photograph is None else photograph] if with_photographs else []
            cells += [_shown(file, kind, number, view, limits) for view in range(views)]
            strips.append(contact_sheet(cells, columns=len(cells)))
    single = views + with_photographs == len(kinds) == 1
    return contact_sheet(strips, columns=0 if single else 1)


def video_frames(
    file: h5py.File, kinds: Sequence[Kind] = ("rgb",), over: Literal["views", "objects"] = "views"
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Frames of a video of all views but the photographs' own, which differ by object.

    Args:
        over: what time runs over. A frame shows all objects in one view, or all views of one object; kinds are side
            by side.
    """
    views = np.flatnonzero(np.isfinite(file["angles"][:, 0]))
    objects = np.arange(file["rgb"].shape[0])
    limits = [_object_limits(file, number, kinds) for number in objects]
    if over == "objects":  # Neighbours in time are shaded alike.
        limits = [_widest(limits)] * len(objects)

    def frame(pairs: list[tuple[int, int]]) -> UInt8[np.ndarray, "_ _ 3"]:
        return contact_sheet(
            [
                contact_sheet([_shown(file, kind, n, v, limits[n]) for kind in kinds], columns=len(kinds))
                for n, v in pairs
            ]
        )

    if over == "views":
        yield from (frame([(number, view) for number in objects]) for view in views)
    else:
        yield from (frame([(number, view) for view in views]) for number in objects)


def _shown(file: h5py.File, kind: Kind, number: int, view: int, limits: Limits) -> Picture:
    """One view as people look at it."""
    values = file[kind][number, view]
    match kind:
        case "rgb":
            return values
        case "rgba":
            return over_white(values)
        case "depth":
            return shade_depth(values, limits)
        case "normals":
            return color_normals(values)
        case "opacity":
            return shade_opacity(values)


def _object_limits(file: h5py.File, number: int, kinds: Sequence[Kind]) -> Limits:
    """Near and far of all views of an object; nothing where no depth is to be shown."""
    if "depth" not in kinds:
        return np.nan, np.nan
    depth = file["depth"]
    return _widest([depth_limits(depth[number, view]) for view in range(depth.shape[1])])


def _widest(limits: Sequence[Limits]) -> Limits:
    known = np.array([pair for pair in limits if np.isfinite(pair).all()]).reshape(-1, 2)
    return (float(known[:, 0].min()), float(known[:, 1].max())) if len(known) else (np.nan, np.nan)
