"""The description that a TensorFlow Lite model file contains."""

from __future__ import annotations

import importlib
import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen.errors import InputError
from nerfgen.untrusted import printable, read_input, read_text_input

# Types of tensors in TensorFlow Lite's numbering.
_FLOAT, _INTEGERS = 0, (3, 9)
_UNSIGNED_BYTE = 3
# Larger networks would take more memory than images do; more bytes of names are none.
_LONGEST_SIDE, _MOST_VALUES, _MOST_BYTES = 8192, 1 << 28, 1 << 20
# Largest number of categories that an error lists.
_MAX_LISTED = 40


class TFLiteModel:
    """The shapes, the range of pixels and the categories of a segmentation model.

    The first output with rows and columns is the segmentation.

    Args:
        path: the ``.tflite`` file.
        labels: text file of names, one per line, instead of those in the model.

    Raises:
        InputError: it is not such a file or not for images, or ``labels`` can't be read.

    Attributes:
        path: the file.
        width, height: of the network's input.
        takes_bytes: whether the input has 8-bit values.
        output: index of the output that is the segmentation.
        output_shape: its rows, columns and channels.
        gives_integers: whether the output is quantised.
        names: of the categories; empty if they have none.
        pixel_range: the network's values of black and white.
    """

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self.path = path
        try:
            content = read_input(path)
        except OSError as error:
            raise InputError(f"{path} can't be read ({error.strerror}); give a .tflite file") from error
        if content[4:8] != b"TFL3":
            raise InputError(f"{path} is not a TensorFlow Lite model; give a .tflite file")
        try:
            self._read(content)
        except InputError:
            raise
        except Exception as error:  # a damaged buffer makes its reader raise anything
            raise InputError(f"{path} is a damaged TensorFlow Lite model; download it again") from error
        self.names = _names(content) if labels is None else _lines(labels)

    def category(self, given: str | None) -> int | None:
        """The channel of a category, given by name or number.

        None stands for all but the first channel, or for the only one.

        Raises:
            InputError: there is no such category; the message lists the categories.
        """
        channels = self.output_shape[2]
        if given is None or (channels == 1 and given in ("0", *self.names)):
            return None
        if given in self.names[:channels]:
            return self.names.index(given)
        if given.isdecimal() and int(given) < channels:
            return int(given)
        listed = ", ".join(self.names[:_MAX_LISTED]) + (", ..." if len(self.names) > _MAX_LISTED else "")
        known = (
            f"its categories are {listed}"
            if self.names
            else f"give a number from 0 to {channels - 1}, or give `labels`"
        )
        raise InputError(f"{self.path} has no category {given!r}; {known}")

    def _read(self, content: bytes) -> None:
        schema = importlib.import_module("mediapipe.tasks.metadata.schema_py_generated")
        model = schema.Model.GetRootAsModel(content, 0)
        graph = model.Subgraphs(0)
        image = graph.Tensors(graph.Inputs(0))
        shape = [int(length) for length in image.ShapeAsNumpy()]
        if graph.InputsLength() != 1 or len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
            raise InputError(
                f"{self.path} takes {' x '.join(map(str, shape))}, not one colour image (1 x height x width x 3); "
                "give a model for images"
            )
        self.height, self.width = shape[1:3]
        if not 0 < min(shape[1:3]) <= max(shape[1:3]) <= _LONGEST_SIDE:
            raise InputError(
                f"{self.path} takes images of {self.width} x {self.height} pixels; give a model of at most "
                f"{_LONGEST_SIDE} x {_LONGEST_SIDE}"
            )
        self.takes_bytes = image.Type() == _UNSIGNED_BYTE
        if image.Type() not in (_FLOAT, _UNSIGNED_BYTE):
            raise InputError(f"{self.path} takes neither floats nor bytes; give a model that does")
        for index in range(graph.OutputsLength()):
            output = graph.Tensors(graph.Outputs(index))
            sizes = [int(length) for length in output.ShapeAsNumpy()]
            if len(sizes) == 3:
                sizes.append(1)
            if len(sizes) == 4 and sizes[0] == 1 and min(sizes[1:3]) > 1:
                if max(sizes) > _LONGEST_SIDE or sizes[3] < 1 or math.prod(sizes) > _MOST_VALUES:
                    raise InputError(
                        f"{self.path} gives {' x '.join(map(str, sizes))} values; give a smaller model"
                    )
                self.output, self.output_shape = index, (sizes[1], sizes[2], sizes[3])
                self.gives_integers = output.Type() in _INTEGERS
                break
        else:
            raise InputError(f"{self.path} gives no raster of categories; give a segmentation model")
        self.pixel_range = _pixel_range(model)


def _pixel_range(model: Any) -> tuple[float, float]:
    """What 0 and 255 become by the mean and deviation in the metadata; 0 and 1 without metadata."""
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() != b"TFLITE_METADATA":
            continue
        reader = importlib.import_module("mediapipe.tasks.metadata.metadata_schema_py_generated")
        metadata = reader.ModelMetadata.GetRootAsModelMetadata(
            np.asarray(model.Buffers(entry.Buffer()).DataAsNumpy(), np.uint8).tobytes(), 0
        )
        if (
            not metadata.SubgraphMetadataLength()
            or not metadata.SubgraphMetadata(0).InputTensorMetadataLength()
        ):
            continue
        image = metadata.SubgraphMetadata(0).InputTensorMetadata(0)
        for place in range(image.ProcessUnitsLength()):
            unit = image.ProcessUnits(place)
            if unit.OptionsType() != reader.ProcessUnitOptions.NormalizationOptions:
                continue
            options = reader.NormalizationOptions()
            options.Init(unit.Options().Bytes, unit.Options().Pos)
            mean, deviation = float(options.Mean(0)), float(options.Std(0))
            if not (math.isfinite(mean) and 0 < deviation < math.inf):
                raise ValueError("the range of pixels is not one")
            return -mean / deviation, (255.0 - mean) / deviation
    return 0.0, 1.0


def _names(content: bytes) -> list[str]:
    """The names in the archive at the end of a model with metadata; none without."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            texts = [name for name in archive.namelist() if name.endswith(".txt")]
            if not texts:
                return []
            chosen = next((name for name in texts if "label" in name.lower()), texts[0])
            with archive.open(chosen) as names:
                return [
                    printable(line)
                    for line in names.read(_MOST_BYTES).decode("utf-8", "replace").splitlines()
                ]
    except Exception:  # no archive, or a damaged one, which makes its reader raise anything
        return []


def _lines(labels: Path) -> list[str]:
    try:
        return [printable(line) for line in read_text_input(labels).splitlines()]
    except InputError as error:
        raise InputError(f"{error}; `labels` is a file with one category name per line") from error
