"""Table *samples*: whether new objects are objects of the class, new, and as diverse as the training objects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.evaluate.cameras import angle_points
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_views import composite_over_white
from nerfgen.evaluate.image_comparison import training_images
from nerfgen.evaluate.inputs import choose_subset
from nerfgen.evaluate.reconstruction import no_training_images
from nerfgen.evaluate.set_distances import lacking_set_distances, set_distances
from nerfgen.evaluate.turned_views import (
    DETECTION_MARGIN,
    DETECTION_SIZE,
    GIVEN_CAMERAS,
    Detections,
    cameras_at_angles,
    default_angles,
    detect_objects,
    embed_faces,
    face_similarities,
    lacking_estimator,
    non_flatness_table,
    pose_limits,
    render_at_angles,
    shows_faces,
)
from nerfgen.geometry import rotation_angle, yaw_pitch_roll
from nerfgen.metric import Coverage
from nerfgen.model import Model, Objects, SampleSettings, neighbours, new_objects, table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.render import framed_image, render_views
from nerfgen.report import ImageGrid, ItemValues, Table, merge_tables


def detection_table(context: EvaluationContext, drawn: Objects, progress: Progress = silent) -> Table:
    """Fraction of turned samples in which the landmark estimator detects the object, and errors of the detected poses.

    Every sample is rendered once, at a yaw and a pitch drawn uniformly within :func:`pose_limits`; those of sample i
    depend on the seed and i only. Rendered and detected poses are compared without alignment: the canonical points and
    the model share one world.
    """
    model, metrics = context.model, "detected_fraction, pose_error_deg"
    if lacking := lacking_estimator(context):
        return Table(values={}, missing=[f"{metrics}: {lacking}"])
    limits = pose_limits(model)
    angles = np.random.default_rng([context.settings.seed, 1]).uniform(-limits, limits, (len(drawn), 2))
    cameras = cameras_at_angles(model, angles, DETECTION_MARGIN)
    views = render_at_angles(
        model, drawn.latents, angles, DETECTION_SIZE, margin=DETECTION_MARGIN, progress=progress
    )
    try:
        seen = detect_objects(context, views.rgb, float(cameras.intrinsics[0, 0, 0]))
    except MissingDependencyError as error:
        return Table(values={}, missing=[f"{metrics}: {error}"])
    detected = merge_tables(
        [
            Table(
                values={"detected_fraction": ItemValues(drawn.names, seen.found.astype(float))},
                notes=[
                    "samples are detected at yaw within {:g} and pitch within {:g} degrees".format(*limits)
                ],
            ),
            _identity(context, drawn, views.rgb, seen),
        ]
    )
    if seen.cam_to_world is None:
        return merge_tables([detected, Table(values={}, missing=[GIVEN_CAMERAS])])
    errors = rotation_angle(seen.cam_to_world[:, :3, :3], cameras.cam_to_world[:, :3, :3])
    detected_angles = yaw_pitch_roll(seen.cam_to_world)
    posed = Table(
        values={"pose_error_deg": ItemValues(drawn.names, errors)},
        points={
            f"{name} of turned samples": angle_points(
                angles[:, axis], detected_angles[:, axis], f"rendered {name}", f"{name} by landmarks"
            )
            for axis, name in enumerate(("yaw", "pitch"))
        },
    )
    return merge_tables([detected, posed])


def _identity(
    context: EvaluationContext,
    drawn: Objects,
    turned: UInt8[np.ndarray, "samples size size 3"],
    seen: Detections,
) -> Table:
    """Whether turned samples show the faces of their frontal views."""
    model, network = context.model, context.face_embedding
    if not shows_faces(model):
        return Table({})
    if isinstance(network, str):
        return Table({}, missing=[f"identity_similarity: {network}"])
    front = np.zeros((len(drawn), 2))
    focal = float(cameras_at_angles(model, front[:1], DETECTION_MARGIN).intrinsics[0, 0, 0])
    views = render_at_angles(model, drawn.latents, front, DETECTION_SIZE, margin=DETECTION_MARGIN)
    frontal = embed_faces(context, views.rgb, detect_objects(context, views.rgb, focal).landmarks)
    similar = face_similarities(frontal, embed_faces(context, turned, seen.landmarks))
    return Table(
        {
            "identity_similarity": ItemValues(drawn.names, similar.own),
            "identity_similarity_others": ItemValues(drawn.names, similar.others),
        },
        notes=["identity: turned samples beside their own frontal views"],
    )


# Size of the renderings in image grids, pixels.
_GRID_SIZE = 128
# Yaws of a grid's row as fractions of the class's turntable range, which is limited to the side view.
_GRID_YAWS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_SIDE_VIEW = 90.0
# Size of the thumbnails for coverage, pixels: among a few hundred objects, shape and colour identify one.
_THUMBNAIL = 16
_THUMBNAIL_ANTIALIAS = 2
# Nearest neighbours that define coverage.
_NEIGHBOURS = 5


def samples_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """New objects: detection and pose error by the class's landmark estimator, distance from the training objects, and
    their distribution beside that of the training objects."""
    model, settings = context.model, context.settings
    sampling = SampleSettings(settings.samples, settings.truncation, seed=settings.seed, prior=settings.prior)
    drawn = new_objects(model, sampling)
    by = f", prior {settings.prior}" if settings.prior else ""
    note = f"{len(drawn)} new objects, truncation {settings.truncation:g}{by}"
    return merge_tables(
        [
            Table(values={}, notes=[note], grids={"new objects": _turned_grid(context, drawn)}),
            detection_table(context, drawn, _with_label(progress, "turned samples")),
            non_flatness_table(model, drawn.names, drawn.latents),
            memorised_table(context, drawn),
            coverage_table(context, drawn, _with_label(progress, "coverage")),
            distribution_table(context, drawn, _with_label(progress, "samples and training images")),
        ]
    )


def _with_label(progress: Progress, label: str) -> Progress:
    """Progress of a part of the table, which has its own total."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(done, total, label)

    return report


def memorised_table(context: EvaluationContext, drawn: Objects) -> Table:
    """Distances of latent codes to the nearest training rows (:class:`nerfgen.model.Neighbours`), with the nearest
    samples beside these rows."""
    model, data = context.model, context.inputs.data
    around = neighbours(model.principal, model.latents)
    distance, row = around.nearest(drawn.latents)
    shown = np.argsort(distance, kind="stable")[: context.settings.shown]
    rows = table_objects(model, row[shown].tolist())
    angles = default_angles(model, len(shown))
    columns = [
        render_at_angles(model, drawn.latents[shown], angles, _GRID_SIZE).rgb,
        render_at_angles(model, rows.latents, angles, _GRID_SIZE).rgb,
        np.stack([framed_image(model, number, data, _GRID_SIZE) for number in row[shown]]),
    ]
    return Table(
        values={
            "nearest_distance": ItemValues(drawn.names, distance),
            "memorised_fraction": ItemValues(drawn.names, (distance <= around.near).astype(float)),
        },
        notes=[f"a sample within {around.near:.3f} of a training row counts as memorised"],
        grids={
            "nearest to training objects": ImageGrid(
                [
                    f"{drawn.names[place]}, {distance[place]:.2f} from {name}"
                    for place, name in zip(shown, rows.names, strict=True)
                ],
                ["sample", "nearest training object", "its image"],
                np.stack(columns, axis=1),
            )
        },
    )


def _turned_grid(context: EvaluationContext, drawn: Objects) -> ImageGrid:
    """The first samples from several sides."""
    count = min(context.settings.shown, len(drawn))
    yaws = np.array(_GRID_YAWS) * min(context.model.object_class.turn, _SIDE_VIEW)
    angles = np.tile(np.stack([yaws, np.zeros(len(yaws))], axis=1), (count, 1))
    latents = np.repeat(drawn.latents[:count], len(yaws), axis=0)
    views = render_at_angles(context.model, latents, angles, _GRID_SIZE)
    return ImageGrid(
        drawn.names[:count],
        [f"yaw {yaw:g}" for yaw in yaws],
        views.rgb.reshape(count, len(yaws), *views.rgb.shape[1:]),
    )


def coverage_table(context: EvaluationContext, drawn: Objects, progress: Progress = silent) -> Table:
    """Fraction of training objects with a sample among their nearest objects, by thumbnails over white.

    As many training objects as samples are compared, chosen by the seed.
    """
    model, settings = context.model, context.settings
    rows = choose_subset(model.images, len(drawn), settings.seed)
    if len(rows) <= _NEIGHBOURS:
        return Table(
            values={},
            missing=[
                f"coverage: needs more than {_NEIGHBOURS} samples and training objects, not {len(rows)}"
            ],
        )
    latents = drawn.latents[: len(rows)]
    features = thumbnails(model, np.concatenate([model.latents[rows], latents]), progress)
    coverage = Coverage(features[: len(rows)], features[len(rows) :], _NEIGHBOURS)
    return Table(
        values={},
        pooled={"coverage": coverage.estimate(settings.seed)},
        notes=[
            f"coverage: {len(rows)} training objects and {len(latents)} samples, thumbnails of {_THUMBNAIL} pixels, "
            f"k = {_NEIGHBOURS}"
        ],
    )


def thumbnails(
    model: Model, latents: Float[np.ndarray, "codes latent"], progress: Progress = silent
) -> Float[np.ndarray, "codes values"]:
    """Small renderings over white from one camera, in [0, 1], each flattened to a row."""
    views = render_at_angles(
        model,
        latents,
        default_angles(model, len(latents)),
        _THUMBNAIL,
        antialias=_THUMBNAIL_ANTIALIAS,
        progress=progress,
    )
    return composite_over_white(views).reshape(len(latents), -1)


def distribution_table(context: EvaluationContext, drawn: Objects, progress: Progress = silent) -> Table:
    """FID, KID and Fréchet feature distance of samples rendered with background from training cameras, against the
    windows of these cameras' images; and IS of the samples."""
    model, settings = context.model, context.settings
    missing = lacking_set_distances(context)
    if isinstance(context.inception, str) and isinstance(context.image_features, str):
        return Table(values={}, missing=missing)
    rows = choose_subset(model.images, len(drawn), settings.seed)
    images, valid = training_images(model, context.inputs.data, rows)
    present = valid.any((1, 2))
    if not present.any():
        return Table(values={}, missing=[*missing, f"distances of sets: {no_training_images(context)}"])
    cameras = table_objects(model, rows.tolist()).cameras
    assert cameras is not None
    views = render_views(
        model,
        drawn.latents[: len(rows)],
        cameras.matrices(model.size),
        cameras.cam_to_world,
        model.size,
        progress=progress,
    )
    images = images[present]
    pooled = set_distances(context, images, views.rgb)
    compared = ", ".join(name for name in ("fid", "kid", "feature_frechet") if name in pooled)
    return Table(
        values={},
        pooled=pooled,
        missing=missing,
        notes=[
            f"{compared}: {len(views.rgb)} samples and {len(images)} training images ({(~present).sum()} are absent or "
            "changed since training); comparable only between equal numbers of images"
        ],
    )
