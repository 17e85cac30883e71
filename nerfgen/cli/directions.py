"""``nerfgen directions``: a direction with a name in the space of latent codes, learned from labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages

EPILOG = runtime.examples(
    "Examples",
    "nerfgen directions photos/model.h5 smile.csv",
    "nerfgen directions photos/model.h5 attributes.csv --column age --orthogonal-to smile",
    "nerfgen sample photos/model.h5 --direction smile --range -2:2 --video smile.mp4",
)


def directions(
    model: runtime.ModelFile,
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS.csv",
            help="Table with a column `image`, as the model names its rows, and labels: numbers, or two words. Not all "
            "rows need one; a handful is a beginning.",
        ),
    ],
    *,
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column of the labels; by default the only one.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the direction; by default the column, or the file where that is `value`.",
            show_default=False,
        ),
    ] = None,
    orthogonal_to: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Directions to take out of it, so that their labels stay on a walk along it.",
            show_default=False,
        ),
    ] = None,
    output: runtime.OutputFile,
    messages: Messages,
) -> None:
    """Learn along which direction of the latent codes a label changes; writes NAME.direction.h5 beside the model.

    `nerfgen sample --direction NAME` walks along it, from the mean or from one object.
    """
    from nerfgen import storage
    from nerfgen.errors import InputError
    from nerfgen.model import (
        FEW_LABELS,
        FEW_OF_A_WORD,
        find_direction,
        learn_direction,
        load_direction,
        load_model,
        model_file,
        read_labels,
        save_direction,
    )
    from nerfgen.settings import SettingError

    path = model_file(model)
    trained = load_model(path)
    reporter = messages.reporter()
    found = read_labels(labels, trained.images, column)
    chosen = name or (found.column if found.column != "value" else labels.stem)
    if not chosen or any(character in chosen for character in "/\\,:") or chosen.isdigit():
        raise SettingError(f"`name` {chosen}: give a word without / \\ , : that is no number")
    record = storage.file_record(path)
    files = [
        find_direction(other.strip(), path.parent) for other in (orthogonal_to or "").split(",") if other
    ]
    others = [load_direction(file, record["sha256"]) for file in files]
    if any(other.name == chosen for other in others):
        raise InputError(f"`orthogonal_to` names {chosen} itself; leave it out")
    stage = storage.Stage(
        output.output or path.with_name(f"{chosen}.direction.h5"),
        "direction/1",
        trained.object_class,
        parameters={
            "name": chosen,
            "column": found.column,
            "orthogonal_to": [other.name for other in others],
        },
        inputs=[record, storage.file_record(labels), *(storage.file_record(file) for file in files)],
    )
    if stage.is_current(overwrite=output.overwrite):
        reporter.kept(stage.output)
        learned = load_direction(stage.output, record["sha256"])
    else:
        learned = learn_direction(trained.principal, trained.latents, found, chosen)
        if others:
            learned = learned.without(others)
        save_direction(stage, learned)
    if found.unknown:
        reporter.say(
            f"{found.unknown} labels are of images that are no rows of the model; they were left out"
        )
    rarest = min((found.values == 0).sum(), (found.values == 1).sum()) if found.words else FEW_OF_A_WORD
    if len(found.values) < FEW_LABELS or rarest < FEW_OF_A_WORD:
        reporter.say(
            f"warning: {len(found.values)} labels are few; the direction may show something else that these images "
            "share"
        )
    measure = "area under the ROC curve" if learned.words else "R^2"
    ends = f" from {learned.words[0]} to {learned.words[1]}" if learned.words else ""
    reporter.result(
        {
            "name": learned.name,
            "labels": learned.num_labels,
            "unknown_images": found.unknown,
            "words": list(learned.words),
            "score": learned.score,
            "boundary": learned.boundary,
            "slope": learned.slope,
            "orthogonal_to": list(learned.orthogonal_to),
            "output": str(stage.output),
        },
        f"{learned.name}{ends}, {learned.num_labels} labels, cross-validated {measure} {learned.score:.3f} "
        f"-> {stage.output}",
    )
