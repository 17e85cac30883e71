"""``nerfgen classes``: the object classes, and the files that describe them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages
from nerfgen.settings import setting

if TYPE_CHECKING:
    from nerfgen.objectclass import ObjectClass

EPILOG = runtime.examples(
    "Examples",
    "nerfgen classes",
    "nerfgen classes cat -o mug.toml   a start for a class of your own",
    "nerfgen classes ./mug.toml        check it",
)


@dataclass(frozen=True)
class ClassFile(runtime.OutputFile, title="Output"):
    """The file that describes a class."""

    output: Path | None = setting(
        None,
        option=("-o", "--output"),
        metavar="FILE.toml",
        help="Write the file that describes the class, as a start for one of your own.",
    )


def classes(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A class that ships, or a file that describes one; all that ship by default.",
            show_default=False,
        ),
    ] = "",
    *,
    output: ClassFile,
    messages: Messages,
) -> None:
    """List the object classes, or show one.

    A class is a TOML or JSON file: its landmarks, the box that contains an object, and the default camera. Every
    command with --class takes such a file too.
    """
    from nerfgen.errors import InputError, OutputExistsError
    from nerfgen.objectclass import CLASS_NAMES, class_text, object_class
    from nerfgen.storage import atomic_path

    reporter = messages.reporter()
    file = output.output
    if file:
        if not name:
            raise InputError(f"`output` needs the name of a class: {', '.join(CLASS_NAMES)}")
        if file.exists() and not output.overwrite:
            raise OutputExistsError(
                f"{file} exists; give `overwrite` to replace it, or choose another `output`"
            )
        with atomic_path(file) as temporary:
            temporary.write_text(class_text(name), encoding="utf-8")
        reporter.result({"output": str(file)}, f"the file of class {name} -> {file}")
        return
    if name:
        described = object_class(name)
        reporter.result(_values(described), _description(described))
        return
    every = [object_class(name) for name in CLASS_NAMES]
    reporter.result({"classes": [_values(described) for described in every]}, _table(every))


def _values(described: ObjectClass) -> dict[str, Any]:
    return {
        "name": described.name,
        "description": described.description,
        "landmarker": described.landmarker,
        "segmenter": described.segmenter,
        "landmarks": list(described.landmark_names),
        "canonical": described.canonical.round(6).tolist(),
        "symmetry": [list(pair) for pair in described.symmetry],
        "bounds": list(described.bounds),
        "reach": described.reach,
        "focal": described.focal,
        "largest_angle": described.largest_angle,
        "turn": described.turn,
        "mirror": described.mirror,
    }


def _cameras_from(described: ObjectClass) -> str:
    if not described.landmark_names:
        return "elsewhere (import)"
    return f"{len(described.landmark_names)} landmarks" + (
        "" if len(described.canonical) else ", estimated shape"
    )


def _table(every: list[ObjectClass]) -> str:
    rows = [("class", "cameras from", "landmarker", "segmenter", "")]
    rows += [
        (one.name, _cameras_from(one), one.landmarker or "none", one.segmenter, one.description)
        for one in every
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    )


def _description(described: ObjectClass) -> str:
    values = _values(described)
    values["canonical"] = "given" if len(described.canonical) else "estimated from photographs"
    if not described.landmark_names:
        del values["canonical"]

    def plain(value: Any) -> str:
        if isinstance(value, list):
            return (
                ", ".join(" - ".join(item) if isinstance(item, list) else str(item) for item in value)
                or "none"
            )
        return str(value) if value != "" else "none"

    return "\n".join(f"{name.replace('_', ' '):<14} {plain(value)}" for name, value in values.items())
