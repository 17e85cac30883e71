"""``nerfgen info``: content and provenance of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, Reporter
from nerfgen.untrusted import printable

if TYPE_CHECKING:
    from nerfgen import storage
    from nerfgen.storage import Attribute

EPILOG = runtime.examples(
    "Examples",
    "nerfgen info photos/model.h5",
    "nerfgen info photos/cameras.h5 --json",
    "nerfgen info photos/cameras.h5 --status not-ok",
    "nerfgen info photos/masks.h5 --status no_mask,unreadable",
    "nerfgen info photos/model.h5 --command",
    "nerfgen info photos/model.h5 --typicality",
    "nerfgen info head.glb",
    "nerfgen info --devices",
)

_NOT_OK = "not-ok"
# Rows that are listed for a person.
_LEAST_TYPICAL = 20


def info(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A file that nerfgen wrote.", show_default=False)
    ] = None,
    *,
    command: Annotated[
        bool,
        typer.Option(
            "--command",
            help="Print the command that makes the file. Words in capitals stand for what the file does not tell.",
        ),
    ] = False,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="not-ok|STATUS,...",
            help="List the images with these statuses, or all that are not usable: image, status and reason, with tabs "
            "between.",
            show_default=False,
        ),
    ] = None,
    typicality: Annotated[
        bool,
        typer.Option(
            "--typicality",
            help="List the rows of a model by how typical their latent codes are, the least typical first: images that "
            "do not belong to the others are among these.",
        ),
    ] = False,
    devices: Annotated[bool, typer.Option("--devices", help="List the devices that JAX sees.")] = False,
    messages: Messages,
) -> None:
    """Print the content and the provenance of a file: schema, recipe, inputs, statuses, datasets.

    With --command, print the command that makes the file. With --status, list some of its images. With --typicality,
    list the least typical rows of a model; all rows with --json. With --devices, print the devices that training can
    use.
    """
    from nerfgen.errors import InputError

    options.exclude("command", "status", "typicality")
    options.exclude("status", "typicality")
    reporter = messages.reporter()
    if devices:
        found = _devices()
        reporter.result({"devices": found}, "\n".join(_line(device) for device in found))
    if not file:
        options.refuse("needs a file that nerfgen wrote", "command", "status", "typicality")
        if not devices:
            raise InputError("give a file that nerfgen wrote, or `devices`")
    elif command:
        _print_command(file, reporter)
    elif status is not None:
        _print_statuses(file, status, reporter)
    elif typicality:
        _print_typicality(file, reporter)
    else:
        _describe(file, reporter)


def _print_command(file: Path, reporter: Reporter) -> None:
    from nerfgen.cli.command_line import command_line
    from nerfgen.provenance import reconstruct

    call = reconstruct(file)
    line = printable(command_line(call, options.commands()))
    for note in call.notes:
        reporter.say(f"note: {note}")
    reporter.result({"command": line, "notes": call.notes}, line)


def _print_statuses(file: Path, wanted: str, reporter: Reporter) -> None:
    """The images with some statuses, a line each."""
    from nerfgen import storage
    from nerfgen.errors import InputError

    names = {name.strip() for name in wanted.split(",")}
    for name in names - {_NOT_OK} - storage.STATUSES.keys():
        raise InputError(f"`status` {name}: give {_NOT_OK}, or some of {', '.join(storage.STATUSES)}")
    with storage.reading(file, *storage.SCHEMAS) as opened:
        if "status" not in opened:
            raise InputError(f"{file} has no statuses; give a file of landmarks, cameras, masks or views")
        images = storage.strings(opened["image" if "image" in opened else "name"])
        statuses = storage.strings(opened["status"])
        reasons = storage.strings(opened["reason"]) if "reason" in opened else [""] * len(images)
    rows = [
        {"image": image, "status": status, "reason": reason}
        for image, status, reason in zip(images, statuses, reasons, strict=True)
        if status in names or (_NOT_OK in names and status not in storage.USABLE)
    ]
    lines = ["\t".join(printable(part) for part in row.values()).rstrip("\t") for row in rows]
    if rows or reporter.as_json:
        reporter.result({"images": rows}, "\n".join(lines))


def _print_typicality(file: Path, reporter: Reporter) -> None:
    """The rows of a model, the least typical first."""
    import numpy as np

    from nerfgen.model import load_model
    from nerfgen.model import typicality as typicality_of

    model = load_model(file)
    likelihood = typicality_of(model)
    order = np.argsort(likelihood, kind="stable")
    rows = [
        {
            "row": int(row),
            "image": model.images[row],
            "log_likelihood": round(float(likelihood[row]), 4),
            "percentile": round(100 * place / len(order), 2),
        }
        for place, row in enumerate(order)
    ]
    lines = ["log-likelihood per dimension, percentile, row, image"]
    lines += [
        f"{row['log_likelihood']:.3f}\t{row['percentile']:.2f}\t{row['row']}\t{printable(str(row['image']))}"
        for row in rows[:_LEAST_TYPICAL]
    ]
    reporter.result({"rows": rows}, "\n".join(lines))


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
    from collections import Counter

    from nerfgen import mesh, storage

    if file.suffix.lower() in mesh.FORMATS:
        _describe_mesh(file, reporter)
        return
    with storage.reading(file, *storage.SCHEMAS) as opened:
        schema = storage.SCHEMAS[opened.attrs["nerfgen_schema"]]
        attributes = _values(opened.attrs, storage.ROOT_ATTRIBUTES | schema.attributes)
        status = dict(Counter(storage.strings(opened["status"]))) if "status" in opened else {}
        datasets: dict[str, storage.Record] = {
            name: {"shape": list(item.shape), "kind": str(item.dtype), **_values(item.attrs, {})}
            for name, item in opened.items()
            if hasattr(item, "shape")
        }
    lines = [*_lines(attributes), *([f"status: {_line(status)}"] if status else [])]
    lines += [
        f"{_line(name)} {tuple(about['shape'])} {_line(about.get('description', ''))}"
        for name, about in datasets.items()
    ]
    reporter.result({"attributes": attributes, "statuses": status, "datasets": datasets}, "\n".join(lines))


def _describe_mesh(file: Path, reporter: Reporter) -> None:
    from nerfgen import mesh, storage
    from nerfgen.errors import InputError

    if not file.exists():
        raise InputError(f"{file} does not exist; make it with `nerfgen export`")
    account = mesh.read_provenance(file)
    if not account:
        raise InputError(f"{file} was not written by nerfgen export")
    storage.check_attributes(account, mesh.SCHEMA, file)
    attributes = _values(account, storage.ROOT_ATTRIBUTES | mesh.SCHEMA.attributes)
    reporter.result({"attributes": attributes}, "\n".join(_lines(attributes)))


def _values(attributes: Mapping[str, Any], known: Mapping[str, Attribute]) -> storage.Record:
    """Checked attributes as JSON knows them."""
    import json

    return {
        name: json.loads(value) if name in known and known[name].kind in ("object", "list") else _plain(value)
        for name, value in attributes.items()
    }


def _plain(value: Any) -> Any:
    """An attribute as JSON knows it: numpy scalars become numbers, arrays lists, bytes and what is empty text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str | int | float) else ""


def _lines(attributes: Mapping[str, Any]) -> list[str]:
    return [f"{_line(name)}: {_line(value)}" for name, value in attributes.items()]


def _line(value: object) -> str:
    """A value for a person, with what a terminal would obey escaped."""
    if isinstance(value, dict):
        return ", ".join(f"{_line(name)}={_line(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(_line(item) for item in value)
    return printable(str(value))
