"""Landmarks: the stage that finds them in images, its estimators, and the training of one.

The words of this room:

- A *landmark estimator* (:class:`LandmarkEstimator`) finds the landmarks of one class in one image. There are two:
  MediaPipe's for faces, and trained ones for any class.
- A *detection* (:class:`Detection`) is its result.
- An *estimator spec* (:class:`EstimatorSpec`, by :func:`estimator_for`) is an estimator before it is built: a value
  that is sent to worker processes.
- A *trained estimator* (:class:`TrainedEstimator`) is the result of training and the content of ``landmarker/1``.
- *Annotations* (:class:`Annotations`) are landmarks that people have marked; :func:`train_estimator` learns from them.

:func:`estimate_landmarks` is the stage for one image in memory, :func:`map_landmarks` for many in worker processes, and
:func:`landmark_folder` for a folder.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.landmark.annotation_formats import annotation_format, read_annotations
    from nerfgen.landmark.annotations import Annotations, upright_points
    from nerfgen.landmark.estimator import Detection, EstimatorSpec, LandmarkEstimator, estimator_for
    from nerfgen.landmark.estimator_file import TrainedEstimator, load_estimator
    from nerfgen.landmark.figure import held_out_figure, landmark_figure
    from nerfgen.landmark.settings import ANNOTATION_FORMATS, EstimatorTraining
    from nerfgen.landmark.stage import estimate_landmarks, landmark_folder, map_landmarks
    from nerfgen.landmark.training import train_estimator
    from nerfgen.landmark.training_images import AnnotatedFolder, annotated_classes

__getattr__ = lazy_imports(__name__)

__all__ = [
    "ANNOTATION_FORMATS",
    "AnnotatedFolder",
    "Annotations",
    "Detection",
    "EstimatorSpec",
    "EstimatorTraining",
    "LandmarkEstimator",
    "TrainedEstimator",
    "annotated_classes",
    "annotation_format",
    "estimate_landmarks",
    "estimator_for",
    "held_out_figure",
    "landmark_figure",
    "landmark_folder",
    "load_estimator",
    "map_landmarks",
    "read_annotations",
    "train_estimator",
    "upright_points",
]
