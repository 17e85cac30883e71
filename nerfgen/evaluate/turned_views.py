"""Objects rendered from other sides: what the class's landmark estimator finds in them, and whom they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen import storage
from nerfgen.camera import CameraSettings, fit_cameras, observe, with_canonical
from nerfgen.errors import InputError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_images import FittedImages
from nerfgen.evaluate.image_comparison import resample_windows
from nerfgen.geometry import Cameras, framing_intrinsics, turned_camera, window_intrinsics
from nerfgen.image import InputImage
from nerfgen.landmark import estimator_for, map_landmarks
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent
from nerfgen.pretrained import ALIGNED_LANDMARKS
from nerfgen.render import Views, non_flatness, render_views
from nerfgen.report import ItemValues, Table

# Largest yaw and pitch of turned samples as fractions of the class's turntable range, and the largest range used:
# landmark estimators fail beyond.
_YAW_FRACTION, _PITCH_FRACTION, _MAX_TURN = 2 / 3, 1 / 3, 45.0
# Default (yaw, pitch), degrees: of classes with a front, and of classes that are seen from all sides.
_FRONT, _OBLIQUE = (0.0, 0.0), (45.0, 20.0)
# Size of the renderings for landmark estimators, pixels.
DETECTION_SIZE = 128
# They show more than the training windows: landmark estimators sometimes detect tight crops upside down.
DETECTION_MARGIN = 1.25


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


class Detections(NamedTuple):
    """What the class's landmark estimator finds in images.

    Attributes:
        found: in which images it detects an object.
        landmarks: in pixels of the images; NaN where nothing is detected.
        cam_to_world: cameras fitted to the landmarks, NaN where nothing is detected; None where none were fitted.
    """

    found: Bool[np.ndarray, "images"]
    landmarks: Float[np.ndarray, "images landmarks 2"]
    cam_to_world: Float[np.ndarray, "images 4 4"] | None


# Why detected poses cannot be compared.
GIVEN_CAMERAS = "pose_error_deg: the model's cameras were given, not fitted to landmarks"


def lacking_estimator(context: EvaluationContext) -> str:
    """Why the class's landmark estimator is unavailable and what to do; empty if it is available."""
    object_class, landmarker = context.model.object_class, context.inputs.landmarker
    try:
        estimator_for(object_class, landmarker)
    except InputError as error:
        if landmarker:
            return str(error)
        return f"class {object_class.name} has no landmark estimator; set `landmarker`"
    return ""


def detect_objects(
    context: EvaluationContext, images: UInt8[np.ndarray, "images size size 3"], focal: float | None = None
) -> Detections:
    """Landmarks in images of the class, and cameras fitted to the model's canonical points as for new images.

    Args:
        focal: focal length in units of the image size; without it no cameras are fitted.

    Raises:
        InputError: the class has no landmark estimator.
        MissingDependencyError: a package or library of the estimator is absent.
    """
    model = context.model
    estimator = estimator_for(model.object_class, context.inputs.landmarker)
    detections = list(map_landmarks([InputImage(rgb) for rgb in images], estimator, workers=context.workers))
    status = [detection.status for detection in detections]
    found = storage.usable(status)
    landmarks = np.stack([detection.landmarks for detection in detections])
    landmarks = np.where(found[:, None, None], landmarks, np.nan)
    if focal is None or not len(model.canonical):
        return Detections(found, landmarks, None)
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
    return Detections(found, landmarks, fitted.cam_to_world)


def shows_faces(model: Model) -> bool:
    """Whether the model's class has the landmarks by which faces are aligned."""
    return set(ALIGNED_LANDMARKS) <= set(model.object_class.landmark_names)


def embed_faces(
    context: EvaluationContext,
    images: UInt8[np.ndarray, "images size size 3"],
    landmarks: Float[np.ndarray, "images landmarks 2"],
) -> Float[np.ndarray, "images 128"]:
    """Embeddings of the faces in images (:class:`nerfgen.pretrained.FaceEmbedding`); NaN where there is no landmark.

    The network has to be available, and the class has to be one of faces.
    """
    network, names = context.face_embedding, context.model.object_class.landmark_names
    assert not isinstance(network, str)
    return network.embed(images, landmarks[:, [names.index(name) for name in ALIGNED_LANDMARKS]])


class Similarities(NamedTuple):
    """Similarity of faces to those of the same and of other objects.

    Attributes:
        own: of each pair; NaN where a face is unknown.
        others: mean over the second faces of all other pairs.
    """

    own: Float[np.ndarray, "pairs"]
    others: Float[np.ndarray, "pairs"]


def face_similarities(
    first: Float[np.ndarray, "pairs features"], second: Float[np.ndarray, "pairs features"]
) -> Similarities:
    """Cosine similarities of paired embeddings, and of each first one to the second ones of the other pairs."""
    products = first @ np.nan_to_num(second).T
    known = np.isfinite(second).all(1)[None] & ~np.eye(len(first), dtype=bool)
    count = known.sum(1)
    others = np.where(count > 0, (products * known).sum(1) / np.maximum(count, 1), np.nan)
    return Similarities((first * second).sum(1), others)


def image_faces(context: EvaluationContext, fitted: FittedImages) -> Float[np.ndarray, "images 128"]:
    """:func:`embed_faces` of the images, in windows with the margin and size of turned views."""
    images, _ = resample_windows(fitted.files, _wide_windows(fitted), DETECTION_SIZE)
    return embed_faces(context, images, detect_objects(context, images).landmarks)


def rendered_faces(
    context: EvaluationContext,
    fitted: FittedImages,
    latents: Float[np.ndarray, "views latent"],
    seen_from: Int[np.ndarray, "views"],
) -> Float[np.ndarray, "views 128"]:
    """:func:`embed_faces` of latent codes, rendered from the cameras of fitted images.

    Args:
        seen_from: the image whose camera and window each view has.
    """
    framed, windows = fitted.framed, _wide_windows(fitted)[seen_from]
    views = render_views(
        context.model,
        latents,
        window_intrinsics(framed.intrinsics[seen_from], windows, DETECTION_SIZE),
        framed.cam_to_world[seen_from],
        DETECTION_SIZE,
    )
    return embed_faces(context, views.rgb, detect_objects(context, views.rgb).landmarks)


def _wide_windows(fitted: FittedImages) -> Float[np.ndarray, "images 3"]:
    """The images' windows, enlarged about their centres by the margin of turned views."""
    corner, side = fitted.framed.window[:, :2], fitted.framed.window[:, 2:]
    return np.concatenate([corner - (DETECTION_MARGIN - 1) / 2 * side, DETECTION_MARGIN * side], axis=1)


def non_flatness_table(
    model: Model, names: Sequence[str], latents: Float[np.ndarray, "objects latent"]
) -> Table:
    """:func:`nerfgen.render.non_flatness` of each object."""
    return Table({"non_flatness": ItemValues(names, non_flatness(model, latents))})
