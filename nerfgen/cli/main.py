"""The ``nerfgen`` program: collects the commands. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

from typing import Annotated

import typer

import nerfgen
from nerfgen.cli import runtime
from nerfgen.cli.landmark import EPILOG as LANDMARK_EXAMPLES
from nerfgen.cli.landmark import landmark
from nerfgen.cli.segment import EPILOG as SEGMENT_EXAMPLES
from nerfgen.cli.segment import segment
from nerfgen.cli.synth import EPILOG as SYNTH_EXAMPLES
from nerfgen.cli.synth import synth

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

app.command(rich_help_panel=PIPELINE, epilog=LANDMARK_EXAMPLES)(landmark)
app.command(rich_help_panel=PIPELINE, epilog=SEGMENT_EXAMPLES)(segment)
app.command(rich_help_panel=AROUND, epilog=SYNTH_EXAMPLES)(synth)


@app.callback(epilog="")
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """From one photograph per object to a generative 3D model of the class."""
    if version:
        print(nerfgen.__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    runtime.run(app)
