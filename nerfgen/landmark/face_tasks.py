"""Face networks by MediaPipe Tasks (0.10.30 and later), from the model file ``face_landmarker.task``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.landmark.face_networks import MIN_SCORE, FaceBox
from nerfgen.pretrained.tasks import Task

_WARM_UP = 128  # side in pixels of the image with which the networks are loaded


class FaceTasks:
    """The :class:`nerfgen.landmark.face_networks.FaceNetworks` of one model file.

    The landmarker reports neither boxes nor scores, so its detector, which lies in the same file, also runs by itself.
    The file has no detector for distant faces; the search makes up for that with smaller windows.

    Args:
        model: the verified model file.
    """

    window_division = 2

    def __init__(self, model: Path) -> None:
        with zipfile.ZipFile(model) as bundle:
            detector = bundle.read("face_detector.tflite")
        self._detector = Task(
            "face_detector",
            "FaceDetector",
            detector,
            min_detection_confidence=MIN_SCORE,
            min_suppression_threshold=0.3,
        )
        self._landmarker = Task("face_landmarker", "FaceLandmarker", model.read_bytes(), num_faces=1)
        self.mesh(np.zeros((_WARM_UP, _WARM_UP, 3), np.uint8))

    def mesh(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> tuple[Float[np.ndarray, "mesh 3"] | None, list[FaceBox]]:
        """Mesh of the most certain face, in pixels of ``image``, and the boxes of all, that one first."""
        boxes = self.near(image)
        if not boxes:
            return None, boxes
        faces = self._landmarker.run(image).face_landmarks
        if not faces:
            return None, boxes
        height, width = image.shape[:2]
        points = np.array([(point.x, point.y, point.z) for point in faces[0]], np.float64)
        # The depth is in units of the image's width.
        return points * (width, height, width), boxes

    def near(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """Boxes by the detector that the landmarker itself uses, the most certain first."""
        boxes = []
        for detection in self._detector.run(image).detections:
            box, score = detection.bounding_box, float(detection.categories[0].score)
            x, y = box.origin_x + box.width / 2, box.origin_y + box.height / 2
            boxes.append(FaceBox(x, y, float(max(box.width, box.height)), min(score, 1.0)))
        return sorted(boxes, key=lambda box: -box.score)

    def distant(self, image: UInt8[np.ndarray, "height width 3"]) -> list[FaceBox]:
        """The same as :meth:`near`."""
        return self.near(image)
