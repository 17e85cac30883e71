"""What all pages share: the templates, and parts of a page as their templates take them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from nerfgen.metric import Estimate
from nerfgen.metric.estimate import RESAMPLES
from nerfgen.report.wording import NONE, figure_of, interval_text, titled, value_text


def rendered(template: str, **values: Any) -> str:
    """A page of one of the package's templates, all text escaped."""
    return _environment().get_template(template).render(resamples=f"{RESAMPLES:,}", **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("nerfgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def metric_row(metric: str) -> dict[str, Any]:
    """What the first cell of a row says of a metric."""
    figure = figure_of(metric)
    return {
        "title": titled(metric),
        "bare": figure.title,
        "unit": figure.unit,
        "description": figure.description,
        "better": figure.better,
    }


def cell(metric: str, figure: Estimate | None, signed: bool = False) -> dict[str, Any]:
    """A figure as text; dashes if there is none."""
    if figure is None:
        return {"value": NONE, "interval": "", "n": ""}
    return {
        "value": value_text(metric, figure.mean, signed).replace("-", "−"),
        "interval": interval_text(metric, figure, signed).replace("-", "−"),
        "n": f"{figure.n:,}",
    }


def data_uri(rgb: UInt8[np.ndarray, "height width 3"]) -> str:
    """A picture inside the page, as PNG."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def making(letter: str, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and inputs of a file, to be read."""
    parameters = recorded(about, "parameters", {})
    inputs = recorded(about, "inputs", [])
    return {
        "letter": letter,
        "name": name,
        "parameters": [(key, _plain(value)) for key, value in parameters.items()],
        "inputs": [
            {
                "file": f"{record['count']:,} photographs" if "count" in record else record["file"],
                "size": f"{record['size']:,}",
                "sha256": record["sha256"],
            }
            for record in inputs
        ],
    }


def recorded(about: Mapping[str, Any], name: str, default: Any) -> Any:
    """A part of what a file says of its making, which is stored as JSON."""
    held = about.get(name, default)
    return json.loads(held) if isinstance(held, str) else held


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    return str(value)
