"""Any segmentation model in TensorFlow Lite's format, run by the installed MediaPipe.

Importing this module raises :class:`nerfgen.errors.MissingDependencyError` where MediaPipe can't be loaded, so it
is imported inside functions, never at the top of a command.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import InputError
from nerfgen.image import inside_image, resample_window
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest
from nerfgen.mask.tflite_model import TFLiteModel
from nerfgen.pretrained import TASKS, mediapipe_interface, silenced

if mediapipe_interface() == TASKS:
    _runtime = importlib.import_module("nerfgen.pretrained.tasks")
else:
    _runtime = importlib.import_module("nerfgen.pretrained.graphs")

# The network sees a little more than the window, for context.
_CONTEXT = 1.15
_GRAPH = """
input_stream: "image"
output_stream: "values"
num_threads: 1
node {{
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:pixels"
  options {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {width} output_tensor_height: {height} keep_aspect_ratio: false border_mode: BORDER_ZERO
    {range}
  }} }}
}}
node {{ calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:operators" }}
node {{
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:pixels"
  output_stream: "TENSORS:outputs"
  input_side_packet: "OP_RESOLVER:operators"
  options {{ [mediapipe.InferenceCalculatorOptions.ext] {{
    model_path: "{path}" delegate {{ xnnpack {{ num_threads: 1 }} }}
  }} }}
}}
node {{
  calculator: "SplitTensorVectorCalculator"
  input_stream: "outputs"
  output_stream: "scores"
  options {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{ ranges: {{ begin: {output} end: {next} }} }} }}
}}
{dequantized}
node {{ calculator: "TensorsToFloatsCalculator" input_stream: "TENSORS:numbers" output_stream: "FLOATS:values" }}
"""
_DEQUANTIZED = """
node {
  calculator: "TensorsDequantizationCalculator"
  input_stream: "TENSORS:scores"
  output_stream: "TENSORS:numbers"
}
"""


class TFLite:
    """The foreground probability of a segmentation network of any input size.

    A network with one output channel gives the probability, or its logit if a value lies outside 0 to 1. A network with
    several has one channel per category: probabilities that sum to 1, or logits.

    Args:
        model: the ``.tflite`` file.
        category: name or number of the foreground category; None for a model with one channel, or for all but the first
            category, the background.
        labels: text file of the categories' names, one per line; None for the names in the model.
        pixel_range: the network's values of black and white; None for those in the model, else 0 and 1.

    Raises:
        InputError: the file is not such a model, there is no such category, or the names can't be read.
    """

    def __init__(
        self,
        model: Path,
        category: str | None = None,
        labels: Path | None = None,
        pixel_range: tuple[float, float] | None = None,
    ) -> None:
        self._model = described = TFLiteModel(model, labels)
        self._category = described.category(category)
        self._network: Callable[[np.ndarray], np.ndarray]
        if mediapipe_interface() == TASKS:
            self._network = _TaskNetwork(described, pixel_range)
        else:
            self._network = _GraphNetwork(described, pixel_range or described.pixel_range)
        self._probability(np.zeros((described.height, described.width, 3), np.uint8))

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The foreground of a request's window.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        source, (x0, y0, side) = request.image, request.window
        network_side = max(self._model.width, self._model.height)
        image, (scale, scale_y) = source.pixels(
            int(np.ceil(max(source.size) * min(1.0, network_side / side)))
        )
        margin = (_CONTEXT - 1) / 2 * side
        wide = (x0 - margin) * scale, (y0 - margin) * scale_y, _CONTEXT * side * scale
        raster, _ = resample_window(image, wide, network_side)  # MediaPipe squeezes it to the network's shape
        probability = self._probability(raster)
        seen = np.round(probability.clip(0, 1) * 255).astype(np.uint8)
        square, _ = resample_window(_square(seen)[..., None], (0, 0, max(seen.shape)), network_side)
        inner = network_side / _CONTEXT
        start = (network_side - inner) / 2
        mask, _ = resample_window(square, (start, start, inner), request.size)
        inside = inside_image(source.size, request.window, request.size)
        return Segmentation("ok", np.where(inside, mask[..., 0], 0))

    def _probability(self, raster: UInt8[np.ndarray, "side side 3"]) -> Float[np.ndarray, "rows columns"]:
        values = self._network(raster)
        if values.shape[-1] == 1:
            single = values[..., 0]
            is_probability = single.min() >= -1e-3 and single.max() <= 1 + 1e-3
            return single if is_probability else 1 / (1 + np.exp(-single.clip(-60, 60)))
        if values.min() < -1e-3 or abs(float(values.sum(-1).mean()) - 1) > 1e-2:
            values = np.exp(values - values.max(-1, keepdims=True))
            values /= values.sum(-1, keepdims=True)
        return 1 - values[..., 0] if self._category is None else values[..., self._category]


class _TaskNetwork:
    """The network as a function of an image, by MediaPipe Tasks, which take models with metadata only."""

    def __init__(self, model: TFLiteModel, pixel_range: tuple[float, float] | None) -> None:
        if pixel_range is not None:
            raise InputError(
                "`pixel_range` needs MediaPipe 0.10.21: later releases take it from the model only"
            )
        self._path = model.path
        try:
            self._task = _runtime.Task(
                "image_segmenter", "ImageSegmenter", model.path.read_bytes(), output_confidence_masks=True
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(_refused(model.path, error)) from error

    def __call__(self, image: UInt8[np.ndarray, "side side 3"]) -> Float[np.ndarray, "side side channels"]:
        try:
            masks = self._task.run(image).confidence_masks
        except (RuntimeError, ValueError) as error:
            raise InputError(_refused(self._path, error)) from error
        # MediaPipe scales each mask to the image. The arrays are views of memory that goes with the result.
        return np.stack(
            [np.array(mask.numpy_view(), np.float32).reshape(image.shape[:2]) for mask in masks], -1
        )


class _GraphNetwork:
    """The network as a function of an image, by a single-threaded graph of MediaPipe 0.10.21."""

    def __init__(self, model: TFLiteModel, pixel_range: tuple[float, float]) -> None:
        for name in (
            "core.split_vector_calculator_pb2",
            "tensor.image_to_tensor_calculator_pb2",
            "tensor.inference_calculator_pb2",
        ):
            importlib.import_module(f"mediapipe.calculators.{name}")
        bindings = importlib.import_module("mediapipe.python._framework_bindings")
        text_format = importlib.import_module("google.protobuf.text_format")
        config_type = importlib.import_module("mediapipe.framework.calculator_pb2").CalculatorGraphConfig
        self._packets = importlib.import_module("mediapipe.python.packet_creator")
        self._format = bindings.image_frame.ImageFormat.SRGB
        self._shape = model.output_shape
        low, high = pixel_range
        text = _GRAPH.format(
            width=model.width,
            height=model.height,
            range="output_tensor_uint_range { min: 0 max: 255 }"
            if model.takes_bytes
            else f"output_tensor_float_range {{ min: {low} max: {high} }}",
            # A text of JSON is one of protocol buffers, too.
            path=json.dumps(str(model.path.resolve()), ensure_ascii=False)[1:-1],
            output=model.output,
            next=model.output + 1,
            dequantized=_DEQUANTIZED if model.gives_integers else "",
        )
        if not model.gives_integers:
            text = text.replace('"TENSORS:numbers"', '"TENSORS:scores"')
        get = importlib.import_module("mediapipe.python.packet_getter").get_float_list
        self._values: list[float] = []
        with silenced():
            try:
                self._graph = bindings.calculator_graph.CalculatorGraph(
                    graph_config=text_format.Parse(text, config_type())
                )
                self._graph.observe_output_stream("values", lambda _, packet: self._take(get(packet)))
                self._graph.start_run()
            except (RuntimeError, ValueError) as error:
                raise InputError(_refused(model.path, error)) from error
        self._time = 0
        self._path = model.path

    def _take(self, values: list[float]) -> None:
        self._values = values

    def __call__(self, image: UInt8[np.ndarray, "side side 3"]) -> Float[np.ndarray, "rows columns channels"]:
        self._time += 1
        self._values = []
        frame = self._packets.create_image_frame(image_format=self._format, data=np.ascontiguousarray(image))
        with silenced():
            try:
                self._graph.add_packet_to_input_stream("image", frame.at(self._time))
                self._graph.wait_until_idle()
            except (RuntimeError, ValueError) as error:
                raise InputError(_refused(self._path, error)) from error
        return np.array(self._values, np.float32).reshape(self._shape)


def _refused(path: Path, error: Exception) -> str:
    return (
        f"{path}: MediaPipe can't run this model ({' '.join(str(error).split())[:200]}); give another `model`"
    )


def _square(mask: UInt8[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "side side"]:
    """A mask stretched to a square, which reverses the squeezing of the network's input."""
    from PIL import Image

    side = max(mask.shape)
    if mask.shape == (side, side):
        return mask
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BICUBIC))
