"""Table *samples*: whether new objects are objects of the class, new, and as diverse as the training objects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen import storage
from nerfgen.camera import CameraSettings, fit_cameras, observe, with_canonical
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.cameras import angle_points
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_views import composite_over_white
from nerfgen.evaluate.image_comparison import training_images
from nerfgen.evaluate.inputs import choose_subset
from nerfgen.evaluate.reconstruction import no_training_images
from nerfgen.geometry import Cameras, framing_intrinsics, rotation_angle, turned_camera, yaw_pitch_roll
from nerfgen.image import InputImage
from nerfgen.landmark import estimator_for, map_landmarks
from nerfgen.metric import Coverage, Estimate, FrechetDistance, InceptionScore, KernelDistance
from nerfgen.model import Model, Objects, SampleSettings, neighbours, new_objects, table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.render import Views, framed_image, render_views
from nerfgen.report import ImageGrid, ItemValues, Table, merge_tables

# Largest yaw and pitch of turned samples as fractions of the class's turntable range, and the largest range used:
# landmark estimators fail beyond.
_YAW_FRACTION, _PITCH_FRACTION, _MAX_TURN = 2 / 3, 1 / 3, 45.0
# Default (yaw, pitch), degrees: of classes with a front, and of classes that are seen from all sides.
_FRONT, _OBLIQUE = (0.0, 0.0), (45.0, 20.0)
# Size of the renderings for landmark estimators, pixels.
_DETECTION_SIZE = 128
# They show more than the training windows: landmark estimators sometimes detect tight crops upside down.
_DETECTION_MARGIN = 1.25


def pose_limits(model: Model) -> Float[np.ndarray, "2"]:
    """Largest absolute yaw and pitch of turned samples, degrees."""
    return min(model.object_class.turn, _MAX_TURN) * np.array([_YAW_FRACTION, _PITCH_FRACTION])


def cameras_at_angles(model: Model, angles: Float[np.ndarray, "views 2"], margin: float = 1.0) -> Cameras:
    """Cameras at the model's distance that show the object turned by yaw and pitch.

    Args:
        angles: yaw and pitch, degrees.
        margin: visible extent as a multiple of the training window's.
    """
    distance = np.full(len(angles), model.distance)
    intrinsics = framing_intrinsics(distance / (margin * model.object_class.reach), 1)
    return Cameras(intrinsics, turned_camera(angles[:, 0], angles[:, 1], distance))


def render_at_angles(
    model: Model,
    latents: Float[np.ndarray, "views latent"],
    angles: Float[np.ndarray, "views 2"],
    size: int,
    *,
    margin: float = 1.0,
    antialias: int = 1,
    progress: Progress = silent,
) -> Views:
    """Latent codes rendered from :func:`cameras_at_angles`."""
    cameras = cameras_at_angles(model, angles, margin)
    return render_views(
        model,
        latents,
        cameras.matrices(size),
        cameras.cam_to_world,
        size,
        antialias=antialias,
        progress=progress,
    )


def default_angles(model: Model, count: int) -> Float[np.ndarray, "views 2"]:
    """``count`` times the yaw and pitch that show most of an object: frontal, or oblique from above for classes that
    are seen from all sides."""
    return np.tile(_OBLIQUE if model.object_class.turn >= 180 else _FRONT, (count, 1))


def detection_table(context: EvaluationContext, drawn: Objects, progress: Progress = silent) -> Table:
    """Fraction of turned samples in which the landmark estimator detects the object, and errors of the detected poses.

    Every sample is rendered once, at a yaw and a pitch drawn uniformly within :func:`pose_limits`; those of sample i
    depend on the seed and i only. Rendered and detected poses are compared without alignment: the canonical points and
    the model share one world.
    """
    model, landmarker = context.model, context.inputs.landmarker
    metrics = "detected_fraction, pose_error_deg"
    try:
        estimator_for(model.object_class, landmarker)
    except InputError as error:
        reason = (
            str(error)
            if landmarker
            else f"class {model.object_class.name} has no landmark estimator; set `landmarker`"
        )
        return Table(values={}, missing=[f"{metrics}: {reason}"])
    limits = pose_limits(model)
    angles = np.random.default_rng([context.settings.seed, 1]).uniform(-limits, limits, (len(drawn), 2))
    cameras = cameras_at_angles(model, angles, _DETECTION_MARGIN)
    views = render_at_angles(
        model, drawn.latents, angles, _DETECTION_SIZE, margin=_DETECTION_MARGIN, progress=progress
    )
    try:
        found, poses = detect_poses(context, views.rgb, float(cameras.intrinsics[0, 0, 0]))
    except MissingDependencyError as error:
        return Table(values={}, missing=[f"{metrics}: {error}"])
    detected = Table(
        values={"detected_fraction": ItemValues(drawn.names, found.astype(float))},
        notes=["samples are detected at yaw within {:g} and pitch within {:g} degrees".format(*limits)],
    )
    if poses is None:
        lacking = "pose_error_deg: the model's cameras were given, not fitted to landmarks"
        return merge_tables([detected, Table(values={}, missing=[lacking])])
    errors = rotation_angle(poses[:, :3, :3], cameras.cam_to_world[:, :3, :3])
    detected_angles = yaw_pitch_roll(poses)
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


def detect_poses(
    context: EvaluationContext, renderings: UInt8[np.ndarray, "renderings size size 3"], focal: float
) -> tuple[Bool[np.ndarray, "renderings"], Float[np.ndarray, "renderings 4 4"] | None]:
    """In which renderings the class's landmark estimator detects an object, and the cameras fitted to the landmarks.

    Cameras are fitted to the model's canonical points as for new images: NaN where nothing is detected, None for a
    model whose cameras were not fitted to landmarks.

    Args:
        focal: focal length in units of the image size.

    Raises:
        InputError: the class has no landmark estimator.
        MissingDependencyError: a package or library of the estimator is absent.
    """
    model = context.model
    estimator = estimator_for(model.object_class, context.inputs.landmarker)
    images = [InputImage(rendering) for rendering in renderings]
    detections = list(map_landmarks(images, estimator, workers=context.workers))
    status = [detection.status for detection in detections]
    if not len(model.canonical):
        return storage.usable(status), None
    described, points = with_canonical(model.object_class, model.canonical_index, model.canonical)
    observed = observe(
        [str(number) for number in range(len(images))],
        status,
        np.array([detection.image_size for detection in detections], np.int32),
        np.stack([detection.landmarks for detection in detections]),
        described,
        points,
        mesh=np.stack([detection.mesh for detection in detections]),
        mesh_index=estimator.mesh_index,
    )
    fitted = fit_cameras(observed, described, CameraSettings(focal=focal))
    return storage.usable(status), fitted.cam_to_world


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
    inception, features = context.inception, context.image_features
    missing = [inception] if isinstance(inception, str) else []
    missing += [f"feature_frechet: {features}"] if isinstance(features, str) else []
    if isinstance(inception, str) and isinstance(features, str):
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
    seed, images = settings.seed, images[present]
    pooled: dict[str, Estimate] = {}
    if not isinstance(inception, str):
        real, _ = inception.features(images)
        generated, classes = inception.features(views.rgb)
        pooled |= {
            "fid": FrechetDistance(real, generated).estimate(seed),
            "kid": _times_thousand(KernelDistance(real, generated).estimate(seed)),
            "inception_score": InceptionScore(classes).estimate(seed),
        }
    if not isinstance(features, str):
        distance = FrechetDistance(features.pooled(images), features.pooled(views.rgb))
        pooled["feature_frechet"] = distance.estimate(seed)
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


def _times_thousand(kid: Estimate) -> Estimate:
    """Kernel distances are usually reported times 1000."""
    return Estimate(1000 * kid.mean, 1000 * kid.low, 1000 * kid.high, kid.n)
