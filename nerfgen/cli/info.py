"""``nerfgen info``: what a file holds and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime

EPILOG = runtime.examples("Examples", "nerfgen info photos/model.h5", "nerfgen info photos/cameras.h5 --json")


def info(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that nerfgen wrote.", show_default=False)
    ],
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Print what a file holds and how it was made: schema, recipe, inputs, statuses, datasets."""
    import json
    from collections import Counter

    from nerfgen import artifact

    with artifact.reading(file, *artifact.SCHEMAS) as opened:
        attributes = {
            name: json.loads(str(value)) if name in ("parameters", "inputs", "preset") else _plain(value)
            for name, value in opened.attrs.items()
        }
        status = dict(Counter(artifact.strings(opened["status"]))) if "status" in opened else {}
        datasets: dict[str, dict[str, Any]] = {
            name: {
                "shape": list(item.shape),
                "kind": str(item.dtype),
                **{k: _plain(v) for k, v in item.attrs.items()},
            }
            for name, item in opened.items()
            if hasattr(item, "shape")
        }
    lines = [f"{name}: {_line(value)}" for name, value in attributes.items()]
    lines += [f"status: {_line(status)}"] if status else []
    lines += [
        f"{name} {tuple(about['shape'])} {about.get('description', '')}" for name, about in datasets.items()
    ]
    runtime.Reporter(as_json=as_json).result(
        {"attributes": attributes, "statuses": status, "datasets": datasets}, "\n".join(lines)
    )


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it: numpy scalars become numbers, arrays lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_line(item) for item in value)
    return str(value)
