"""The ``nerfgen`` program: collects the commands. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import nerfgen
from nerfgen.cli import (
    bench,
    classes,
    demo,
    directions,
    evaluate,
    export,
    export_cameras,
    fit_cameras,
    frame,
    import_data,
    info,
    join,
    landmark,
    models,
    options,
    personalise,
    render,
    runtime,
    sample,
    segment,
    serve,
    synth,
    train,
    train_landmarker,
    verify,
    view,
)
from nerfgen.compilation_cache import VARIABLE, use_compilation_cache
from nerfgen.untrusted import FOLLOW_LINKS, READ_LIMIT, read_limit

app = typer.Typer(
    name="nerfgen",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PIPELINE = "The pipeline, in order"
AROUND = "Around the pipeline"

for panel, module, function in (
    (PIPELINE, train_landmarker, train_landmarker.train_landmarker),
    (PIPELINE, landmark, landmark.landmark),
    (PIPELINE, fit_cameras, fit_cameras.fit_cameras),
    (PIPELINE, segment, segment.segment),
    (PIPELINE, frame, frame.frame),
    (PIPELINE, train, train.train),
    (PIPELINE, render, render.render),
    (PIPELINE, sample, sample.sample),
    (AROUND, directions, directions.directions),
    (AROUND, personalise, personalise.personalise),
    (AROUND, view, view.view),
    (AROUND, serve, serve.serve),
    (AROUND, evaluate, evaluate.evaluate),
    (AROUND, export, export.export),
    (AROUND, export_cameras, export_cameras.export_cameras),
    (AROUND, demo, demo.demo),
    (AROUND, synth, synth.synth),
    (AROUND, classes, classes.classes),
    (AROUND, join, join.join),
    (AROUND, info, info.info),
    (AROUND, verify, verify.verify),
    (AROUND, models, models.models),
):
    app.command(rich_help_panel=panel, epilog=module.EPILOG, cls=options.Command)(options.command(function))
# Its name is a word of Python.
app.command("import", rich_help_panel=AROUND, epilog=import_data.EPILOG, cls=options.Command)(
    options.command(import_data.import_data)
)
app.add_typer(bench.app, name="bench", rich_help_panel=AROUND)


@app.callback(
    invoke_without_command=True,
    epilog=runtime.examples(
        "A folder of face photographs, from start to finish",
        "nerfgen landmark photos",
        "nerfgen fit-cameras photos",
        "nerfgen segment photos",
        "nerfgen train photos",
        "nerfgen render photos/model.h5 --sheet turned.png",
        "nerfgen sample photos/model.h5 --sheet people.png",
        "nerfgen demo   (the same on synthetic heads)",
    ),
)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    compilation_cache: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|off",
            envvar=VARIABLE,
            help="Folder for compiled programs, which later commands load instead of compiling again; by default one "
            "in the user's cache folder.",
            show_default=False,
        ),
    ] = None,
    read_limit_gib: Annotated[
        float | None,
        typer.Option(
            "--read-limit",
            metavar="GIB",
            envvar=READ_LIMIT,
            help="Most memory that one file, or one array of a file, may take when it is read; 1 GiB by default.",
            show_default=False,
        ),
    ] = None,
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links",
            envvar=FOLLOW_LINKS,
            help="Read images through links that lead out of the folder of images.",
        ),
    ] = False,
) -> None:
    """From one photograph per object to a generative 3D model of the class."""
    if version:
        print(nerfgen.__version__)
        raise typer.Exit
    # Worker processes inherit the environment.
    if read_limit_gib is not None:
        os.environ[READ_LIMIT] = f"{read_limit_gib:g}"
        read_limit()
    if follow_links:
        os.environ[FOLLOW_LINKS] = "1"
    use_compilation_cache(compilation_cache)


def main() -> None:
    """Run the command line. The console script starts in :mod:`nerfgen.__main__`."""
    runtime.run(app)
