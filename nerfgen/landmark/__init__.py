"""2D landmarks: an estimator for each class, and the stage that runs it over a folder."""

from nerfgen.landmark.estimator import Detection, Landmarker, estimator_for
from nerfgen.landmark.stage import landmark_folder

__all__ = ["Detection", "Landmarker", "estimator_for", "landmark_folder"]
