"""Renderings of a base model's own objects, which keep continued training from forgetting them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nerfgen import storage
from nerfgen.data import BaseModel
from nerfgen.geometry import window_intrinsics
from nerfgen.model import load_model, model_file
from nerfgen.parallel import Progress, silent
from nerfgen.render import render_views, to_uint8


def load_base_model(
    path: Path,
    size: int | None = None,
    *,
    renderings: int = 256,
    seed: int = 0,
    progress: Progress = silent,
) -> BaseModel:
    """A model to continue, with renderings of rows of its table (Robins 1995: pseudo-rehearsal).

    Every second rendering has the row's own camera, the others that of another row, so that the sides which the row's
    image did not show are kept too.

    Args:
        path: model file, or the folder that holds model.h5.
        size: of the renderings, pixels; None for that of the model.
        renderings: their number; a row is repeated only when all rows were drawn.
        progress: of the renderings, which are made when training needs them.
    """
    path = model_file(path)
    model = load_model(path)
    size, count = size or model.size, len(model.images)
    rng = np.random.default_rng([seed, count])
    rows = np.concatenate([rng.permutation(count) for _ in range(-(-renderings // count))])[:renderings]
    viewers = np.where(np.arange(renderings) % 2 == 0, rows, rng.integers(0, count, renderings))
    intrinsics = window_intrinsics(model.intrinsics[viewers], model.window[viewers], size)
    poses = model.cam_to_world[viewers]

    def render() -> UInt8[np.ndarray, "renderings size size 4"]:
        views = render_views(model, model.latents[rows], intrinsics, poses, size, progress=progress)
        return np.concatenate([views.rgb, to_uint8(views.opacity)[..., None]], axis=-1)

    return BaseModel(model, storage.file_record(path), seed, size, rows, intrinsics, poses, render)
