"""Estimators that were trained from annotations, as landmarkers of the stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfgen.landmark.estimator import Detection
from nerfgen.landmarker import Estimator, load_landmarker
from nerfgen.objectclass import ObjectClass
from nerfgen.photo import Photograph

_MIN_OBJECT = 12.0  # extent of the landmarks in pixels, below which an object is too small to be of use
_MIN_PHOTO = 8  # shortest side in pixels, below which there is nothing to look for


class Trained:
    """The :class:`nerfgen.landmark.Landmarker` of one class of a ``landmarker/1`` file.

    Of several objects the largest is taken (status ``ok_largest``); objects of the file's other classes count as none.

    Raises:
        InputError: the file was not trained for the class, or for other landmarks.
    """

    mesh_index = np.zeros(0, np.int32)

    def __init__(self, described: ObjectClass, model: Path) -> None:
        landmarker = load_landmarker(model)
        self._label = landmarker.label_of(described, model)
        self._threshold = landmarker.threshold
        self.names = described.landmark_names
        self._estimator = Estimator(
            landmarker.parameters, landmarker.shape, described.mirrored, len(landmarker.classes)
        )

    def __call__(self, photo: Photograph) -> Detection:
        """The landmarks of the class's largest object in a photograph of any size.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        found = []
        if min(photo.size) >= _MIN_PHOTO:
            found = [
                item
                for item in self._estimator.objects(photo)
                if item.label == self._label and item.score >= self._threshold
            ]
        if not found:
            return Detection("no_object", np.full((len(self.names), 2), np.nan), np.zeros((0, 3)))
        largest = max(found, key=lambda item: item.side)
        extent = float(np.ptp(largest.points, axis=0).max())
        usable = "ok" if len(found) == 1 else "ok_largest"
        status = usable if extent >= _MIN_OBJECT else "too_small"
        return Detection(status, largest.points, np.zeros((0, 3)), largest.score, len(found))
