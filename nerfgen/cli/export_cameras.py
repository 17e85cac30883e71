"""``nerfgen export-cameras``: cameras for the programs of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages
from nerfgen.interchange import ExportSettings

EPILOG = runtime.examples(
    "Examples",
    "nerfgen export-cameras photos --format transforms -o scene",
    "nerfgen export-cameras photos/model.h5 --format eg3d -o ffhq       cameras as refined in training",
    "nerfgen export-cameras views.h5 --format srn -o renders            rendered views with their cameras",
)


def export_cameras(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="File of cameras, a model, rendered views or ground truth; or the folder that holds cameras.h5.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder to create.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ],
    settings: ExportSettings,
    data: Annotated[
        Path | None, runtime.file_option("Folder of the images; that of SOURCE by default.", "FOLDER")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel="Output")
    ] = False,
    messages: Messages,
) -> None:
    """Write cameras in the formats of other programs, including those of a model or of rendered views.

    Images without a camera are left out. `nerfgen import FOLDER --scale 1` reads the same cameras back. A folder is
    replaced only if it holds an export and nothing else.
    """
    from nerfgen.interchange import export_cameras as write_cameras

    reporter = messages.reporter()
    with reporter.progress("export") as progress:
        summary = write_cameras(source, output, settings, data=data, overwrite=overwrite, progress=progress)
    if summary["kept"]:
        reporter.kept(output)
    for line in summary["notes"]:
        reporter.say(options.as_options(line))
    left = f"; {summary['left_out']} without a camera left out" if summary["left_out"] else ""
    reporter.result(
        summary,
        f"{summary['images']} cameras of {summary['instances']} objects as {summary['format']}, {summary['up']} up and "
        f"{summary['front']} to the front -> {output}{left}",
    )
