"""Persons, by MediaPipe's selfie segmentation."""

from __future__ import annotations

import numpy as np

from nerfgen.mask.segmenter import Scene, Segmentation
from nerfgen.mediapipe_graph import Graph, silenced
from nerfgen.photo import inside_photo, resample_window

_NETWORK_SIDE = 256
# The network sees a little more than the window, for context.
_CONTEXT = 1.15


class Selfie:
    """MediaPipe's general selfie segmentation (256 x 256) on the framed person."""

    def __init__(self) -> None:
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
            self._graph.run(np.zeros((_NETWORK_SIDE, _NETWORK_SIDE, 3), np.uint8))

    def __call__(self, scene: Scene) -> Segmentation:
        """The persons in a scene.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        photo, (x0, y0, side) = scene.photo, scene.window
        longest = max(photo.size)
        # No more of a large photograph is decoded than the network can see.
        image, (scale, scale_y) = photo.pixels(int(np.ceil(longest * min(1.0, _NETWORK_SIDE / side))))
        margin = (_CONTEXT - 1) / 2 * side
        wide = (x0 - margin) * scale, (y0 - margin) * scale_y, _CONTEXT * side * scale
        raster, _ = resample_window(image, wide, _NETWORK_SIDE)
        probability = self._graph.run(raster)["segmentation_mask"]
        seen = np.round(probability.clip(0, 1) * 255).astype(np.uint8)[..., None]
        inner = _NETWORK_SIDE / _CONTEXT
        start = (_NETWORK_SIDE - inner) / 2
        mask, _ = resample_window(seen, (start, start, inner), scene.size)
        return Segmentation(
            "ok", np.where(inside_photo(photo.size, scene.window, scene.size), mask[..., 0], 0)
        )
