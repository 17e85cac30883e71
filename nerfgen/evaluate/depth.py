"""Table *depth*: agreement of rendered with true depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.image_comparison import resample_windows
from nerfgen.evaluate.true_depth import (
    DepthMaps,
    ModelImages,
    TrueDepth,
    denormalize_depth,
    normalize_depth,
    true_depth,
)
from nerfgen.geometry import OPENGL_AXES, window_intrinsics
from nerfgen.image import color_normals, depth_limits, draw_points, shade_depth
from nerfgen.metric import (
    PooledCorrelation,
    SummedCorrelation,
    angles_between,
    depth_normals,
    pearson,
    spearman,
)
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent
from nerfgen.render import render_views, surface_depths
from nerfgen.report import ImageGrid, ItemValues, ScatterPoints, Table, merge_tables

# Fewest points of an image for a correlation.
_MIN_POINTS = 3
# iBUG's 68 facial points, counted from 0: 60 and 64 are the corners of the inner mouth.
_IBUG_POINTS, _INNER_MOUTH_CORNERS = 68, (60, 64)
# Most points of a scatter plot.
_MAX_PLOTTED = 1500
# Colours of the nearest and the farthest point, and number of steps between them.
_NEAR, _FAR, _SHADES = np.array([255, 235, 90]), np.array([40, 60, 230]), 12

# Each has a number of points of its own.
Pair = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]


def depth_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """Depth rendered from the images' cameras beside true depth (table 4 of the paper): at keypoints and, where the
    ground truth has depth maps, over pixels that show the object alone, with the normals there.

    Correlations within an image are independent of units. Pooled ones are of
    :func:`~nerfgen.evaluate.true_depth.normalize_depth` where true cameras are known. Keypoints without known unit and
    zero are standardised within each image. The depth of a keypoint is that of the surface along the ray through it.

    Raises:
        InputError: the given keypoints are unusable.
    """
    truth = true_depth(context, progress)
    if isinstance(truth, str):
        return Table({}, missing=[truth])
    parts = [Table({}, notes=truth.notes), _at_keypoints(context, truth)]
    if truth.maps:
        parts.append(_over_masks(context, truth.images, truth.maps, progress))
    return merge_tables(parts)


def _at_keypoints(context: EvaluationContext, truth: TrueDepth) -> Table:
    images, true = truth.images, truth.keypoints[..., 2]
    predicted = _surface_at_keypoints(context.model, truth, images.latents)
    mean_code = np.broadcast_to(context.model.latents.mean(0), images.latents.shape)
    average = _surface_at_keypoints(context.model, truth, mean_code)
    pairs = _measured_pairs(predicted, true)
    summed = _summed_correlations(context, truth, predicted, average)
    unmet = int((np.isfinite(true) & ~np.isfinite(predicted)).sum())
    notes = [f"the model has no surface at {unmet} of {np.isfinite(true).sum()} keypoints"] if unmet else []
    if truth.maps:
        return merge_tables(
            [Table({}, notes=notes), summed, _correlations(context, images, pairs, "keypoint_", "keypoints")]
        )
    pairs = _standardized(pairs)
    # Without depth maps, keypoints are all there is: they are also the values of the metrics over masks.
    return merge_tables(
        [
            Table({}, notes=notes, grids=_keypoint_grid(context, truth, predicted)),
            _correlations(context, images, pairs, "", "keypoints"),
            _correlations(context, images, pairs, "keypoint_", "keypoints"),
            summed,
            *_by_visibility(context, truth, predicted, average),
        ]
    )


def _summed_correlations(
    context: EvaluationContext,
    truth: TrueDepth,
    predicted: Float[np.ndarray, "images keypoints"],
    average: Float[np.ndarray, "images keypoints"],
) -> Table:
    """DepthCorr (:class:`nerfgen.metric.SummedCorrelation`) of all and, where visibility is known, of visible
    keypoints; and that of the mean latent code. Depths without known unit and zero are standardised within each image.

    Of 68 keypoints, which are taken for those of iBUG, the corners of the inner mouth do not count: the published
    figures are of the other 66, which 3DFAW annotates.
    """
    count = truth.keypoints.shape[1]
    counted = [point for point in range(count) if count != _IBUG_POINTS or point not in _INNER_MOUTH_CORNERS]
    chosen = {"": np.ones(predicted.shape, bool)}
    if truth.visible is not None:
        chosen["_visible"] = truth.visible
    pooled = {}
    for prefix, depth in (("", predicted), ("mean_code_", average)):
        for suffix, where in chosen.items():
            true = truth.keypoints[..., 2]
            known = (where & np.isfinite(depth) & np.isfinite(true))[:, counted]
            pair = [np.where(known, side[:, counted], np.nan) for side in (depth, true)]
            if not truth.maps:
                pair = [_standardize_rows(side) for side in pair]
            summed = SummedCorrelation(*pair).estimate(context.settings.seed)
            pooled[f"{prefix}depth_corr{suffix}"] = summed
    note = f"DepthCorr: at most {len(counted)}, the number of keypoints"
    if len(counted) < count:
        corners = " and ".join(str(point) for point in _INNER_MOUTH_CORNERS)
        note += f" without the corners of the inner mouth, {corners} of iBUG's 0 to {_IBUG_POINTS - 1}"
    return Table({}, pooled, notes=[note])


def _by_visibility(
    context: EvaluationContext,
    truth: TrueDepth,
    predicted: Float[np.ndarray, "images keypoints"],
    average: Float[np.ndarray, "images keypoints"],
) -> list[Table]:
    """Correlations at visible and at hidden keypoints, each standardised within its image, where visibility is known;
    and those of the mean latent code from the same cameras. At a hidden keypoint the model shows what hides it."""
    images, visible = truth.images, truth.visible
    chosen = {"": np.ones(predicted.shape, bool)}
    if visible is not None:
        chosen |= {"_visible": visible, "_hidden": ~visible}
    parts = []
    for prefix, depth in (("", predicted), ("mean_code_", average)):
        for suffix, where in chosen.items():
            if prefix or suffix:
                pairs = _measured_pairs(np.where(where, depth, np.nan), truth.keypoints[..., 2])
                found = _correlations(
                    context,
                    images,
                    _standardized(pairs),
                    f"{prefix}keypoint_",
                    f"{suffix[1:]} keypoints",
                    suffix,
                )
                parts.append(replace(found, values={}, points={}) if prefix else found)
    return parts


def _surface_at_keypoints(
    model: Model, truth: TrueDepth, latents: Float[np.ndarray, "images latent"]
) -> Float[np.ndarray, "images keypoints"]:
    """:func:`normalize_depth` of the surface of each latent code at the keypoints of its image; NaN without any."""
    images = truth.images
    cameras = images.intrinsics, images.cam_to_world
    depth = surface_depths(model, latents, truth.keypoints[..., :2], *cameras)
    return normalize_depth(depth, *cameras, images.window[:, 2])


def _measured_pairs(
    predicted: Float[np.ndarray, "images keypoints"], true: Float[np.ndarray, "images keypoints"]
) -> list[Pair]:
    """Both depths of each image where both are known."""
    both = np.isfinite(predicted) & np.isfinite(true)
    return [(own[valid], other[valid]) for own, other, valid in zip(predicted, true, both, strict=True)]


def _over_masks(
    context: EvaluationContext, images: ModelImages, maps: DepthMaps, progress: Progress
) -> Table:
    size, side = maps.depth.shape[-1], images.window[:, 2]
    views = render_views(
        context.model,
        images.latents,
        window_intrinsics(images.intrinsics, maps.window, size),
        images.cam_to_world,
        size,
        with_normals=True,
        progress=progress,
    )
    assert views.normals is not None
    true = normalize_depth(maps.depth, maps.intrinsics, maps.cam_to_world, side)
    predicted = normalize_depth(views.depth, images.intrinsics, images.cam_to_world, side)
    solid = maps.depth > 0
    both = solid & (views.depth > 0)
    pairs = [(own[valid], other[valid]) for own, other, valid in zip(predicted, true, both, strict=True)]
    normals = np.einsum("nyxi,nij->nyxj", views.normals, images.cam_to_world[:, :3, :3])
    raster = window_intrinsics(maps.intrinsics, maps.window, size)
    true_normals = [depth_normals(*triple) for triple in zip(maps.depth, raster, solid, strict=True)]
    errors = []
    for own, (other, defined), valid in zip(normals, true_normals, both, strict=True):
        where = defined & valid
        angles = angles_between(own[where], other[where])
        errors.append(float(angles.mean()) if angles.size else np.nan)
    in_true_units = np.where(
        views.depth > 0, denormalize_depth(predicted, maps.intrinsics, maps.cam_to_world, side), 0
    )
    grid = _map_grid(
        context, images, maps, in_true_units, np.stack([own for own, _ in true_normals]), normals
    )
    missed = 1 - both.sum() / max(solid.sum(), 1)
    return merge_tables(
        [
            _correlations(context, images, pairs, "", "pixels of the masks"),
            Table(
                {"normals_error_deg": ItemValues(images.names, np.array(errors))},
                notes=[f"{100 * missed:.1f}% of the masks' pixels show no surface of the model; left out"],
                grids={"depth and normals": grid},
            ),
        ]
    )


def _correlations(
    context: EvaluationContext,
    images: ModelImages,
    pairs: Sequence[Pair],
    prefix: str,
    title: str,
    suffix: str = "",
) -> Table:
    """Correlations of predicted and true depth, within images and pooled, and a scatter plot.

    Args:
        prefix, suffix: begin and end of the metrics' names; ``_pooled`` follows.
    """
    correlations = {"pearson": pearson, "spearman": spearman}
    within = {
        f"{prefix}{name}{suffix}": ItemValues(
            images.names,
            np.array([correlate(*pair) if len(pair[0]) >= _MIN_POINTS else np.nan for pair in pairs]),
        )
        for name, correlate in correlations.items()
    }
    pooled = {
        f"{prefix}{name}{suffix}_pooled": PooledCorrelation(list(pairs), ranks=name == "spearman").estimate(
            context.settings.seed
        )
        for name in correlations
    }
    predicted, true = (np.concatenate(side) for side in zip(*pairs, strict=True))
    generator = np.random.default_rng(context.settings.seed)
    shown = np.sort(generator.permutation(len(true))[:_MAX_PLOTTED])
    return Table(
        within,
        pooled,
        points={title: ScatterPoints(true[shown], predicted[shown], "true depth", "predicted depth")},
    )


def _standardized(pairs: Sequence[Pair]) -> list[Pair]:
    return [(_standardize(own), _standardize(other)) for own, other in pairs]


def _standardize(values: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 0 else values * 0.0


def _standardize_rows(values: Float[np.ndarray, "images points"]) -> Float[np.ndarray, "images points"]:
    """Known values of each row standardised; NaN stays."""
    result = np.full(values.shape, np.nan)
    for own, row, known in zip(result, values, np.isfinite(values), strict=True):
        own[known] = _standardize(row[known])
    return result


def _map_grid(
    context: EvaluationContext,
    images: ModelImages,
    maps: DepthMaps,
    predicted: Float[np.ndarray, "images size size"],
    true_normals: Float[np.ndarray, "images size size 3"],
    normals: Float[np.ndarray, "images size size 3"],
) -> ImageGrid:
    """Images, both depths on the scale of the true one, and normals in a viewer's axes: x right, y up."""
    count = min(context.settings.shown, len(images.names))
    windows, _ = resample_windows(images.files[:count], maps.window[:count], maps.depth.shape[-1])
    viewer = OPENGL_AXES[:3, :3]
    rows = []
    for k in range(count):
        limits = depth_limits(maps.depth[k])
        rows.append(
            [
                windows[k],
                shade_depth(maps.depth[k], limits),
                shade_depth(predicted[k], limits),
                color_normals(true_normals[k] @ viewer),
                color_normals(normals[k] @ viewer),
            ]
        )
    columns = ["image", "true depth", "predicted depth", "true normals", "predicted normals"]
    return ImageGrid(images.names[:count], columns, np.array(rows))


def _keypoint_grid(
    context: EvaluationContext, truth: TrueDepth, predicted: Float[np.ndarray, "images keypoints"]
) -> dict[str, ImageGrid]:
    """Images with keypoints coloured by true and by predicted depth, and the rendered depth map."""
    images, size = truth.images, 2 * context.model.size
    count = min(context.settings.shown, len(images.names))
    windows, _ = resample_windows(images.files[:count], images.window[:count], size)
    views = render_views(
        context.model,
        images.latents[:count],
        window_intrinsics(images.intrinsics[:count], images.window[:count], size),
        images.cam_to_world[:count],
        size,
    )
    corner, scale = images.window[:count, None, :2], size / images.window[:count, None, 2:]
    pixels = (truth.keypoints[:count, :, :2] - corner) * scale
    rows = [
        [
            windows[k],
            _draw_depths(windows[k] // 3, pixels[k], truth.keypoints[k, :, 2]),
            _draw_depths(windows[k] // 3, pixels[k], predicted[k]),
            shade_depth(views.depth[k]),
        ]
        for k in range(count)
    ]
    columns = ["image", "true depth at keypoints", "predicted depth at keypoints", "predicted depth"]
    return {"depth at keypoints": ImageGrid(images.names[:count], columns, np.array(rows))}


def _draw_depths(
    image: UInt8[np.ndarray, "size size 3"],
    pixels: Float[np.ndarray, "keypoints 2"],
    depth: Float[np.ndarray, "keypoints"],
) -> UInt8[np.ndarray, "size size 3"]:
    """Keypoints on an image, from yellow at the nearest to blue at the farthest."""
    known = np.isfinite(depth) & np.isfinite(pixels).all(-1)
    if not known.any():
        return image
    near, far = depth[known].min(), depth[known].max()
    shade = np.round((depth - near) / max(far - near, 1e-9) * (_SHADES - 1))
    # Nearer points are drawn over farther ones.
    for step in reversed(range(_SHADES)):
        red, green, blue = np.round(_NEAR + (_FAR - _NEAR) * step / (_SHADES - 1)).astype(int).tolist()
        image = draw_points(image, pixels[known & (shade == step)], (red, green, blue), radius=1.5)
    return image
