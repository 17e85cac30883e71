"""``nerfgen landmark``: 2D landmarks of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen landmark photos",
    "nerfgen landmark photos --picture found.png",
    "nerfgen landmark photos -o work/landmarks.h5 --strict --json",
    "nerfgen landmark cats --class cat --model cat.h5",
)

Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE.png",
        help="Also draw some of the images with their points.",
        show_default=False,
        rich_help_panel="Output",
    ),
]


def landmark(
    data: runtime.DataFolder,
    object_class: runtime.ClassName = "face",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Estimator that `nerfgen train-landmarker` made, for classes that bring none.",
            show_default=False,
        ),
    ] = None,
    workers: runtime.Workers = 0,
    output: runtime.Output = None,
    picture: Picture = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Find the class's landmarks in every image; writes DATA/landmarks.h5.

    Photographs may have any size and framing, those of faces any orientation. Of several objects the largest is
    taken. Images without one, and unreadable ones, stay in the file with a status.
    """
    from nerfgen.landmark import landmark_folder
    from nerfgen.landmark.picture import landmark_picture

    runtime.existing_folder(data)
    output = output or data / "landmarks.h5"
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with reporter.progress("landmarks") as progress:
        summary = landmark_folder(
            data,
            output,
            object_class=object_class,
            model=model,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            warn=reporter.say,
        )
    if summary["kept"]:
        reporter.kept(output)
    if picture:
        landmark_picture(data, output, picture)
        reporter.say(f"wrote {picture}")
    images, detected = summary["images"], summary["detected"]
    reporter.result(
        {**summary, "output": str(output)},
        f"{images} images, {detected} with a landmark ({summary['detected_fraction']:.2%}) -> {output}"
        + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - detected, images)
