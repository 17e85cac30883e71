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
_LAYOUT = "Layout"

EPILOG = examples(
    "Examples",
    "nerfgen synth heads faces/                     100 portraits of 128 x 128 pixels",
    "nerfgen synth cars cars/ -n 1000 --size 64     a thousand small toy cars",
    "nerfgen synth cars cars/ --srn --views-per-instance 3",
    "nerfgen synth heads faces/ --seed 1 --overwrite --json",
)


def synth(
    kind: Annotated[KindName, typer.Argument(help="What to make.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the pictures and truth.h5.", show_default=False)
    ],
    num_images: Annotated[
        int,
        typer.Option(
            "-n",
            "--num-images",
            min=1,
            help="Objects.",
            rich_help_panel=_SCENE,
        ),
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
    srn: Annotated[
        bool,
        typer.Option(
            "--srn",
            help="Write the SRN layout, as `nerfgen import` reads it: a folder for each object, with rgb/, pose/ and "
            "intrinsics.txt.",
            rich_help_panel=_LAYOUT,
        ),
    ] = False,
    views_per_instance: Annotated[
        int,
        typer.Option(
            min=1, help="Pictures of each object; more than one needs --srn.", rich_help_panel=_LAYOUT
        ),
    ] = 1,
    seed: Seed = 0,
    workers: Workers = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make pictures of procedural heads or cars, with true cameras, masks, depth and keypoints.

    OUT receives one PNG per object, as a photographer would have left them, and truth.h5. The truth holds
    other views of the first objects too, to judge new views by. The same seed gives the same files. With --srn, the
    cameras stand beside the pictures as well, in the world that ShapeNet's objects have: y up, the front to -z.
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
            srn=srn,
            views_per_instance=views_per_instance,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = round(time.monotonic() - start, 2)
    told = f"{num_images} {kind.value}"
    if views_per_instance > 1:
        told = f"{num_images * views_per_instance} pictures of {told}"
    reporter.result(
        {"images": num_images * views_per_instance, "path": str(truth), "seconds": seconds},
        f"{told} of {size} x {size} pixels in {out}, truth in {truth} ({seconds:.1f} s)",
    )
