"""Pictures of a model's own objects, to go on training without forgetting them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nerfgen import artifact
from nerfgen.field import load_model, model_file
from nerfgen.generate.views import eight_bits, render_views
from nerfgen.geometry import window_intrinsics
from nerfgen.parallel import Progress, silent
from nerfgen.train import Start


def rehearsed(
    path: Path, size: int = 0, *, pictures: int = 256, seed: int = 0, progress: Progress = silent
) -> Start:
    """A model to go on from, with pictures that it makes itself of rows of its table (Robins 1995: pseudo-rehearsal).

    Every second picture is taken by the row's own camera, the others by the camera of another row, so that the sides
    which the row's photograph did not show are kept too.

    Args:
        path: model file, or the folder that holds model.h5.
        size: edge of the pictures, pixels; 0 for that of the model.
        pictures: how many; rows are drawn without repetition as long as there are any.
        progress: told of the pictures, which are rendered when training needs them.
    """
    path = model_file(path)
    model = load_model(path)
    size, count = size or model.size, len(model.images)
    rng = np.random.default_rng([seed, count])
    rows = np.concatenate([rng.permutation(count) for _ in range(-(-pictures // count))])[:pictures]
    seen_by = np.where(np.arange(pictures) % 2 == 0, rows, rng.integers(0, count, pictures))
    intrinsics = window_intrinsics(model.intrinsics[seen_by], model.window[seen_by], size)
    poses = model.cam_to_world[seen_by]

    def render() -> UInt8[np.ndarray, "pictures size size 4"]:
        views = render_views(model, model.latents[rows], intrinsics, poses, size, progress=progress)
        return np.concatenate([views.rgb, eight_bits(views.opacity)[..., None]], axis=-1)

    return Start(model, artifact.file_record(path), seed, size, rows, intrinsics, poses, render)
