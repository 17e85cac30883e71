"""The table *depth*: how well the depth of what codes show agrees with the true one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.evaluate.depth_truth import DepthMaps, Known, TrueDepth, behind_origin, from_origin, true_depth
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.windows import windows_of
from nerfgen.generate import Views, render_views, surface_depths
from nerfgen.geometry import OPENGL_AXES, window_intrinsics
from nerfgen.metric import PooledCorrelation, angles_between, depth_normals, pearson, spearman
from nerfgen.parallel import Progress, silent
from nerfgen.picture import color_normals, depth_limits, draw_points, shade_depth
from nerfgen.report.table import Measured, Pictures, Points, Table, merged

# Fewer points of an image tell no correlation.
_LEAST = 3
# Points of a plot.
_PLOTTED = 1500
# Colours of points, from the nearest to the farthest, and steps between them.
_NEAR, _FAR, _SHADES = np.array([255, 235, 90]), np.array([40, 60, 230]), 12

Pair = tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]


def depth_table(subject: Subject, progress: Progress = silent) -> Table:
    """Depth of codes from their photographs' cameras beside the true depth (table 4 of the original): at keypoints and,
    where the truth holds depth maps, over the pixels that show nothing but the object, with the normals there.

    Correlations within an image hang on no unit. Pooled ones are of :func:`~nerfgen.evaluate.depth_truth.behind_origin`
    where true cameras are known; where keypoints have a unit and a zero of their own, depths of each image are first
    standardised: less their mean, by their standard deviation. Keypoints are asked for by the rays through them.

    Raises:
        InputError: keypoints that were given can't be used.
    """
    truth = true_depth(subject, progress)
    if isinstance(truth, str):
        return Table({}, missing=[truth])
    parts = [Table({}, notes=truth.notes), _at_keypoints(subject, truth)]
    if truth.maps:
        parts.append(_over_masks(subject, truth.known, truth.maps, progress))
    return merged(parts)


def _at_keypoints(subject: Subject, truth: TrueDepth) -> Table:
    known, true = truth.known, truth.keypoints[..., 2]
    depth = surface_depths(
        subject.model, known.latents, truth.keypoints[..., :2], known.intrinsics, known.cam_to_world
    )
    predicted = behind_origin(depth, known.intrinsics, known.cam_to_world, known.window[:, 2])
    both = np.isfinite(predicted) & np.isfinite(true)
    pairs = [(own[there], other[there]) for own, other, there in zip(predicted, true, both, strict=True)]
    unmet = int((np.isfinite(true) & ~both).sum())
    told = [f"at {unmet} of {np.isfinite(true).sum()} keypoints the model shows nothing"] if unmet else []
    if truth.maps:
        return merged([Table({}, notes=told), _correlations(subject, known, pairs, "keypoint_", "keypoints")])
    pairs = [(_standardised(own), _standardised(other)) for own, other in pairs]
    whole = _correlations(subject, known, pairs, "", "keypoints")
    again = _correlations(subject, known, pairs, "keypoint_", "keypoints")
    return merged([Table({}, notes=told, pictures=_dotted(subject, truth, predicted)), whole, again])


def _over_masks(subject: Subject, known: Known, maps: DepthMaps, progress: Progress) -> Table:
    size, side = maps.depth.shape[-1], known.window[:, 2]
    views = render_views(
        subject.model,
        known.latents,
        window_intrinsics(known.intrinsics, maps.window, size),
        known.cam_to_world,
        size,
        with_normals=True,
        progress=progress,
    )
    assert views.normals is not None
    true = behind_origin(maps.depth, maps.intrinsics, maps.cam_to_world, side)
    predicted = behind_origin(views.depth, known.intrinsics, known.cam_to_world, side)
    solid = maps.depth > 0
    both = solid & (views.depth > 0)
    pairs = [(own[there], other[there]) for own, other, there in zip(predicted, true, both, strict=True)]
    normals = np.einsum("nyxi,nij->nyxj", views.normals, known.cam_to_world[:, :3, :3])
    raster = window_intrinsics(maps.intrinsics, maps.window, size)
    true_normals = [depth_normals(*triple) for triple in zip(maps.depth, raster, solid, strict=True)]
    errors = []
    for own, (other, told), there in zip(normals, true_normals, both, strict=True):
        where = told & there
        angles = angles_between(own[where], other[where])
        errors.append(float(angles.mean()) if angles.size else np.nan)
    in_true_units = np.where(
        views.depth > 0, from_origin(predicted, maps.intrinsics, maps.cam_to_world, side), 0
    )
    pictures = _mapped(
        subject, known, maps, in_true_units, np.stack([own for own, _ in true_normals]), normals
    )
    missed = 1 - both.sum() / max(solid.sum(), 1)
    return merged(
        [
            _correlations(subject, known, pairs, "", "pixels of the masks"),
            Table(
                {"normals_error_deg": Measured(known.names, np.array(errors))},
                notes=[
                    f"{100 * missed:.1f}% of the masks' pixels are not on what the model shows, and not counted"
                ],
                pictures={"depth and normals": pictures},
            ),
        ]
    )


def _correlations(subject: Subject, known: Known, pairs: Sequence[Pair], prefix: str, title: str) -> Table:
    """Correlations of predicted and true depth, within images and pooled, and a plot."""
    figures = {"pearson": pearson, "spearman": spearman}
    within = {
        f"{prefix}{name}": Measured(
            known.names,
            np.array([figure(*pair) if len(pair[0]) >= _LEAST else np.nan for pair in pairs]),
        )
        for name, figure in figures.items()
    }
    pooled = {
        f"{prefix}{name}_pooled": PooledCorrelation(list(pairs), ranks=name == "spearman").estimate(
            subject.settings.seed
        )
        for name in figures
    }
    predicted, true = (np.concatenate(side) for side in zip(*pairs, strict=True))
    generator = np.random.default_rng(subject.settings.seed)
    shown = np.sort(generator.permutation(len(true))[:_PLOTTED])
    return Table(
        within,
        pooled,
        points={title: Points(true[shown], predicted[shown], "true depth", "predicted depth")},
    )


def _standardised(values: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 0 else values * 0.0


def _mapped(
    subject: Subject,
    known: Known,
    maps: DepthMaps,
    predicted: Float[np.ndarray, "photographs size size"],
    true_normals: Float[np.ndarray, "photographs size size 3"],
    normals: Float[np.ndarray, "photographs size size 3"],
) -> Pictures:
    """Photographs, and both depths in the shades of the true one; normals as a viewer has them: x right, y up."""
    count = min(subject.settings.shown, len(known.names))
    photographs, _ = windows_of(known.files[:count], maps.window[:count], maps.depth.shape[-1])
    viewer = OPENGL_AXES[:3, :3]
    rows = []
    for k in range(count):
        limits = depth_limits(maps.depth[k])
        rows.append(
            [
                photographs[k],
                shade_depth(maps.depth[k], limits),
                shade_depth(predicted[k], limits),
                color_normals(true_normals[k] @ viewer),
                color_normals(normals[k] @ viewer),
            ]
        )
    columns = ["photograph", "true depth", "predicted depth", "true normals", "predicted normals"]
    return Pictures(known.names[:count], columns, np.array(rows))


def _dotted(
    subject: Subject, truth: TrueDepth, predicted: Float[np.ndarray, "photographs keypoints"]
) -> dict[str, Pictures]:
    """Photographs with their keypoints in colours of either depth, and the depth of all that the model shows."""
    known, size = truth.known, 2 * subject.model.size
    count = min(subject.settings.shown, len(known.names))
    photographs, _ = windows_of(known.files[:count], known.window[:count], size)
    views: Views = render_views(
        subject.model,
        known.latents[:count],
        window_intrinsics(known.intrinsics[:count], known.window[:count], size),
        known.cam_to_world[:count],
        size,
    )
    corner, scale = known.window[:count, None, :2], size / known.window[:count, None, 2:]
    pixels = (truth.keypoints[:count, :, :2] - corner) * scale
    rows = [
        [
            photographs[k],
            _shaded_points(photographs[k] // 3, pixels[k], truth.keypoints[k, :, 2]),
            _shaded_points(photographs[k] // 3, pixels[k], predicted[k]),
            shade_depth(views.depth[k]),
        ]
        for k in range(count)
    ]
    columns = ["photograph", "true depth at keypoints", "predicted depth at keypoints", "predicted depth"]
    return {"depth at keypoints": Pictures(known.names[:count], columns, np.array(rows))}


def _shaded_points(
    picture: UInt8[np.ndarray, "size size 3"],
    pixels: Float[np.ndarray, "keypoints 2"],
    depth: Float[np.ndarray, "keypoints"],
) -> UInt8[np.ndarray, "size size 3"]:
    """Points on a picture, from yellow at the nearest to blue at the farthest."""
    known = np.isfinite(depth) & np.isfinite(pixels).all(-1)
    if not known.any():
        return picture
    near, far = depth[known].min(), depth[known].max()
    place = np.round((depth - near) / max(far - near, 1e-9) * (_SHADES - 1))
    # The nearest are drawn last: they lie before the others.
    for step in reversed(range(_SHADES)):
        red, green, blue = np.round(_NEAR + (_FAR - _NEAR) * step / (_SHADES - 1)).astype(int).tolist()
        picture = draw_points(picture, pixels[known & (place == step)], (red, green, blue), radius=1.5)
    return picture
