"""A model in one picture: photographs of its table and what it makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nerfgen.field import Model
from nerfgen.generate.codes import table_objects
from nerfgen.generate.views import render_views
from nerfgen.geometry import turned_views, yaw_pitch_roll
from nerfgen.photo import UnreadableImageError, decode, resample_window
from nerfgen.picture import contact_sheet, shade_depth

_PREVIEW_ROWS = 6
_PREVIEW_TURN = 40.0


def framed_photograph(model: Model, row: int, data: Path, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The window of a table row's photograph; grey if the file is not there any more."""
    try:
        return resample_window(decode(data / model.images[row]), tuple(model.window[row]), size)[0]
    except UnreadableImageError:
        return np.full((size, size, 3), 128, np.uint8)


def preview_picture(model: Model, data: Path) -> UInt8[np.ndarray, "height width 3"]:
    """Some training objects, a row each: photograph, reconstruction, turned to either side, depth."""
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
        cells += [framed_photograph(model, row, data, size), *views.rgb, shade_depth(views.depth[0])]
    return contact_sheet(cells, columns=5)
