"""Table *novel*: views of an object that its one known image does not show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.errors import InputError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_images import FittedImages, fit_images, instance_names, untrained_images
from nerfgen.evaluate.held_out_views import (
    HeldOutViews,
    composite_over_white,
    held_out_views,
    held_out_views_for_images,
    solid_pixels,
)
from nerfgen.evaluate.image_comparison import image_metrics, resample_windows
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.image import InputImage, local_folder
from nerfgen.metric import intersection_over_union, psnr
from nerfgen.parallel import Progress, silent
from nerfgen.render import render_views, to_uint8
from nerfgen.report import ImageGrid, ItemValues, Table, merge_tables

# Most further images of an object that are compared.
_MAX_VIEWS = 4


@dataclass(frozen=True)
class TargetViews:
    """True views to compare with, and the objects as the model knows them.

    Attributes:
        true: the views; ``row`` is the object of each.
        names: name of each view.
        latents: latent code of each object.
        files: the image that each object is known from.
        windows: window of each of these images.
        notes: where the views come from.
    """

    true: HeldOutViews
    names: list[str]
    latents: Float[np.ndarray, "objects latent"]
    files: list[InputImage]
    windows: Float[np.ndarray, "objects 3"]
    notes: list[str]


def novel_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """Renderings of objects known from one image beside true views (table 3 of the paper), both composited over white,
    compared over solid foreground pixels.

    The views are the first available of: further images of the objects in ``held_out``, by the ``instance`` of their
    cameras; ground-truth views of these objects; without ``held_out``, ground-truth views of the training objects,
    rendered from the table's latent codes.
    """
    try:
        targets = _available_views(context, progress)
    except InputError as error:
        return Table({}, missing=[context.portable_message(error)])
    model, true = context.model, targets.true
    cameras = true.intrinsics, true.cam_to_world, model.size
    views = render_views(model, targets.latents[true.row], *cameras, progress=progress)
    mean = np.broadcast_to(model.latents.mean(0), (len(true.row), model.latents.shape[1]))
    average = composite_over_white(render_views(model, mean, *cameras))
    renderings, foreground = composite_over_white(views), solid_pixels(true)
    values = {
        "mean_code_psnr_db": [psnr(*triple) for triple in zip(average, true.rgb, foreground, strict=True)]
    }
    missing = []
    if (true.mask < 1).any():
        values["mask_iou"] = [
            intersection_over_union(own > 0.5, other > 0.5)
            for own, other in zip(views.opacity, true.mask, strict=True)
        ]
    else:
        missing.append("masks of the images: whole images are compared; `nerfgen segment` writes masks")
    true_rgb, rendered_rgb = to_uint8(true.rgb), to_uint8(renderings)
    grid = _grid(context, targets, true_rgb, rendered_rgb)
    return merge_tables(
        [
            Table({}, notes=targets.notes, missing=missing, grids={"new views": grid}),
            image_metrics(context, targets.names, true_rgb, rendered_rgb, foreground),
            Table({name: ItemValues(targets.names, np.array(own)) for name, own in values.items()}),
        ]
    )


def _available_views(context: EvaluationContext, progress: Progress) -> TargetViews:
    """Views to compare with.

    Raises:
        InputError: there are none.
    """
    inputs, model = context.inputs, context.model
    if inputs.held_out is None:
        truth = local_folder(inputs.data) / "truth.h5"
        if not truth.is_file():
            raise InputError(
                "no second view of any object; set `held_out` to a folder with truth.h5 or with several images per "
                "object"
            )
        true = held_out_views(model, truth)
        return TargetViews(
            true,
            _view_names(true, model.images),
            model.latents,
            [InputImage(name, inputs.data) for name in model.images],
            model.window,
            [_count_note(true, "training objects, rendered from the table's latent codes")],
        )
    unknown, _ = untrained_images(model, inputs.held_out)
    instances = instance_names(inputs.held_out, unknown)
    if len(set(instances)) < len(instances):
        return _views_of_instances(context, unknown, instances, progress)
    fitted = context.held_out_images(progress)
    truth = local_folder(inputs.held_out) / "truth.h5"
    if not truth.is_file():
        raise InputError(
            f"no second view of the objects in {folder_name(inputs.held_out)}; add cameras with `instance`, or list "
            "pairs of images for table pairs in `pairs`"
        )
    framed = fitted.framed
    true = held_out_views_for_images(framed.images, framed.intrinsics, framed.cam_to_world, model.size, truth)
    notes = [_count_note(true, "new objects, each fitted to one image")]
    return _targets_of_fitted(fitted, true, _view_names(true, framed.images), notes)


def _views_of_instances(
    context: EvaluationContext, names: list[str], instances: list[str], progress: Progress
) -> TargetViews:
    """Several images per object: the first is fitted, some of the others are compared."""
    inputs, settings = context.inputs, context.settings
    groups: dict[str, list[str]] = {}
    for name, instance in zip(names, instances, strict=True):
        groups.setdefault(instance, []).append(name)
    several = [instance for instance, own in groups.items() if len(own) > 1]
    chosen = choose_subset(several, max(1, settings.images // (1 + _MAX_VIEWS)), settings.seed)
    used = [_spread_images(groups[several[place]]) for place in chosen]
    fitted = fit_images(
        context.model,
        inputs,
        [name for own in used for name in own],
        settings,
        context.workers,
        progress,
    )
    place = {name: number for number, name in enumerate(fitted.framed.images)}
    usable = [[place[name] for name in own if name in place] for own in used]
    rows = [own[0] for own in usable for _ in own[1:]]
    if not rows:
        raise InputError("no held-out object has two usable images")
    notes = [
        f"{len(rows)} further images of {len(set(rows))} new objects, each fitted to one image",
        *fitted.notes,
    ]
    return _targets_of_images(
        fitted, np.array(rows), np.array([target for own in usable for target in own[1:]]), notes
    )


def _spread_images(names: list[str]) -> list[str]:
    """The first image of an object, and up to four evenly spaced further ones."""
    further = np.linspace(1, len(names) - 1, min(_MAX_VIEWS, len(names) - 1)).astype(int)
    return [names[0], *(names[place] for place in further)]


def _targets_of_images(
    fitted: FittedImages, rows: Int[np.ndarray, "views"], targets: Int[np.ndarray, "views"], notes: list[str]
) -> TargetViews:
    """Images ``targets`` as true views of the objects fitted to the images ``rows``."""
    framed = fitted.framed.subset(targets)
    mask = ((framed.mask > 127) & framed.valid).astype(np.float64)
    true = HeldOutViews(
        row=rows,
        rgb=framed.rgb / 255 * mask[..., None] + 1 - mask[..., None],
        mask=mask,
        depth=np.zeros_like(mask),
        intrinsics=framed.raster_intrinsics,
        cam_to_world=framed.cam_to_world,
        scale=np.ones(len(rows)),
    )
    names = [f"{fitted.framed.images[row]} -> {name}" for row, name in zip(rows, framed.images, strict=True)]
    return _targets_of_fitted(fitted, true, names, notes)


def _targets_of_fitted(
    fitted: FittedImages, true: HeldOutViews, names: list[str], notes: list[str]
) -> TargetViews:
    return TargetViews(true, names, fitted.latents, fitted.files, fitted.framed.window, notes)


def _view_names(true: HeldOutViews, images: list[str]) -> list[str]:
    """Names of views: the object's image, and the number of the view."""
    count: Counter[int] = Counter()
    names = []
    for row in true.row.tolist():
        count[row] += 1
        names.append(f"{images[row]}, view {count[row]}")
    return names


def _count_note(true: HeldOutViews, objects: str) -> str:
    return f"{len(true.row)} views of {len(np.unique(true.row))} {objects}"


def _grid(
    context: EvaluationContext,
    targets: TargetViews,
    true: UInt8[np.ndarray, "views size size 3"],
    rendered: UInt8[np.ndarray, "views size size 3"],
) -> ImageGrid:
    """The image that the object is known from, a true view of it, and the rendering of that view."""
    _, first = np.unique(targets.true.row, return_index=True)
    shown = first[np.linspace(0, len(first) - 1, min(context.settings.shown, len(first))).astype(int)]
    own = targets.true.row[shown]
    images, _ = resample_windows(
        [targets.files[row] for row in own], targets.windows[own], context.model.size
    )
    return ImageGrid(
        [targets.names[view] for view in shown],
        ["known image", "true view", "rendering"],
        np.stack([images, true[shown], rendered[shown]], axis=1),
    )
