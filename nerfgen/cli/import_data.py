"""``nerfgen import``: cameras, masks and landmarks that others already have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, other_statuses
from nerfgen.interchange import CAMERA_FORMATS, ImportSettings, WorldAlignment
from nerfgen.landmark import ANNOTATION_FORMATS
from nerfgen.settings import Settings, setting, settings_of
from nerfgen.storage import Record

EPILOG = runtime.examples(
    "Examples",
    "nerfgen import cars_train                              SRN folders, all views",
    "nerfgen import cars_train --views one",
    "nerfgen import ffhq.zip -o faces                       EG3D's dataset.json in a zip",
    "nerfgen import captures --class ./mug.toml             transforms.json, one a mug",
    "nerfgen import list_landmarks_align_celeba.txt --images img_align_celeba",
    "nerfgen import scene --class car --up +z --front +x --scale 0.5",
)


@dataclass(frozen=True)
class ImportFiles(Settings):
    """What is read."""

    format_name: str = setting(
        "auto",
        choices=("auto", *CAMERA_FORMATS, *ANNOTATION_FORMATS),
        option="--format",
        help="[bold]auto[/bold]: detected. [bold]srn[/bold]: rgb/, pose/ and intrinsics.txt of each object. "
        "[bold]eg3d[/bold]: dataset.json. [bold]transforms[/bold]: transforms.json, one per scene. [bold]celeba, ffhq, "
        "coco, cat, csv[/bold]: annotated landmarks.",
    )
    object_class: str | None = setting(
        None,
        option="--class",
        metavar="NAME|FILE",
        help="Object class, or the file that describes it. By default car for srn, face for eg3d, celeba and ffhq, cat "
        "for cat.",
    )
    images: Path | None = setting(
        None,
        metavar="FOLDER",
        help="Folder of the images that annotations are of; by default that of SOURCE.",
    )


@dataclass(frozen=True)
class ImportFolder(runtime.OutputFile, title="Output"):
    """The folder that is written to."""

    output: Path | None = setting(
        None,
        option=("-o", "--output"),
        metavar="FOLDER",
        help="Folder of the files, and of the images of a zip; by default that of the images.",
    )


def import_data(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder; or a transforms.json, dataset.json, zip or file of annotations.",
            show_default=False,
        ),
    ],
    *,
    files: ImportFiles,
    settings: ImportSettings,
    alignment: WorldAlignment,
    output: ImportFolder,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Import cameras, masks or annotated landmarks.

    Cameras become cameras.h5, and masks that come with them masks.h5: `nerfgen train` is next. Annotations become
    landmarks.h5: `nerfgen fit-cameras` is next. Cameras are rotated and scaled to our world: y up, z to the front, the
    object about in the unit sphere.
    """
    from nerfgen.errors import InputError
    from nerfgen.interchange import FORMATS, detect_format, import_cameras, import_landmarks
    from nerfgen.landmark import annotation_format

    reporter = messages.reporter()
    if not source.exists():
        raise InputError(
            f"{source} does not exist; give a folder or a file that `nerfgen import --help` names"
        )
    name: str | None = files.format_name
    if name == "auto":
        name = detect_format(source) or annotation_format(source)
    if not name:
        raise InputError(f"{source} is in no known format; `nerfgen import --help` lists them")
    with_cameras = name in FORMATS
    if with_cameras:
        options.refuse("is for annotated landmarks only", "images")
    else:
        options.refuse(
            "is for cameras only, not for annotated landmarks",
            *settings_of(ImportSettings),
            *settings_of(WorldAlignment),
        )
    with reporter.progress("import") as progress:
        if with_cameras:
            summary = import_cameras(
                source,
                output.output,
                format_name=name,
                object_class=files.object_class or "",
                settings=settings,
                alignment=alignment,
                overwrite=output.overwrite,
                progress=progress,
            )
        else:
            summary = import_landmarks(
                source,
                files.images,
                output.output,
                format_name=name,
                object_class=files.object_class or "",
                overwrite=output.overwrite,
                progress=progress,
            )
    if summary["kept"]:
        for path in summary["outputs"].values():
            reporter.kept(Path(path))
    for line in [*([_world(summary)] if with_cameras else []), *summary["notes"]]:
        reporter.say(options.as_options(line))
    total, usable = summary["images"], summary["usable"]
    reporter.result(summary, _line(summary))
    runtime.check_strict(strict, total - usable, total)


def _line(summary: Record) -> str:
    """The result, for a person."""
    images, usable = summary["images"], summary["usable"]
    if "instances" in summary:
        masks = f", {summary['masks']} with a mask" if summary["masks"] else ""
        counted = (
            f"{usable} with a camera{masks}, of {summary['instances']} objects of class {summary['class']}"
        )
    else:
        counted = f"{usable} with landmarks of class {summary['class']}"
    return (
        f"{summary['format']}: {images} images, {counted} -> {', '.join(summary['outputs'].values())}"
        + other_statuses(summary["statuses"])
    )


def _world(summary: Record) -> str:
    """How the world was aligned, in one line."""
    center = summary["center"]
    middle = (
        "origin where the cameras of each object look"
        if center == "watched"
        else "origin kept"
        if not any(center)
        else f"origin at {center}"
    )
    distance = f", cameras at {summary['distance']:.2f} (median)"
    scale = "a scale for each scene" if summary["scale"] == "own" else f"lengths times {summary['scale']:.6g}"
    return f"world: {summary['up']} up, {summary['front']} to the front, {scale}, {middle}{distance}"
