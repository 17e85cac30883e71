"""``nerfgen classes``: the object classes, and what a file that describes one says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import runtime

if TYPE_CHECKING:
    from nerfgen.objectclass import ObjectClass

EPILOG = runtime.examples(
    "Examples",
    "nerfgen classes",
    "nerfgen classes cat -o mug.toml   a beginning for a class of your own",
    "nerfgen classes ./mug.toml        check it",
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
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.toml",
            help="Write the file that describes the class, to be changed into one of your own.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """List the object classes, or show one.

    A class is a TOML or JSON file: its landmarks and what is known of them, the box that holds an object, the camera
    where nothing else is known. Every command that takes --class takes such a file too.
    """
    from nerfgen.artifact import atomic_path
    from nerfgen.errors import InputError, OutputExistsError
    from nerfgen.objectclass import CLASS_NAMES, class_text, object_class

    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    if output:
        if not name:
            raise InputError(f"-o needs the name of a class: {', '.join(CLASS_NAMES)}")
        if output.exists() and not overwrite:
            raise OutputExistsError(
                f"{output} exists; give --overwrite to replace it or -o for another place"
            )
        with atomic_path(output) as temporary:
            temporary.write_text(class_text(name), encoding="utf-8")
        reporter.result({"output": str(output)}, f"the file of class {name} -> {output}")
        return
    if name:
        described = object_class(name)
        reporter.result(_told(described), _shown(described))
        return
    every = [object_class(name) for name in CLASS_NAMES]
    reporter.result({"classes": [_told(described) for described in every]}, _table(every))


def _told(described: ObjectClass) -> dict[str, Any]:
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


def _shown(described: ObjectClass) -> str:
    told = _told(described)
    told["canonical"] = "given" if len(described.canonical) else "estimated from photographs"
    if not described.landmark_names:
        del told["canonical"]

    def plain(value: Any) -> str:
        if isinstance(value, list):
            return (
                ", ".join(" - ".join(item) if isinstance(item, list) else str(item) for item in value)
                or "none"
            )
        return str(value) if value != "" else "none"

    return "\n".join(f"{name.replace('_', ' '):<14} {plain(value)}" for name, value in told.items())
