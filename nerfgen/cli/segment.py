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
    "nerfgen segment cars --method color --background white",
    "nerfgen segment cats --method tflite --model deeplab.tflite --category cat",
    "nerfgen segment photos --method files --masks mine",
    "nerfgen segment photos --size 128 --png masks --picture masks.png",
)


_METHOD_PANEL = "Methods"


class Method(enum.StrEnum):
    """How foreground is told from background."""

    auto = "auto"
    selfie = "selfie"
    alpha = "alpha"
    color = "color"
    grabcut = "grabcut"
    tflite = "tflite"
    files = "files"


def segment(
    data: runtime.DataFolder,
    method: Annotated[
        Method,
        typer.Option(
            help="[bold]auto[/bold]: alpha where an image has transparency, else the class's own; grabcut in place of "
            "color where a background isn't plain. [bold]selfie[/bold]: persons. [bold]alpha[/bold]: the image's own "
            "alpha channel. [bold]color[/bold]: what differs from a plain background. [bold]grabcut[/bold]: any "
            "object, by its colours, from where the camera and the landmarks say that it is. [bold]tflite[/bold]: a "
            "model of yours. [bold]files[/bold]: masks of yours."
        ),
    ] = Method.auto,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR",
            help="For color: [bold]white[/bold], [bold]black[/bold] or [bold]#rrggbb[/bold]; that of each image's edge "
            "by default.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tflite",
            help="For tflite: a segmentation model in TensorFlow Lite's format, such as MediaPipe's.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|NUMBER",
            help="For tflite: the category that is foreground; all but the first by default. For files: its label, "
            "where the files are images of labels.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.txt",
            help="For tflite: names of the categories, one a line, for a model that doesn't carry them.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    pixel_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="For tflite: what black and white are for the network; what the model says by default, else 0 1.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For files: where the mask of a/b.jpg is a/b.png, a/b.jpg.png or a/b_mask.png, in any image format.",
            show_default=False,
            rich_help_panel=_METHOD_PANEL,
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            "--cameras",
            metavar="FILE",
            help="Cameras whose windows are masked; DATA/cameras.h5 by default.",
            show_default=False,
        ),
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Landmarks that grabcut starts from; DATA/landmarks.h5 by default, if it is there.",
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
    from nerfgen.mask import Settings, segment_folder, write_photo_masks
    from nerfgen.mask.picture import mask_picture

    runtime.existing_folder(data)
    output = output or data / "masks.h5"
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with reporter.progress("masks") as progress:
        summary = segment_folder(
            data,
            output,
            cameras=cameras,
            landmarks=landmarks,
            method=method.value,
            settings=Settings(
                background=background,
                model=model,
                category=category,
                labels=labels,
                pixel_range=pixel_range,
                masks=masks,
            ),
            size=size,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            warn=reporter.say,
        )
    if summary["kept"]:
        reporter.kept(output)
    if method is Method.auto and summary["methods"]:
        chosen = ", ".join(f"{count} by {name}" for name, count in summary["methods"].items())
        reporter.say(f"chosen for each image: {chosen}")
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
