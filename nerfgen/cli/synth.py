"""``nerfgen synth``: procedural heads and cars with their ground truth."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli.progress import Messages
from nerfgen.cli.runtime import Overwrite, Workers, examples
from nerfgen.synth import SynthSettings


class KindName(StrEnum):
    """The procedural classes."""

    heads = "heads"
    cars = "cars"


EPILOG = examples(
    "Examples",
    "nerfgen synth heads faces/                     100 portraits of 128 x 128 pixels",
    "nerfgen synth cars cars/ -n 1000 --size 64     a thousand small toy cars",
    "nerfgen synth cars cars/ --srn --views-per-instance 3",
    "nerfgen synth heads faces/ --seed 1 --overwrite --json",
)


def synth(
    kind: Annotated[KindName, typer.Argument(help="Class of the objects.", show_default=False)],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the images and truth.h5.", show_default=False)
    ],
    *,
    settings: SynthSettings,
    workers: Workers = None,
    overwrite: Overwrite = False,
    messages: Messages,
) -> None:
    """Render images of procedural heads or cars, with true cameras, masks, depth and keypoints.

    OUT receives one PNG per object and truth.h5, which also holds held-out views of the first objects to evaluate novel
    views with. The same seed gives the same files. With --srn, camera files are written, too, in the world of
    ShapeNet's objects: y up, the front to -z.
    """
    from nerfgen.synth import synthesize

    reporter = messages.reporter()
    start = time.monotonic()
    with reporter.progress(f"Rendering {kind.value}") as progress:
        truth = synthesize(
            kind.value,
            out,
            settings,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            warn=reporter.say,
        )
    seconds = round(time.monotonic() - start, 2)
    count = settings.num_images * settings.views_per_instance
    content = f"{settings.num_images} {kind.value}"
    if settings.views_per_instance > 1:
        content = f"{count} images of {content}"
    reporter.result(
        {"images": count, "path": str(truth), "seconds": seconds},
        f"{content} of {settings.size} x {settings.size} pixels in {out}, truth in {truth} ({seconds:.1f} s)",
    )
