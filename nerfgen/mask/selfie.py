"""Persons, by MediaPipe's selfie segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.image import inside_image, resample_window
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest

_NETWORK_SIZE = 256  # pixels along either side of the network's input and output
# The network sees a little more than the window, for context.
_CONTEXT = 1.15


class SelfieNetwork(Protocol):
    """MediaPipe's general selfie segmentation."""

    def probability(self, image: UInt8[np.ndarray, "256 256 3"]) -> Float[np.ndarray, "256 256"]:
        """Probability that each pixel of an RGB image shows a person, 0 to 1."""
        ...


class Selfie:
    """The framed person, by MediaPipe's general selfie segmentation.

    Args:
        network: of the installed MediaPipe.
    """

    def __init__(self, network: SelfieNetwork) -> None:
        self._network = network

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The persons in a request's window.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        image, (x0, y0, side) = request.image, request.window
        # No more of a large image is decoded than the network can see.
        needed = int(np.ceil(max(image.size) * min(1.0, _NETWORK_SIZE / side)))
        pixels, (scale, scale_y) = image.pixels(needed)
        margin = (_CONTEXT - 1) / 2 * side
        wide = (x0 - margin) * scale, (y0 - margin) * scale_y, _CONTEXT * side * scale
        raster, _ = resample_window(pixels, wide, _NETWORK_SIZE)
        probability = self._network.probability(raster)
        levels = np.round(probability.clip(0, 1) * 255).astype(np.uint8)[..., None]
        inner = _NETWORK_SIZE / _CONTEXT
        start = (_NETWORK_SIZE - inner) / 2
        mask, _ = resample_window(levels, (start, start, inner), request.size)
        inside = inside_image(image.size, request.window, request.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))


class SelfieGraph:
    """The :class:`SelfieNetwork` that the wheel of MediaPipe 0.10.21 carries.

    Raises:
        MissingDependencyError: MediaPipe or a system library is missing.
    """

    def __init__(self) -> None:
        from nerfgen.pretrained import silenced
        from nerfgen.pretrained.graphs import Graph

        with silenced():
            self._graph = Graph(
                "mediapipe/modules/selfie_segmentation/selfie_segmentation_cpu.binarypb",
                protobufs=(
                    "calculators.core.constant_side_packet_calculator_pb2",
                    "calculators.tensor.image_to_tensor_calculator_pb2",
                    "calculators.tensor.inference_calculator_pb2",
                    "calculators.tensor.tensors_to_segmentation_calculator_pb2",
                    "calculators.util.local_file_contents_calculator_pb2",
                    "framework.tool.switch_container_pb2",
                ),
                outputs=("segmentation_mask",),
                side_inputs={"model_selection": 0},
            )
            self._graph.run(np.zeros((_NETWORK_SIZE, _NETWORK_SIZE, 3), np.uint8))

    def probability(self, image: UInt8[np.ndarray, "256 256 3"]) -> Float[np.ndarray, "256 256"]:
        """Probability that each pixel of an RGB image shows a person, 0 to 1."""
        return self._graph.run(image)["segmentation_mask"]


class SelfieTask:
    """The :class:`SelfieNetwork` of MediaPipe Tasks (0.10.30 and later).

    Args:
        model: the verified model file.

    Raises:
        MissingDependencyError: MediaPipe or a system library is missing.
    """

    def __init__(self, model: Path) -> None:
        from nerfgen.pretrained.tasks import Task

        self._segmenter = Task(
            "image_segmenter", "ImageSegmenter", model.read_bytes(), output_confidence_masks=True
        )
        self.probability(np.zeros((_NETWORK_SIZE, _NETWORK_SIZE, 3), np.uint8))

    def probability(self, image: UInt8[np.ndarray, "256 256 3"]) -> Float[np.ndarray, "256 256"]:
        """Probability that each pixel of an RGB image shows a person, 0 to 1."""
        # The model has one category. The array is a view of memory that goes with the result.
        mask = self._segmenter.run(image).confidence_masks[-1]
        return np.array(mask.numpy_view(), np.float32).reshape(image.shape[:2])
