"""``nerfgen train-landmarker``: a landmark estimator from annotated photographs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime

EPILOG = runtime.examples(
    "Examples",
    "nerfgen train-landmarker cats cats/landmarks.csv -o cat.h5 --split-by 9 --picture held-out.png",
    "nerfgen train-landmarker CAT CAT --class cat -o cat.h5 --minutes 10",
    "nerfgen train-landmarker cats cats.csv dogs dogs.json --class cat --class dog -o pets.h5",
    "nerfgen train-landmarker mugs mugs.csv --class ./mug.toml --negatives kitchens -o mug.h5",
    "nerfgen landmark photos --class cat --model cat.h5",
)

_RUN = "Run"
_DEFAULT_CLASS = "cat"


def train_landmarker(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES ANNOTATIONS ...",
            help="Folder of images and what annotates them: a .csv file (image,x0,y0,... or image,NAME_x,NAME_y,...), "
            "a COCO .json file, or a folder of the CAT dataset's .cat files. Several such pairs may follow.",
            show_default=False,
        ),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class; may be repeated, for one estimator that tells several classes apart. By default "
            "those that the annotations name, or else cat.",
            show_default=False,
        ),
    ] = None,
    negatives: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Images that show no object of the classes, to be told from them: people, for pets.",
            show_default=False,
        ),
    ] = None,
    split_by: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images whose file names begin with the same so many characters are held out together; 0: each for "
            "itself.",
        ),
    ] = 0,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the images that judges, and is not trained on.")
    ] = 0.2,
    seed: runtime.Seed = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps; by default 3,000, or no limit with --minutes.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Objects of a step.", rich_help_panel=_RUN)] = 24,
    minutes: Annotated[
        float,
        typer.Option(min=0.0, help="Stop after so many minutes; rates decay to fit.", rich_help_panel=_RUN),
    ] = 0.0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint, if there is one.", rich_help_panel=_RUN),
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.0, help="Time between checkpoints.", rich_help_panel=_RUN)
    ] = 2.0,
    output: runtime.Output = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Also draw held-out images: annotated points green, estimated ones red.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Train a landmark estimator from annotated photographs; writes IMAGES/landmarker.h5.

    `nerfgen landmark --model` uses it. Errors are those of held-out images, in percent of the class's unit, such as
    the distance of the eyes. Ctrl-C writes a checkpoint first.
    """
    from nerfgen.errors import InputError
    from nerfgen.landmarker import STEPS, Source, classes_of, judged_picture
    from nerfgen.landmarker import train_landmarker as train
    from nerfgen.objectclass import object_class
    from nerfgen.picture import check_picture_name

    if len(sources) % 2:
        raise InputError(f"{sources[-1]} is without its partner; give IMAGES and ANNOTATIONS in pairs")
    pairs = [
        Source(images, annotations) for images, annotations in zip(sources[::2], sources[1::2], strict=True)
    ]
    for pair in pairs:
        runtime.existing_folder(pair.images)
    if picture:
        check_picture_name(picture)
    output = output or pairs[0].images / "landmarker.h5"
    named = classes or [name for name in classes_of(pairs) if name] or [_DEFAULT_CLASS]
    described = [object_class(name) for name in named]
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with (
        _remedy(output, reporter),
        reporter.progress("reading") as load_progress,
        reporter.progress("training", "steps") as progress,
        reporter.progress("judging") as judge_progress,
    ):
        summary, judged = train(
            pairs,
            output,
            described,
            negatives=negatives,
            split_by=split_by,
            held_out_share=held_out,
            steps=steps or (0 if minutes else STEPS),
            batch=batch,
            minutes=minutes,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
            checkpoint_minutes=checkpoint_minutes,
            load_progress=load_progress,
            progress=progress,
            judge_progress=judge_progress,
            tell=reporter.say,
        )
    if judged is None:
        reporter.kept(output)
        reporter.result(summary, f"-> {output}")
        return
    if picture and len(judged.names):
        judged_picture(judged, picture)
        reporter.say(f"wrote {picture}")
    reporter.result(
        summary,
        f"{summary['images']} images, {summary['steps']} steps in {summary['seconds']:.0f} s -> {output}"
        + _errors(summary, described[0]),
    )


def _errors(summary: dict[str, Any], described: Any) -> str:
    """The errors in held-out images, as the end of a text."""
    if not summary["held_out"]:
        return ""
    unit = f"the distance of {' and '.join(described.unit)}" if described.unit else "the landmarks' spread"
    lines = [
        f"\n{summary['held_out']} held out: {summary['found_percent']:.1f}% found; mean error in percent of {unit}:"
    ]
    names = ["all", *described.groups, *described.landmark_names]
    keys = ["error_percent", *(f"{name}_error_percent" for name in names[1:])]
    lines += [f"  {name} {summary[key]:.2f}" for name, key in dict(zip(names, keys, strict=True)).items()]
    return "\n".join(lines)


@contextmanager
def _remedy(output: Path, reporter: runtime.Reporter) -> Iterator[None]:
    """Say how to go on when the training is interrupted."""
    from nerfgen.landmarker.checkpoint import checkpoint_path

    try:
        yield
    except (KeyboardInterrupt, runtime.Terminated):
        path = checkpoint_path(output)
        if path.exists():
            reporter.say(f"{path} holds the training so far; the same command with --resume goes on from it")
        raise
