"""``nerfgen synth``: procedural heads and cars with their ground truth."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli.runtime import Debug, Json, Overwrite, Quiet, Reporter, Seed, Workers, examples


class KindName(StrEnum):
    """The procedural classes."""

    heads = "heads"
    cars = "cars"


_SCENE = "Objects and pictures"
_HELDOUT = "Held-out views"

EPILOG = examples(
    "Examples",
    "nerfgen synth heads faces/                     100 portraits of 128 x 128 pixels",
    "nerfgen synth cars cars/ -n 1000 --size 64     a thousand small toy cars",
    "nerfgen synth heads faces/ --seed 1 --overwrite --json",
)


def synth(
    kind: Annotated[KindName, typer.Argument(help="What to make.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the pictures and truth.h5.", show_default=False)
    ],
    num_images: Annotated[
        int,
        typer.Option("-n", "--num-images", min=1, help="Objects, one picture each.", rich_help_panel=_SCENE),
    ] = 100,
    size: Annotated[
        int, typer.Option(min=16, help="Width and height of the pictures, pixels.", rich_help_panel=_SCENE)
    ] = 128,
    views: Annotated[
        int, typer.Option(min=0, help="Other views of each held-out object.", rich_help_panel=_HELDOUT)
    ] = 4,
    heldout_objects: Annotated[
        int, typer.Option(min=0, help="Objects that have held-out views.", rich_help_panel=_HELDOUT)
    ] = 32,
    seed: Seed = 0,
    workers: Workers = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make pictures of procedural heads or cars, with true cameras, masks, depth and keypoints.

    OUT receives one PNG per object, as a photographer would have left them, and truth.h5. The truth holds
    other views of the first objects too, to judge new views by. The same seed gives the same files.
    """
    from nerfgen.synth import write_dataset

    reporter = Reporter(quiet=quiet, as_json=as_json)
    start = time.monotonic()
    with reporter.progress(f"Rendering {kind.value}") as progress:
        truth = write_dataset(
            kind.value,
            out,
            num_images=num_images,
            size=size,
            views=views,
            heldout_objects=heldout_objects,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = round(time.monotonic() - start, 2)
    reporter.result(
        {"images": num_images, "path": str(truth), "seconds": seconds},
        f"{num_images} {kind.value} of {size} x {size} pixels in {out}, truth in {truth} ({seconds:.1f} s)",
    )
