"""``nerfgen frame``: the framed images, before the training that reads them."""

from __future__ import annotations

from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, other_statuses
from nerfgen.cli.train import TrainingInputs
from nerfgen.settings import MAX_SIZE

EPILOG = runtime.examples(
    "Examples",
    "nerfgen frame photos",
    "nerfgen frame photos --size 64 --no-masks",
    "nerfgen frame photos --shard 3/8",
)


def frame(
    data: runtime.DataFolder,
    *,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_SIZE,
            metavar="PIXELS",
            help="Width and height of a framed image, as `nerfgen train` is given it; that of preset fast by default.",
            show_default=False,
        ),
    ] = None,
    inputs: TrainingInputs,
    cluster: runtime.Cluster,
    workers: runtime.ClusterWorkers = None,
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Frame every image for training; writes DATA/pixels-KEY.h5.

    `nerfgen train` does this itself where the file is missing. On its own, the step can be divided among machines, and
    needs no accelerator. KEY identifies images, cameras, masks and size: training with the same ones finds the file.
    """
    from pathlib import Path

    from nerfgen.data import frame_folder
    from nerfgen.image import local_folder
    from nerfgen.model import PRESETS

    folder = runtime.image_folder(data)
    cameras, masks = inputs.files(local_folder(folder))
    reporter = messages.reporter()
    with reporter.progress("framing") as progress:
        summary = frame_folder(
            folder,
            size or PRESETS["fast"].size,
            output.output,
            cameras=cameras,
            masks=masks,
            shard=cluster.shard,
            workers=workers,
            scheduler=cluster.scheduler,
            overwrite=output.overwrite,
            progress=progress,
            say=reporter.say,
        )
    file = Path(summary["output"])
    if summary["kept"]:
        reporter.kept(file)
    images, framed = summary["images"], summary["framed"]
    reporter.result(
        summary, f"{images} images, {framed} framed -> {file}" + other_statuses(summary["statuses"])
    )
    runtime.check_strict(strict, images - framed, images)
