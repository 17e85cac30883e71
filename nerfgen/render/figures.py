"""Figures of a ``views/1`` file: PNGs, contact sheets and the frames of videos, read view by view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from nerfgen.geometry import turned_views, yaw_pitch_roll
from nerfgen.image import (
    DEPTH_TEXT,
    MAX_DEPTH,
    ImageFolder,
    InputImage,
    StoreError,
    UnreadableImageError,
    color_normals,
    composite_over_white,
    contact_sheet,
    depth_levels,
    depth_limits,
    resample_window,
    save_image,
    shade_depth,
    shade_opacity,
)
from nerfgen.model import Model, table_objects
from nerfgen.render.settings import Kind
from nerfgen.render.views import render_views
from nerfgen.storage import remove_abandoned

Limits = tuple[float, float]
Picture = UInt8[np.ndarray, "_ _ 3"]


def save_pngs(file: h5py.File, folder: Path, kinds: Sequence[Kind]) -> tuple[int, int]:
    """Write every view of every object as ``OBJECT_VIEW.png`` (rgb) or ``OBJECT_VIEW.KIND.png``.

    Other files in the folder are left alone. What the files hold, see :func:`png_pixels`.

    Returns:
        Number of files, and number of pixels whose depth is beyond the range of 16 bits.
    """
    objects, views = file["rgb"].shape[:2]
    remove_abandoned(folder, "*", ".png")
    beyond = 0
    for number, view, kind in np.ndindex(objects, views, len(kinds)):
        name, values = kinds[kind], file[kinds[kind]][number, view]
        suffix = "png" if name == "rgb" else f"{name}.png"
        if name == "depth":
            beyond += int((values > MAX_DEPTH).sum())
        pixels, text = png_pixels(name, values)
        save_image(
            folder / f"{number:04d}_{view:03d}.{suffix}",
            pixels,
            text=text,
            figure=name not in ("rgb", "rgba"),
            tidy=False,
        )
    return objects * views * len(kinds), beyond


def png_pixels(
    kind: Kind, values: Shaped[np.ndarray, "height width *channels"]
) -> tuple[Shaped[np.ndarray, "height width *channels"], dict[str, str]]:
    """Values of one kind, as a views file holds them, as the pixels of a PNG, and texts for its metadata.

    rgba has straight alpha; depth has 16 bits, see :func:`nerfgen.image.depth_levels`; normals are world normals, see
    :func:`nerfgen.image.color_normals`; opacity is grey.
    """
    if kind == "depth":
        return depth_levels(values), DEPTH_TEXT
    return color_normals(values) if kind == "normals" else values, {}


def input_images(file: h5py.File, model: Model | None, data: Path, size: int) -> Iterator[Picture | None]:
    """The framed input image of each object of a views file; None for objects without one.

    Args:
        model: of the objects; None if it is elsewhere, and with it the images of its rows.
        data: folder of the images of the model's rows; missing ones are grey.
        size: of the result, pixels.
    """
    fitted = file.get("photographs", {})
    for number, row in enumerate(file["row"][:]):
        if row >= 0:
            yield framed_image(model, int(row), data, size) if model else None
        elif str(number) in fitted:
            picture = fitted[str(number)][:]
            yield resample_window(picture, (0, 0, picture.shape[0]), size)[0]
        else:
            yield None


def views_sheet(
    file: h5py.File, kinds: Sequence[Kind] = ("rgb",), images: Sequence[Picture | None] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """A contact sheet with a row for each object and kind: all views of the object.

    Where any object has an input image, the first row of each object begins with it. The sheet is about square where
    rows would hold a single cell.

    Args:
        images: input image of each object, or None.
    """
    views, size = file["rgb"].shape[1:3]
    blank = np.full((size, size, 3), 255, np.uint8)
    with_images = any(image is not None for image in images)
    strips = []
    for number in range(file["rgb"].shape[0]):
        limits = _object_limits(file, number, kinds)
        for place, kind in enumerate(kinds):
            image = images[number] if with_images and not place else None
            cells = [blank if image is None else image] if with_images else []
            cells += [_shown(file, kind, number, view, limits) for view in range(views)]
            strips.append(contact_sheet(cells, columns=len(cells)))
    single = views + with_images == len(kinds) == 1
    return contact_sheet(strips, columns=0 if single else 1)


def video_frames(
    file: h5py.File, kinds: Sequence[Kind] = ("rgb",), over: Literal["views", "objects"] = "views"
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Frames of a video of all views except those from input images' cameras, which differ by object.

    Args:
        over: axis of time. A frame shows all objects in one view, or all views of one object; kinds are side by side.
    """
    views = np.flatnonzero(np.isfinite(file["angles"][:, 0]))
    objects = np.arange(file["rgb"].shape[0])
    limits = [_object_limits(file, number, kinds) for number in objects]
    if over == "objects":  # Frames are shaded alike.
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
    """One view of a views file as a colour image."""
    return show(kind, file[kind][number, view], limits)


def show(kind: Kind, values: Shaped[np.ndarray, "height width *channels"], limits: Limits) -> Picture:
    """Values of one kind, as a views file holds them, as a colour image.

    Args:
        limits: nearest and farthest depth, for depth.
    """
    match kind:
        case "rgb":
            return values
        case "rgba":
            return composite_over_white(values)
        case "depth":
            return shade_depth(values, limits)
        case "normals":
            return color_normals(values)
        case "opacity":
            return shade_opacity(values)


def _object_limits(file: h5py.File, number: int, kinds: Sequence[Kind]) -> Limits:
    """Nearest and farthest depth of all views of an object; NaN if depth is not shown."""
    if "depth" not in kinds:
        return np.nan, np.nan
    depth = file["depth"]
    return shared_limits(depth[number, view] for view in range(depth.shape[1]))


def shared_limits(depths: Iterable[Float[np.ndarray, "height width"]]) -> Limits:
    """Nearest and farthest depth of several views, which are then shaded alike; NaN if none has a depth."""
    return _widest([depth_limits(depth) for depth in depths])


def _widest(limits: Sequence[Limits]) -> Limits:
    known = np.array([pair for pair in limits if np.isfinite(pair).all()]).reshape(-1, 2)
    return (float(known[:, 0].min()), float(known[:, 1].max())) if len(known) else (np.nan, np.nan)


_PREVIEW_ROWS = 6
_PREVIEW_TURN = 40.0


def framed_image(model: Model, row: int, data: ImageFolder, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The window of a table row's image; grey if the file is missing, or its store does not answer."""
    try:
        return InputImage(model.images[row], data).resample(model.window[row], size)[0]
    except (UnreadableImageError, StoreError):  # a preview of training, which goes on
        return np.full((size, size, 3), 128, np.uint8)


def preview_sheet(model: Model, data: ImageFolder) -> UInt8[np.ndarray, "height width 3"]:
    """Some training objects, a row each: image, reconstruction, views from either side, depth."""
    size = model.size
    rows = np.unique(np.linspace(0, len(model.images) - 1, _PREVIEW_ROWS).astype(int)).tolist()
    objects = table_objects(model, rows)
    assert objects.cameras is not None
    cells = []
    for place, row in enumerate(rows):
        pitch = yaw_pitch_roll(objects.cameras.cam_to_world[place])[1]
        turned_k, turned = turned_views(
            np.array([-_PREVIEW_TURN, _PREVIEW_TURN]), np.full(2, pitch), model.distance, size
        )
        own_k = objects.cameras.matrices(size)[place]
        views = render_views(
            model,
            np.tile(objects.latents[place], (3, 1)),
            np.concatenate([own_k[None], turned_k]),
            np.concatenate([objects.cameras.cam_to_world[place][None], turned]),
            size,
        )
        cells += [framed_image(model, row, data, size), *views.rgb, shade_depth(views.depth[0])]
    return contact_sheet(cells, columns=5)
