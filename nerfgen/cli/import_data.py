"""``nerfgen import``: cameras, masks and landmarks that others already have."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen import cars_train                              SRN folders, all views",
    "nerfgen import cars_train --views one",
    "nerfgen import ffhq.zip -o faces                       EG3D's dataset.json in a zip",
    "nerfgen import captures --class ./mug.toml             transforms.json, one a mug",
    "nerfgen import scene --class car --up +z --front +x --scale 0.5",
)

_WORLD = "World of the cameras"


class FormatName(enum.StrEnum):
    """What is read."""

    auto = "auto"
    srn = "srn"
    eg3d = "eg3d"
    transforms = "transforms"


class Instances(enum.StrEnum):
    """Which images show one object."""

    auto = "auto"
    image = "image"
    folder = "folder"


def import_data(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder, transforms.json, dataset.json or zip.", show_default=False
        ),
    ],
    format_name: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="[bold]auto[/bold]: told from what is there. [bold]srn[/bold]: rgb/, pose/ and intrinsics.txt of "
            "each object. [bold]eg3d[/bold]: dataset.json. [bold]transforms[/bold]: transforms.json, one a scene.",
        ),
    ] = FormatName.auto,
    object_class: Annotated[
        str,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class, or the file that describes it. By default car for srn and face for eg3d.",
            show_default=False,
        ),
    ] = "",
    views: Annotated[
        str, typer.Option(metavar="all|one|N", help="Images of each object to use, drawn at random.")
    ] = "all",
    instances: Annotated[
        Instances,
        typer.Option(
            help="Which images show one object. [bold]auto[/bold]: those of an SRN folder or of a transforms.json; "
            "each of a dataset.json its own. [bold]image[/bold]: each its own. [bold]folder[/bold]: those of a folder."
        ),
    ] = Instances.auto,
    up: Annotated[
        str,
        typer.Option(
            metavar="AXIS",
            help="Axis that points up, such as +z; by default +y for eg3d, else the one nearest to up in the pictures.",
            show_default=False,
            rich_help_panel=_WORLD,
        ),
    ] = "",
    front: Annotated[
        str,
        typer.Option(
            metavar="AXIS",
            help="Axis that objects face. With y up and with z up by default -z and +y for srn, +z and -y for others.",
            show_default=False,
            rich_help_panel=_WORLD,
        ),
    ] = "",
    scale: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Factor of lengths; 0 for the one that makes the median picture show what the class's does.",
            rich_help_panel=_WORLD,
        ),
    ] = 0.0,
    center: Annotated[
        str,
        typer.Option(
            metavar="X,Y,Z",
            help="Point that becomes the origin; by default the point that the cameras of a transforms.json watch, and "
            "the origin of other formats.",
            show_default=False,
            rich_help_panel=_WORLD,
        ),
    ] = "",
    ignore_distortion: Annotated[
        bool,
        typer.Option("--ignore-distortion", help="Take lenses that distort for pinholes."),
    ] = False,
    mask_size: Annotated[int, typer.Option(min=1, help="Pixels along either side of a mask.")] = 256,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder of the files, and of what a zip holds; by default that of the images.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    seed: runtime.Seed = 0,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Take over cameras that others have; writes cameras.h5 and, where there are masks, masks.h5.

    The files are those that fit-cameras and segment write, so that train follows at once. Cameras are turned and
    scaled to our world: y up, z to the front, the object about in the unit sphere.
    """
    from nerfgen.cli.choices import parse_vector
    from nerfgen.interchange import Placing, bring

    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    middle = tuple(parse_vector("--center", center)) if center else None
    placing = Placing(up, front, scale, (middle[0], middle[1], middle[2]) if middle else None)
    with reporter.progress("import") as progress:
        summary = bring(
            source,
            output,
            format_name=format_name.value,
            class_name=object_class,
            instances=instances.value,
            views=_count(views),
            placing=placing,
            ignore_distortion=ignore_distortion,
            mask_size=mask_size,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    if summary["kept"]:
        for path in summary["outputs"].values():
            reporter.kept(Path(path))
    reporter.say(_world(summary))
    images, usable = summary["images"], summary["usable"]
    masks = f", {summary['masks']} with a mask" if summary["masks"] else ""
    reporter.result(
        summary,
        f"{summary['format']}: {images} images, {usable} with a camera{masks}, of {summary['instances']} objects of "
        f"class {summary['class']} -> {', '.join(summary['outputs'].values())}"
        + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - usable, images)


def _count(views: str) -> int:
    """Images of an object; 0 for all."""
    from nerfgen.errors import InputError

    if views == "all":
        return 0
    if views == "one":
        return 1
    if not (views.isascii() and views.isdigit() and int(views)):
        raise InputError(f"--views {views}: give all, one or a number")
    return int(views)


def _world(summary: dict[str, Any]) -> str:
    """What became of the world, in a line."""
    center = summary["center"]
    middle = (
        "origin where the cameras of each object look"
        if center == "watched"
        else "origin kept"
        if not any(center)
        else f"origin at {center}"
    )
    distance = "" if summary["distance"] is None else f", cameras at {summary['distance']:.2f} (median)"
    return (
        f"world: {summary['up']} up, {summary['front']} to the front, lengths times {summary['scale']:.6g}, "
        f"{middle}{distance}"
    )
