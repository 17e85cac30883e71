"""Landmark estimators that are trained from annotated photographs: the networks, their training and their use."""

from nerfgen.landmarker.file import Landmarker, load_landmarker, save_landmarker
from nerfgen.landmarker.gather import Source, classes_of
from nerfgen.landmarker.judge import Judged, judged_picture
from nerfgen.landmarker.measure import Estimator, Found
from nerfgen.landmarker.run import STEPS, train_landmarker

__all__ = [
    "STEPS",
    "Estimator",
    "Found",
    "Judged",
    "Landmarker",
    "Source",
    "classes_of",
    "judged_picture",
    "load_landmarker",
    "save_landmarker",
    "train_landmarker",
]
