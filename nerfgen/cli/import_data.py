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
    "nerfgen import list_landmarks_align_celeba.txt --images img_align_celeba",
    "nerfgen import scene --class car --up +z --front +x --scale 0.5",
)

_WORLD = "World of the cameras"


class FormatName(enum.StrEnum):
    """What is read."""

    auto = "auto"
    srn = "srn"
    eg3d = "eg3d"
    transforms = "transforms"
    celeba = "celeba"
    ffhq = "ffhq"
    coco = "coco"
    cat = "cat"
    csv = "csv"


class Instances(enum.StrEnum):
    """Which images show one object."""

    auto = "auto"
    image = "image"
    folder = "folder"


def import_data(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder; or a transforms.json, dataset.json, zip or file of annotations.",
            show_default=False,
        ),
    ],
    format_name: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="[bold]auto[/bold]: told from what is there. [bold]srn[/bold]: rgb/, pose/ and intrinsics.txt of "
            "each object. [bold]eg3d[/bold]: dataset.json. [bold]transforms[/bold]: transforms.json, one a scene. "
            "[bold]celeba, ffhq, coco, cat, csv[/bold]: annotated landmarks.",
        ),
    ] = FormatName.auto,
    object_class: Annotated[
        str,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class, or the file that describes it. By default car for srn, "
            "face for eg3d, celeba and ffhq, cat for cat.",
            show_default=False,
        ),
    ] = "",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the images that annotations are of; by default that of SOURCE.",
            show_default=False,
        ),
    ] = None,
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
    """Take over what others have: cameras, masks, or annotated landmarks.

    Cameras become cameras.h5 and masks that come with them masks.h5, so that train follows at once; annotations become
    landmarks.h5, and fit-cameras follows. Cameras are turned and scaled to our world: y up, z to the front, the object
    about in the unit sphere.
    """
    from nerfgen.annotation import format_of
    from nerfgen.errors import InputError
    from nerfgen.interchange import FORMATS, Placing, bring, bring_landmarks, told

    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    if not source.exists():
        raise InputError(
            f"{source} does not exist; give a folder or a file that `nerfgen import --help` names"
        )
    found = told(source) or format_of(source) if format_name is FormatName.auto else format_name.value
    if not found:
        raise InputError(f"{source} is in no format that is known here; `nerfgen import --help` names them")
    with reporter.progress("import") as progress:
        if found in FORMATS:
            placing = Placing(up, front, scale, _point(center))
            summary = bring(
                source,
                output,
                format_name=found,
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
        else:
            summary = bring_landmarks(
                source,
                images,
                output,
                format_name=found,
                class_name=object_class,
                overwrite=overwrite,
                progress=progress,
            )
    if summary["kept"]:
        for path in summary["outputs"].values():
            reporter.kept(Path(path))
    for line in [_world(summary)] if found in FORMATS else summary["notes"]:
        reporter.say(line)
    total, usable = summary["images"], summary["usable"]
    reporter.result(summary, _line(summary))
    runtime.check_strict(strict, total - usable, total)


def _line(summary: dict[str, Any]) -> str:
    """What was read and written."""
    images, usable = summary["images"], summary["usable"]
    if "instances" in summary:
        masks = f", {summary['masks']} with a mask" if summary["masks"] else ""
        told = f"{usable} with a camera{masks}, of {summary['instances']} objects of class {summary['class']}"
    else:
        told = f"{usable} with landmarks of class {summary['class']}"
    return (
        f"{summary['format']}: {images} images, {told} -> {', '.join(summary['outputs'].values())}"
        + other_statuses(summary["statuses"])
    )


def _point(text: str) -> tuple[float, float, float] | None:
    from nerfgen.cli.choices import parse_vector

    if not text:
        return None
    x, y, z = parse_vector("--center", text)
    return x, y, z


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
