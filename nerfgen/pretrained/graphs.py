"""The graphs of MediaPipe 0.10.21, imported at a twentieth of the usual cost and without their chatter.

``import mediapipe`` loads matplotlib, OpenCV and all of MediaPipe Tasks (about a second), of
which face landmarks and person masks need nothing. This module imports only the part that runs
graphs; the rest of the package still loads on demand when something else asks for it.

Importing this module raises :class:`nerfgen.errors.MissingDependencyError` where MediaPipe can't
be loaded, so it is imported inside functions, never at the top of a command.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.pretrained.installation import import_error, requirement


def _lazy_package() -> None:
    """Put a ``mediapipe`` into ``sys.modules`` that loads its parts when they are first used."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None:
        raise MissingDependencyError(
            f"faces and person masks need MediaPipe, which is not installed: pip install {requirement()}"
        )
    package = importlib.util.module_from_spec(spec)
    parts = {"solutions": "mediapipe.python.solutions", "tasks": "mediapipe.tasks.python"}

    def load_part(name: str) -> Any:
        value: Any
        if name in parts:
            value = importlib.import_module(parts[name])
        elif name == "__version__":
            value = importlib.metadata.version("mediapipe")
        elif name.startswith("__"):
            raise AttributeError(name)
        else:
            value = getattr(importlib.import_module("mediapipe.python"), name)
        setattr(package, name, value)
        return value

    vars(package)["__getattr__"] = load_part
    sys.modules["mediapipe"] = package


def _import_solution_base() -> types.ModuleType:
    if "mediapipe" not in sys.modules:
        _lazy_package()
    try:
        return importlib.import_module("mediapipe.python.solution_base")
    except ImportError as error:
        raise import_error(error) from error


# Its C++ side reads this once, when it is loaded; what it logs all the same is caught by silenced().
os.environ.setdefault("GLOG_minloglevel", "2")
_solution_base = _import_solution_base()


class Graph(_solution_base.SolutionBase):  # type: ignore[name-defined]
    """One of the graphs in the wheel, on one thread: the process pool provides the parallelism.

    Args:
        path: the graph file inside the package.
        protobufs: modules with the options of its calculators; without them the options are lost.
        outputs: streams to be read, the graph's inner ones included.
        side_inputs: settings of the graph.
        calculator_parameters: ``{"calculator.field": value}``.
    """

    def __init__(
        self,
        path: str,
        *,
        protobufs: Sequence[str],
        outputs: Sequence[str],
        side_inputs: Mapping[str, Any] | None = None,
        calculator_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        for name in protobufs:
            importlib.import_module(f"mediapipe.{name}")
        super().__init__(
            binary_graph_path=path,
            side_inputs=dict(side_inputs or {}),
            calculator_params=dict(calculator_parameters or {}),
            outputs=list(outputs),
        )

    def run(self, image: UInt8[np.ndarray, "height width 3"]) -> dict[str, Any]:
        """The outputs for one image: messages, lists of messages, or an array; absent ones are None.

        The base class's ``process`` makes a new Python type for every image, which costs 4% of Face Mesh.
        """
        self._graph_outputs.clear()
        self._simulated_timestamp += 1
        packet = self._make_packet(self._input_stream_type_info["image"], np.ascontiguousarray(image))
        self._graph.add_packet_to_input_stream(stream="image", packet=packet.at(self._simulated_timestamp))
        self._graph.wait_until_idle()
        return {
            name: self._get_packet_content(kind, self._graph_outputs[name])
            if name in self._graph_outputs
            else None
            for name, kind in self._output_stream_type_info.items()
        }

    def _initialize_graph_interface(self, *arguments: Any, **options: Any) -> Any:
        """The graph's configuration, as the base class expands it, with every thread count set to one."""
        inference = importlib.import_module("mediapipe.calculators.tensor.inference_calculator_pb2")
        options_type = inference.InferenceCalculatorOptions
        config = super()._initialize_graph_interface(*arguments, **options)
        del config.executor[:]
        config.num_threads = 1
        for node in config.node:
            if not node.calculator.startswith("InferenceCalculator"):
                continue
            if node.node_options:
                for packed in node.node_options:
                    values = options_type.FromString(packed.value)
                    values.delegate.xnnpack.num_threads = 1
                    packed.value = values.SerializeToString()
            else:
                node.options.Extensions[options_type.ext].delegate.xnnpack.num_threads = 1
        return config
