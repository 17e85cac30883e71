"""Tables *train* and *fit*: reconstruction of training images and of held-out images."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from nerfgen.errors import InputError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.image_comparison import image_metrics, resample_windows, training_images
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.evaluate.turned_fits import turned_fits_table
from nerfgen.geometry import turned_views, window_intrinsics, yaw_pitch_roll
from nerfgen.image import shade_depth
from nerfgen.model import table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.render import Views, render_views
from nerfgen.report import ImageGrid, Table, merge_tables

# Yaw of the side views, degrees: enough to reveal a flat reconstruction.
_SIDE_YAW = 35.0


def train_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """Training images and the renderings of their latent codes from their own cameras (table 1 of the paper).

    All pixels of the window inside the image are compared, including the background.
    """
    model, settings = context.model, context.settings
    chosen = choose_subset(model.images, settings.images, settings.seed)
    images, valid = training_images(model, context.inputs.data, chosen)
    present = np.flatnonzero(valid.any((1, 2)))
    absent = len(chosen) - len(present)
    if not len(present):
        return Table({}, missing=[no_training_images(context)])
    objects = table_objects(model, chosen[present].tolist())
    assert objects.cameras is not None
    views = render_views(
        model,
        objects.latents,
        objects.cameras.matrices(model.size),
        objects.cameras.cam_to_world,
        model.size,
        progress=progress,
    )
    shown = slice(settings.shown)
    notes = [f"{len(present)} of {len(model.images)} training images, chosen by seed {settings.seed}"]
    if absent:
        notes.append(f"{absent} of {len(chosen)} are absent or changed since training and were left out")
    grid = ImageGrid(
        objects.names[shown],
        ["image", "reconstruction"],
        np.stack([images[present][shown], views.rgb[shown]], axis=1),
    )
    return merge_tables(
        [
            Table({}, notes=notes, grids={"reconstructions": grid}),
            image_metrics(context, objects.names, images[present], views.rgb, valid[present]),
        ]
    )


def no_training_images(context: EvaluationContext) -> str:
    """Why nothing could be compared with training images, and what to do."""
    return (
        f"no training image was found in {folder_name(context.inputs.data)}; set `data` to the folder of the "
        "training images"
    )


def fit_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """Held-out images and the renderings of their fitted latent codes from their own cameras (table 2 of the paper),
    at the training resolution and at twice that, over all pixels inside the image; and the same codes from other
    sides."""
    try:
        fitted = context.held_out_images(progress)
    except InputError as error:
        return Table({}, missing=[context.portable_message(error)])
    model, framed = context.model, fitted.framed
    notes = [*fitted.notes, f"latent codes fitted in {context.settings.fit_steps} steps"]
    parts = [Table({}, notes=notes)]
    compared = {}
    for factor, suffix in ((1, ""), (2, "_2x")):
        size = factor * model.size
        images, valid = resample_windows(fitted.files, framed.window, size)
        views = render_views(
            model,
            fitted.latents,
            window_intrinsics(framed.intrinsics, framed.window, size),
            framed.cam_to_world,
            size,
        )
        parts.append(image_metrics(context, framed.images, images, views.rgb, valid, suffix=suffix))
        compared[factor] = images, views
    parts.append(turned_fits_table(context, fitted))
    parts.append(Table({}, grids={"held-out images": _held_out_grid(context, *compared[1])}))
    return merge_tables(parts)


def _held_out_grid(
    context: EvaluationContext, images: UInt8[np.ndarray, "images size size 3"], views: Views
) -> ImageGrid:
    """Image, reconstruction, its depth, and the object from both sides."""
    fitted, model = context.held_out_images(), context.model
    count = min(context.settings.shown, len(images))
    pitch = yaw_pitch_roll(fitted.framed.cam_to_world[:count])[:, 1]
    side_views = [
        render_views(
            model,
            fitted.latents[:count],
            *turned_views(np.full(count, yaw), pitch, model.distance, model.size),
            model.size,
        ).rgb
        for yaw in (-_SIDE_YAW, _SIDE_YAW)
    ]
    depth = [shade_depth(view) for view in views.depth[:count]]
    columns = [
        images[:count],
        views.rgb[:count],
        np.array(depth).reshape(images[:count].shape),
        *side_views,
    ]
    return ImageGrid(
        fitted.framed.images[:count],
        ["image", "reconstruction", "depth", f"yaw {-_SIDE_YAW:g}", f"yaw {_SIDE_YAW:g}"],
        np.stack(columns, axis=1),
    )
