"""Held-out images whose fitted latent codes are seen from other sides: identity, pose, depth and looks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_images import FittedImages
from nerfgen.evaluate.set_distances import lacking_set_distances, set_distances
from nerfgen.evaluate.turned_views import (
    DETECTION_MARGIN,
    DETECTION_SIZE,
    GIVEN_CAMERAS,
    Detections,
    cameras_at_angles,
    detect_objects,
    embed_faces,
    face_similarities,
    image_faces,
    lacking_estimator,
    non_flatness_table,
    pose_limits,
    render_at_angles,
    rendered_faces,
    shows_faces,
)
from nerfgen.geometry import rotation_angle
from nerfgen.render import render_views
from nerfgen.report import ItemValues, Table, merge_tables

# Yaws of turned fits as fractions of the largest yaw of turned samples.
_YAWS = (-1.0, -0.5, 0.5, 1.0)


def turned_fits_table(context: EvaluationContext, fitted: FittedImages) -> Table:
    """Fitted objects from other sides: whether they are thick, detected, at the pose that they are rendered at, the
    person of the image, and as real as images. No second image is needed."""
    return merge_tables(
        [
            non_flatness_table(context.model, fitted.framed.images, fitted.latents),
            _detected(context, fitted),
            _distribution(context, fitted),
        ]
    )


def _detected(context: EvaluationContext, fitted: FittedImages) -> Table:
    """Turned views of each fitted object by the class's landmark estimator, as means over its views.

    The pose error is that of the rotation from the image to the turned view: as detected, from the landmarks of the
    image and of the view; and as rendered, from the fit's camera.
    """
    metrics = "detected_fraction, pose_error_deg"
    if lacking := lacking_estimator(context):
        return Table({}, missing=[f"{metrics}: {lacking}"])
    model, names = context.model, fitted.framed.images
    yaws = np.array(_YAWS) * pose_limits(model)[0]
    angles = np.tile(np.stack([yaws, np.zeros(len(yaws))], axis=1), (len(names), 1))
    latents = np.repeat(fitted.latents, len(yaws), axis=0)
    cameras = cameras_at_angles(model, angles, DETECTION_MARGIN)
    views = render_at_angles(model, latents, angles, DETECTION_SIZE, margin=DETECTION_MARGIN)
    try:
        seen = detect_objects(context, views.rgb, float(cameras.intrinsics[0, 0, 0]))
    except MissingDependencyError as error:
        return Table({}, missing=[f"{metrics}: {error}"])
    shape = (len(names), len(yaws))
    limits = ", ".join(f"{yaw:+g}" for yaw in yaws)
    parts = [
        Table(
            {"detected_fraction": ItemValues(names, seen.found.reshape(shape).mean(1))},
            notes=[f"turned views of the fits are at yaw {limits} degrees"],
        ),
        _identity(context, fitted, views.rgb, seen, shape),
    ]
    if seen.cam_to_world is None:
        return merge_tables([*parts, Table({}, missing=[GIVEN_CAMERAS])])
    errors = relative_pose_errors(
        np.repeat(fitted.framed.cam_to_world, len(yaws), axis=0),
        np.repeat(fitted.initial, len(yaws), axis=0),
        cameras.cam_to_world,
        seen.cam_to_world,
    )
    errors = _mean_where(errors.reshape(shape), seen.found.reshape(shape))
    return merge_tables([*parts, Table({"pose_error_deg": ItemValues(names, errors)})])


def relative_pose_errors(
    fitted: Float[np.ndarray, "views 4 4"],
    landmark: Float[np.ndarray, "views 4 4"],
    rendered: Float[np.ndarray, "views 4 4"],
    detected: Float[np.ndarray, "views 4 4"],
) -> Float[np.ndarray, "views"]:
    """Angle in degrees between the rotation from an image to a turned view as rendered and as detected.

    Args:
        fitted: the image's camera in the model's world.
        landmark: the image's camera by its landmarks.
        rendered: the turned view's camera in the model's world.
        detected: the turned view's camera by its landmarks.
    """
    turned = fitted[:, :3, :3].swapaxes(1, 2) @ rendered[:, :3, :3]
    return rotation_angle(turned, landmark[:, :3, :3].swapaxes(1, 2) @ detected[:, :3, :3])


def _identity(
    context: EvaluationContext,
    fitted: FittedImages,
    turned: UInt8[np.ndarray, "views size size 3"],
    seen: Detections,
    shape: tuple[int, int],
) -> Table:
    """Similarity of the image's face to those of its turned views, of its unturned view, and of other objects' turned
    views."""
    model, network, framed = context.model, context.face_embedding, fitted.framed
    if not shows_faces(model):
        return Table({})
    if isinstance(network, str):
        return Table({}, missing=[f"identity_similarity: {network}"])
    image = image_faces(context, fitted)
    unturned = rendered_faces(context, fitted, fitted.latents, np.arange(len(fitted.latents)))
    by_yaw = embed_faces(context, turned, seen.landmarks).reshape(*shape, -1)
    similar = [face_similarities(image, by_yaw[:, place]) for place in range(shape[1])]
    own, others = (np.stack([getattr(each, name) for each in similar], axis=1) for name in ("own", "others"))
    values = {
        "identity_similarity": _mean_where(own, np.isfinite(own)),
        "identity_similarity_unturned": face_similarities(image, unturned).own,
        "identity_similarity_others": _mean_where(others, np.isfinite(others)),
    }
    return Table({name: ItemValues(framed.images, each) for name, each in values.items()})


def _distribution(context: EvaluationContext, fitted: FittedImages) -> Table:
    """Distances between the images and as many turned views: each object is seen from the camera of another image, so
    that both sets have the same cameras, and shows the background of its own code."""
    missing = [f"turned views: {line}" for line in lacking_set_distances(context)]
    framed = fitted.framed
    if len(missing) == 2 or len(framed.images) < 2:
        return Table({}, missing=missing)
    order = np.random.default_rng([context.settings.seed, 2]).permutation(len(framed.images))
    seen_from = np.empty_like(order)
    # One cycle through all images: nobody is seen from the own camera.
    seen_from[order] = np.roll(order, 1)
    views = render_views(
        context.model,
        fitted.latents,
        framed.raster_intrinsics[seen_from],
        framed.cam_to_world[seen_from],
        context.model.size,
    )
    pooled = {
        f"turned_{name}": estimate
        for name, estimate in set_distances(context, framed.rgb, views.rgb).items()
        if name != "inception_score"
    }
    note = f"{', '.join(pooled)}: {len(views.rgb)} fits, each from the camera of another image; comparable only between"
    return Table({}, pooled, missing=missing, notes=[f"{note} equal numbers of images"])


def _mean_where(
    values: Float[np.ndarray, "images views"], where: Bool[np.ndarray, "images views"]
) -> Float[np.ndarray, "images"]:
    """Mean of some views of each image; NaN without any."""
    count = where.sum(1)
    total = np.where(where, values, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
