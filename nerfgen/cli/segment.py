"""``nerfgen segment``: foreground mask of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, other_statuses
from nerfgen.mask.settings import MaskSettings

EPILOG = runtime.examples(
    "Examples",
    "nerfgen segment photos",
    "nerfgen segment cutouts --method alpha --strict",
    "nerfgen segment cars --method color --background white",
    "nerfgen segment cats --method tflite --model deeplab.tflite --category cat",
    "nerfgen segment photos --method files --masks mine",
    "nerfgen segment photos --size 128 --png masks --picture masks.png",
)


def segment(
    data: runtime.DataFolder,
    *,
    settings: MaskSettings,
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
            help="Landmarks that grabcut starts from; DATA/landmarks.h5 by default, if it exists.",
            show_default=False,
        ),
    ] = None,
    models: runtime.Models = None,
    workers: runtime.Workers = None,
    cluster: runtime.Cluster,
    png: Annotated[
        Path | None,
        typer.Option(
            "--png",
            metavar="FOLDER",
            help="Also write each mask as a PNG of its image's size.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.png",
            help="Also draw the masks of some images.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Mask the foreground of every image; writes DATA/masks.h5.

    Needs the cameras of `nerfgen fit-cameras`: every mask lies in the window of its image's camera.
    """
    from nerfgen.image import local_folder
    from nerfgen.mask import mask_figure, segment_folder, write_png_masks

    folder = runtime.image_folder(data)
    file = output.output or cluster.shard.path(local_folder(folder) / "masks.h5")
    reporter = messages.reporter()
    with reporter.progress("masks") as progress:
        summary = segment_folder(
            folder,
            file,
            cameras=cameras,
            landmarks=landmarks,
            settings=settings,
            models=models,
            workers=workers,
            shard=cluster.shard,
            scheduler=cluster.scheduler,
            overwrite=output.overwrite,
            progress=progress,
            warn=reporter.say,
        )
    if summary["kept"]:
        reporter.kept(file)
    if settings.method == "auto" and summary["methods"]:
        chosen = ", ".join(f"{count} by {name}" for name, count in summary["methods"].items())
        reporter.say(f"chosen for each image: {chosen}")
    if png:
        with reporter.progress("mask pictures") as progress:
            written = write_png_masks(file, png, workers=workers, progress=progress)
        reporter.say(f"wrote {written} masks to {png}")
    if picture:
        mask_figure(folder, file, picture)
        reporter.say(f"wrote {picture}")
    images, masked = summary["images"], summary["masked"]
    reporter.result(
        {**summary, "output": str(file)},
        f"{images} images, {masked} with a mask ({summary['masked_fraction']:.2%}) -> {file}"
        + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - masked, images)
