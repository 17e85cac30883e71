"""``nerfgen train-landmarker``: a landmark estimator from annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, Reporter
from nerfgen.landmark import EstimatorTraining
from nerfgen.settings import MAX_MINUTES
from nerfgen.stopping import Terminated

EPILOG = runtime.examples(
    "Examples",
    "nerfgen train-landmarker cats cats/landmarks.csv -o cat.h5 --split-by 9 --picture held-out.png",
    "nerfgen train-landmarker CAT CAT --class cat -o cat.h5 --minutes 10",
    "nerfgen train-landmarker cats cats.csv dogs dogs.json --class cat --class dog -o pets.h5",
    "nerfgen train-landmarker cats cats.csv people people/landmarks.h5 --class cat --class face -o both.h5",
    "nerfgen train-landmarker mugs mugs.csv --class ./mug.toml --negatives kitchens -o mug.h5",
    "nerfgen landmark photos --class cat --model cat.h5",
)

_DEFAULT_CLASS = "cat"


def train_landmarker(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES ANNOTATIONS ...",
            help="Folder of images and their annotations: a .csv file (image,x0,y0,... or image,NAME_x,NAME_y,...), "
            "a COCO .json file, a folder of the CAT dataset's .cat files, or what `nerfgen landmark` wrote. Several "
            "such pairs may follow.",
            show_default=False,
        ),
    ],
    *,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class; repeat it for one estimator that distinguishes several classes. By default those that "
            "the annotations name, or else cat.",
            show_default=False,
        ),
    ] = None,
    settings: EstimatorTraining,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint, if there is one.")
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.0, max=MAX_MINUTES, help="Time between checkpoints.")
    ] = 2.0,
    output: runtime.OutputFile,
    picture: Annotated[
        Path | None,
        runtime.file_option(
            "Also draw held-out images: annotated landmarks green, estimated ones red.", "FILE.png", "Output"
        ),
    ] = None,
    messages: Messages,
) -> None:
    """Train a landmark estimator from annotated images; writes IMAGES/landmarker.h5.

    `nerfgen landmark --model` uses it. Errors are measured on held-out images, in percent of the class's unit, such as
    the distance between the eyes. Ctrl-C writes a checkpoint first.
    """
    from nerfgen.errors import InputError
    from nerfgen.image import check_image_name
    from nerfgen.landmark import AnnotatedFolder, annotated_classes, held_out_figure, train_estimator
    from nerfgen.objectclass import object_class

    if len(sources) % 2:
        raise InputError(f"{sources[-1]} has no partner; give IMAGES and ANNOTATIONS in pairs")
    folders = [AnnotatedFolder(*pair) for pair in zip(sources[::2], sources[1::2], strict=True)]
    for folder in folders:
        runtime.existing_folder(folder.images)
    if picture:
        check_image_name(picture)
    file = output.output or folders[0].images / "landmarker.h5"
    names = classes or [name for name in annotated_classes(folders) if name] or [_DEFAULT_CLASS]
    described = [object_class(name) for name in names]
    reporter = messages.reporter()
    with (
        _remedy(file, reporter),
        reporter.progress("reading") as load_progress,
        reporter.progress("training", "steps") as progress,
        reporter.progress("measuring errors") as measure_progress,
    ):
        summary, errors = train_estimator(
            folders,
            file,
            described,
            settings,
            resume=resume,
            overwrite=output.overwrite,
            checkpoint_minutes=checkpoint_minutes,
            load_progress=load_progress,
            progress=progress,
            measure_progress=measure_progress,
            warn=reporter.say,
        )
    if errors is None:
        reporter.kept(file)
        reporter.result(summary, f"-> {file}")
        return
    if picture and len(errors.names):
        held_out_figure(errors, picture)
        reporter.say(f"wrote {picture}")
    reporter.result(
        summary,
        f"{summary['images']} images, {summary['steps']} steps in {summary['seconds']:.0f} s -> {file}"
        + _errors(summary, described),
    )


def _errors(summary: dict[str, Any], classes: Sequence[Any]) -> str:
    """The errors in held-out images, as the end of a text."""
    if not summary["held_out"]:
        return ""
    whole = f"\n{summary['held_out']} held out: {summary['found_percent']:.1f}% found"
    if len(classes) == 1:
        return f"{whole}; {_figures(summary, classes[0])}"
    lines = [f"{whole}, {summary['class_percent']:.1f}% of them with the right class"]
    lines += [
        f"{described.name}: {summary['classes'][described.name]['found_percent']:.1f}% found; "
        + _figures(summary["classes"][described.name], described)
        for described in classes
        if described.name in summary["classes"]
    ]
    return "\n".join(lines)


def _figures(figures: dict[str, Any], described: Any) -> str:
    """The errors of one class."""
    unit = f"the distance of {' and '.join(described.unit)}" if described.unit else "the landmarks' spread"
    names = ["all", *described.groups, *described.landmark_names]
    keys = ["error_percent", *(f"{name}_error_percent" for name in names[1:])]
    lines = [f"  {name} {figures[key]:.2f}" for name, key in dict(zip(names, keys, strict=True)).items()]
    return "\n".join([f"mean error in percent of {unit}:", *lines])


@contextmanager
def _remedy(output: Path, reporter: Reporter) -> Iterator[None]:
    """Say how to continue when the training is interrupted."""
    from nerfgen.optimize import CheckpointSeries

    try:
        yield
    except (KeyboardInterrupt, Terminated):
        newest = CheckpointSeries(output).newest()
        if newest:
            reporter.say(f"{newest} holds the training so far; the same command with --resume continues it")
        raise
