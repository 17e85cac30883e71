"""``nerfgen info``: content and provenance of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, Reporter

EPILOG = runtime.examples(
    "Examples",
    "nerfgen info photos/model.h5",
    "nerfgen info photos/cameras.h5 --json",
    "nerfgen info head.glb",
    "nerfgen info --devices",
)

# Attributes that hold JSON.
_JSON = ("parameters", "inputs", "preset", "surface")


def info(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A file that nerfgen wrote.", show_default=False)
    ] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List the devices that JAX sees.")] = False,
    *,
    messages: Messages,
) -> None:
    """Print the content and the provenance of a file: schema, recipe, inputs, statuses, datasets.

    With --devices, print the devices that training can use.
    """
    from nerfgen.errors import InputError

    reporter = messages.reporter()
    if devices:
        found = _devices()
        reporter.result({"devices": found}, "\n".join(_line(device) for device in found))
    if file:
        _describe(file, reporter)
    elif not devices:
        raise InputError("give a file that nerfgen wrote, or `devices`")


def _devices() -> list[dict[str, object]]:
    """Every device of JAX, with its memory where JAX knows it."""
    import jax

    return [
        {
            "device": str(device),
            "platform": device.platform,
            "kind": device.device_kind,
            "memory_gib": round(limit / 2**30, 1) if (limit := _memory_limit(device)) else None,
        }
        for device in jax.devices()
    ]


def _memory_limit(device: Any) -> int | None:
    stats = device.memory_stats()
    return stats.get("bytes_limit") if stats else None


def _describe(file: Path, reporter: Reporter) -> None:
    import json
    from collections import Counter

    from nerfgen import mesh, storage

    if file.suffix.lower() in mesh.FORMATS:
        _describe_mesh(file, reporter)
        return
    with storage.reading(file, *storage.SCHEMAS) as opened:
        attributes = {
            name: json.loads(str(value)) if name in _JSON else _plain(value)
            for name, value in opened.attrs.items()
        }
        status = dict(Counter(storage.strings(opened["status"]))) if "status" in opened else {}
        datasets: dict[str, storage.Record] = {
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
    reporter.result({"attributes": attributes, "statuses": status, "datasets": datasets}, "\n".join(lines))


def _describe_mesh(file: Path, reporter: Reporter) -> None:
    import json

    from nerfgen import mesh
    from nerfgen.errors import InputError

    if not file.exists():
        raise InputError(f"{file} does not exist; make it with `nerfgen export`")
    account = mesh.read_provenance(file)
    if not account:
        raise InputError(f"{file} was not written by nerfgen export")
    attributes = {name: json.loads(value) if name in _JSON else value for name, value in account.items()}
    lines = [f"{name}: {_line(value)}" for name, value in attributes.items()]
    reporter.result({"attributes": attributes}, "\n".join(lines))


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it: numpy scalars become numbers, arrays lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_line(item) for item in value)
    return str(value)
