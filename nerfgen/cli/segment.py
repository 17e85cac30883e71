"""``nerfgen segment``: foreground mask of every image."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen segment photos",
    "nerfgen segment cutouts --method alpha --strict",
    "nerfgen segment photos --size 128 --png masks --picture masks.png",
)


class Method(enum.StrEnum):
    """How foreground is told from background."""

    auto = "auto"
    selfie = "selfie"
    alpha = "alpha"


def segment(
    data: runtime.DataFolder,
    method: Annotated[
        Method,
        typer.Option(
            help="[bold]auto[/bold]: alpha where an image has transparency, else selfie. "
            "[bold]selfie[/bold]: persons. [bold]alpha[/bold]: the image's own alpha channel."
        ),
    ] = Method.auto,
    cameras: Annotated[
        Path | None,
        typer.Option(
            "--cameras",
            metavar="FILE",
            help="Cameras whose windows are masked; DATA/cameras.h5 by default.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels along either side of a mask.")] = 256,
    workers: runtime.Workers = 0,
    output: runtime.Output = None,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FOLDER",
            help="Also write every mask as a PNG of its photograph's size.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.png",
            help="Also draw some of the images with their masks.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Mask the foreground of every image; writes DATA/masks.h5.

    Needs the cameras of `nerfgen fit-cameras`: every mask lies in the window of its image's camera.
    """
    from nerfgen.mask import segment_folder, write_photo_masks
    from nerfgen.mask.picture import mask_picture

    runtime.existing_folder(data)
    output = output or data / "masks.h5"
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with reporter.progress("masks") as progress:
        summary = segment_folder(
            data,
            output,
            cameras=cameras,
            method=method.value,
            size=size,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            warn=reporter.say,
        )
    if summary["kept"]:
        reporter.kept(output)
    if png:
        with reporter.progress("mask pictures") as progress:
            written = write_photo_masks(output, png, workers=workers, progress=progress)
        reporter.say(f"wrote {written} masks to {png}")
    if picture:
        mask_picture(data, output, picture)
        reporter.say(f"wrote {picture}")
    images, masked = summary["images"], summary["masked"]
    reporter.result(
        {**summary, "output": str(output)},
        f"{images} images, {masked} with a mask ({summary['masked_fraction']:.2%}) -> {output}"
        + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - masked, images)
