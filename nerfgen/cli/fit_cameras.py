"""``nerfgen fit-cameras``: camera and framing of every image."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen fit-cameras photos",
    "nerfgen fit-cameras photos --refine-canonical --picture cameras.png",
    "nerfgen fit-cameras photos --intrinsics shared --focal 1.4",
    "nerfgen fit-cameras cats --estimate-canonical --picture cameras.png",
    "nerfgen fit-cameras mine --like photos/model.h5",
)


class Intrinsics(enum.StrEnum):
    """What of the focal length is estimated."""

    fixed = "fixed"
    shared = "shared"
    per_image = "per-image"


class Points(enum.StrEnum):
    """What cameras are fitted to."""

    mesh = "mesh"
    landmarks = "landmarks"


def fit_cameras(
    data: runtime.DataFolder,
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Landmarks; DATA/landmarks.h5 by default.", show_default=False),
    ] = None,
    intrinsics: Annotated[
        Intrinsics,
        typer.Option(
            help="[bold]fixed[/bold]: the focal length of --focal. [bold]shared[/bold]: one factor for all images is "
            "estimated. [bold]per-image[/bold]: one each, with a prior (one face hardly tells it)."
        ),
    ] = Intrinsics.fixed,
    focal: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Focal length in units of a photograph's longer side; the class's by default.",
            show_default=False,
        ),
    ] = None,
    points: Annotated[
        Points,
        typer.Option(help="Fit to the dense mesh where the landmarker gives one, or to the few landmarks."),
    ] = Points.mesh,
    depth_weight: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Weight of the mesh's own relative depths against its pixels; 0 fits to the pixels alone.",
        ),
    ] = 1.0,
    estimate_canonical: Annotated[
        bool,
        typer.Option(
            "--estimate-canonical",
            help="Find the canonical points together with all cameras, from the landmarks alone; what classes "
            "without canonical points always do. Takes 10 photographs or more, turned to different sides.",
        ),
    ] = False,
    refine_canonical: Annotated[
        bool,
        typer.Option(
            "--refine-canonical",
            help="Re-estimate the canonical points of the class together with all cameras first.",
        ),
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Take canonical points and focal length from a trained model, for `nerfgen train --init`.",
            show_default=False,
        ),
    ] = None,
    robust: Annotated[
        float, typer.Option(min=1e-4, help="Huber's scale, in units of the landmarks' spread in the image.")
    ] = 0.05,
    max_error: Annotated[
        float, typer.Option(min=0.0, help="Largest reprojection error accepted, in the same unit.")
    ] = 0.3,
    output: runtime.Output = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.png",
            help="Also draw landmarks (green), reprojections (red) and windows of some images.",
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
    """Fit the camera of every image to its landmarks; writes DATA/cameras.h5.

    Needs the landmarks of `nerfgen landmark`. Also decides the window of each photograph that shows the
    object: what follows looks only there.
    """
    from nerfgen.camera import fit_folder
    from nerfgen.camera.picture import camera_picture
    from nerfgen.errors import InputError
    from nerfgen.field import load_model

    runtime.existing_folder(data)
    if like and (focal or refine_canonical or estimate_canonical):
        raise InputError(
            "--like excludes --focal, --refine-canonical and --estimate-canonical: the model has these"
        )
    if estimate_canonical and refine_canonical:
        raise InputError(
            "--estimate-canonical excludes --refine-canonical: what is estimated needs no refining"
        )
    former = load_model(like) if like else None
    output = output or data / "cameras.h5"
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    summary = fit_folder(
        data,
        output,
        landmarks=landmarks,
        intrinsics=intrinsics.value,
        points=points.value,
        depth_weight=depth_weight,
        focal=former.focal if former else focal,
        canonical=(former.canonical_index, former.canonical) if former else None,
        estimate=estimate_canonical,
        refine_canonical=refine_canonical,
        robust=robust,
        max_error=max_error,
        overwrite=overwrite,
        say=reporter.say,
    )
    if summary["kept"]:
        reporter.kept(output)
    if picture:
        camera_picture(data, landmarks or data / "landmarks.h5", output, picture)
        reporter.say(f"wrote {picture}")
    images, fitted, error = summary["images"], summary["fitted"], summary["reprojection_rmse_px_median"]
    typical = f", median reprojection error {error:.2f} px" if error is not None else ""
    reporter.result(
        {**summary, "output": str(output)},
        f"{images} images, {fitted} with a camera{typical} -> {output}" + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - fitted, images)
