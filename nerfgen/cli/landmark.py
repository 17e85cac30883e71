"""``nerfgen landmark``: 2D landmarks of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen landmark photos",
    "nerfgen landmark photos --picture found.png",
    "nerfgen landmark photos -o work/landmarks.h5 --strict --json",
    "nerfgen landmark cats --class cat --model cat.h5",
)


def landmark(
    data: runtime.DataFolder,
    *,
    object_class: runtime.ClassName = "face",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Landmark estimator made by `nerfgen train-landmarker`, for classes that ship without one.",
            show_default=False,
        ),
    ] = None,
    models: runtime.Models = None,
    workers: runtime.Workers = None,
    cluster: runtime.Cluster,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Also draw the landmarks of some images.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Find the class's landmarks in every image; writes DATA/landmarks.h5.

    Images may have any size and framing, those of faces any orientation. If an image shows several objects, the largest
    is used. Images without an object and unreadable images stay in the file, with a status that says so.

    An image is a file with the suffix of an image format or of a camera's raw files. Hidden files are skipped, and so
    are the figures, masks and GIF videos that nerfgen wrote, which it marks; rendered views and synthetic images are
    images. Links that lead out of the folder are not followed: their rows say `outside` (NERFGEN_FOLLOW_LINKS=1 permits
    them).
    """
    from nerfgen.image import local_folder
    from nerfgen.landmark import landmark_figure, landmark_folder

    folder = runtime.image_folder(data)
    file = output.output or cluster.shard.path(local_folder(folder) / "landmarks.h5")
    reporter = messages.reporter()
    with reporter.progress("landmarks") as progress:
        summary = landmark_folder(
            folder,
            file,
            object_class=object_class,
            model=model,
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
    if picture:
        landmark_figure(folder, file, picture)
        reporter.say(f"wrote {picture}")
    images, detected = summary["images"], summary["detected"]
    reporter.result(
        {**summary, "output": str(file)},
        f"{images} images, {detected} with landmarks ({summary['detected_fraction']:.2%}) -> {file}"
        + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - detected, images)
