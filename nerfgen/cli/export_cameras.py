"""``nerfgen export-cameras``: cameras for the programs of others."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime

EPILOG = runtime.examples(
    "Examples",
    "nerfgen export-cameras photos --format transforms -o scene",
    "nerfgen export-cameras photos/model.h5 --format eg3d -o ffhq       cameras as refined in training",
    "nerfgen export-cameras views.h5 --format srn -o renders            rendered views with their cameras",
)


class FormatName(enum.StrEnum):
    """What is written."""

    transforms = "transforms"
    srn = "srn"
    eg3d = "eg3d"


class Pictures(enum.StrEnum):
    """What becomes of the pictures."""

    copy = "copy"
    link = "link"
    none = "none"


_WORLD = "World of the cameras"


def export_cameras(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Cameras, model, rendered views or truth; or the folder that holds cameras.h5.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder to make.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ],
    format_name: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="[bold]transforms[/bold]: transforms.json of instant-ngp and nerfstudio, one an object, or one for "
            "all where each has one image. [bold]srn[/bold]: rgb/, pose/ and intrinsics.txt for each object. "
            "[bold]eg3d[/bold]: dataset.json.",
        ),
    ] = FormatName.transforms,
    pictures: Annotated[
        Pictures,
        typer.Option(
            help="[bold]copy[/bold] the pictures into the layout, [bold]link[/bold] them (hard links, copies where "
            "that is impossible), or [bold]none[/bold]: cameras only."
        ),
    ] = Pictures.copy,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Folder of the images; that of SOURCE by default.",
            show_default=False,
        ),
    ] = None,
    up: Annotated[
        str,
        typer.Option(
            metavar="AXIS", help="Axis of the written world that points up.", rich_help_panel=_WORLD
        ),
    ] = "+y",
    front: Annotated[
        str,
        typer.Option(
            metavar="AXIS",
            help="Axis that objects face; by default, with y up, -z for srn and +z for others.",
            show_default=False,
            rich_help_panel=_WORLD,
        ),
    ] = "",
    scale: Annotated[float, typer.Option(min=1e-9, help="Factor of lengths.", rich_help_panel=_WORLD)] = 1.0,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Write cameras, those of a model or of rendered views among them, in the formats of other programs.

    Images without camera are left out. `nerfgen import FOLDER --scale 1` reads the same cameras back.
    """
    from nerfgen.interchange import give

    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with reporter.progress("export") as progress:
        summary = give(
            source,
            output,
            format_name=format_name.value,
            pictures=pictures.value,
            data=data,
            up=up,
            front=front,
            scale=scale,
            overwrite=overwrite,
            progress=progress,
        )
    left = f"; {summary['left_out']} without camera left out" if summary["left_out"] else ""
    reporter.result(
        summary,
        f"{summary['images']} cameras of {summary['instances']} objects as {summary['format']}, {summary['up']} up and "
        f"{summary['front']} to the front -> {output}{left}",
    )
