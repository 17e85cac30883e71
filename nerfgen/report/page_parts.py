"""Parts that all pages share: templates, cells, image grids and provenance."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from nerfgen.metric import RESAMPLES, Estimate
from nerfgen.report.catalogue import (
    DASH,
    GRID_TITLES,
    format_interval,
    format_value,
    metric_info,
    metric_title,
)
from nerfgen.report.comparison import provenance_value
from nerfgen.report.report_file import ImageGrid
from nerfgen.storage import Record
from nerfgen.untrusted import printable

if TYPE_CHECKING:
    from jinja2 import Environment

# Width of a small image on the page, pixels.
_CELL_WIDTH = 120
# Most columns of a grid whose items run down the page.
_MAX_COLUMNS_DOWN = 8


def render_template(template: str, **values: Any) -> str:
    """A page of one of the package's templates, with all text escaped."""
    return _environment().get_template(template).render(resamples=f"{RESAMPLES:,}", **values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("nerfgen.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_control_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _without_control_characters(value: Any) -> Any:
    # Marked-up text, such as a plot, is a subclass of str.
    return printable(value) if type(value) is str else value


def metric_row(metric: str) -> Record:
    """The first cell of a row: the metric's description."""
    info = metric_info(metric)
    return {
        "title": metric_title(metric),
        "bare": info.title,
        "unit": info.unit,
        "description": info.description,
        "better": info.better,
    }


def cell(metric: str, estimate: Estimate | None, signed: bool = False) -> Record:
    """An estimate as text; dashes without one."""
    if estimate is None:
        return {"value": DASH, "interval": "", "n": ""}
    return {
        "value": format_value(metric, estimate.mean, signed).replace("-", "−"),
        "interval": format_interval(metric, estimate, signed).replace("-", "−"),
        "n": f"{estimate.n:,}",
    }


def data_uri(rgb: UInt8[np.ndarray, "height width 3"]) -> str:
    """An image as PNG inside the page."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def provenance_section(letter: str, name: str, provenance: Record) -> Record:
    """Parameters and inputs of a file as text."""
    parameters = provenance_value(provenance, "parameters", {})
    inputs = provenance_value(provenance, "inputs", [])
    return {
        "letter": letter,
        "name": name,
        "parameters": [(key, _as_text(value)) for key, value in parameters.items()],
        "inputs": [
            {
                "file": f"{record['count']:,} images" if "count" in record else record["file"],
                "size": f"{record['size']:,}",
                "sha256": record["sha256"],
            }
            for record in inputs
        ],
    }


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_as_text(each) for each in value) or "none"
    return str(value)


def image_grids(groups: Sequence[Mapping[str, ImageGrid]], letters: Sequence[str]) -> list[Record]:
    """Template values of the image grids of all titles.

    Grids of several reports are joined over their common items: a column that is equal in all reports is shown once,
    others once per report with its letter. Without common items, each report has its own grid.
    """
    grids = []
    for title in dict.fromkeys(title for group in groups for title in group):
        present = [
            (letter, group[title]) for letter, group in zip(letters, groups, strict=True) if title in group
        ]
        items = [item for item in present[0][1].items if all(item in other.items for _, other in present)]
        heading = GRID_TITLES.get(title, title)
        if len(groups) == 1:
            grids.append(_grid(heading, present, items))
        elif items:
            some = "" if len(present) == len(groups) else f", {', '.join(letter for letter, _ in present)}"
            grids.append(_grid(f"{heading}{some}", present, items))
        else:
            grids += [
                _grid(f"{heading}, {letter}", [(letter, grid)], list(grid.items)) for letter, grid in present
            ]
    return [grid for grid in grids if grid["rows"]]


def _grid(title: str, present: Sequence[tuple[str, ImageGrid]], items: list[str]) -> Record:
    """One grid of items of one or more reports."""
    columns = []
    for heading in dict.fromkeys(heading for _, grid in present for heading in grid.columns):
        found = [
            (letter, [grid.rgb[grid.items.index(item), grid.columns.index(heading)] for item in items])
            for letter, grid in present
            if heading in grid.columns
        ]
        equal = len(found) == len(present) and all(_same_images(found[0][1], own) for _, own in found)
        if len(present) == 1 or equal:
            columns.append((heading, found[0][1]))
        else:
            columns += [(f"{heading}, {letter}", column) for letter, column in found]
    size = present[0][1].rgb.shape[2]
    return {
        "title": title,
        "heads": [heading for heading, _ in columns],
        "rows": [
            {
                "item": item,
                "pictures": [
                    {"uri": data_uri(column[row]), "size": column[row].shape[0]} for _, column in columns
                ],
            }
            for row, item in enumerate(items)
        ],
        # Small images are shown at an integer multiple of their size.
        "side": size * max(1, round(_CELL_WIDTH / size)) if size <= _CELL_WIDTH * 1.5 else _CELL_WIDTH,
        "flow": "down" if len(items) < len(columns) <= _MAX_COLUMNS_DOWN else "across",
    }


def _same_images(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
