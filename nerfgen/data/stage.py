"""The framing stage: the pixel cache of a folder, made before the training that reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nerfgen import storage
from nerfgen.data.framing import count_skipped, list_images
from nerfgen.data.pixel_cache import SCHEMA, VERSION, cache_name, cache_parameters, write_pixels
from nerfgen.image import ImageFolder, digest_images, local_folder
from nerfgen.parallel import Progress, silent


def frame_folder(
    data: ImageFolder,
    size: int,
    output: Path | None = None,
    *,
    cameras: Path,
    masks: Path | None,
    shard: storage.Shard = storage.Shard(),
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> storage.Record:
    """Frame the images of a folder into the ``pixels/1`` file that a training of the same inputs and size finds.

    Args:
        size: width and height of a raster, pixels.
        output: by default the file that training looks for in ``local_folder(data)``, or a shard of it.
        shard: the part of the images to work on; `nerfgen join` joins the outputs.
        workers, scheduler: take workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        overwrite: replace an existing output. Without it, one from the same inputs is kept.
        say: receives a warning if images are not those that the cameras or masks were made of.

    Returns:
        ``images``, ``framed`` (usable), ``statuses`` (of the others), ``kept`` (whether the output was there already)
        and ``output``.

    Raises:
        InputError: an input is missing or no image is usable; then nothing is written.
        OutputExistsError: the output exists and came from other inputs.
    """
    with storage.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        described, names = storage.class_of(file), storage.strings(file["image"])
    rows = shard.rows(len(names))
    own = names[rows.start : rows.stop]
    digests = dict(zip(own, digest_images(data, own), strict=True))
    inputs = [storage.file_record(path) for path in (cameras, masks) if path]
    inputs.append(storage.folder_record(own, digests.values()))
    parameters = {**cache_parameters(size, masks), **shard.parameters(names)}
    if output is None:
        name = cache_name(parameters, inputs) if shard.is_whole else shard.path(Path("pixels.h5")).name
        output = local_folder(data) / name
    stage = storage.Stage(output, SCHEMA, described, parameters, inputs, VERSION)
    kept = stage.is_current(overwrite=overwrite)
    if kept:
        with storage.reading(output, SCHEMA) as file:
            skipped = count_skipped(storage.strings(file["status"]))
    else:
        known = {image: sha256 for image, (_, sha256) in digests.items()}
        listing = list_images(data, cameras, masks, digests=known, say=say)
        skipped = write_pixels(
            stage,
            listing,
            rows,
            size,
            cameras,
            known,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    return {
        "images": len(own),
        "framed": len(own) - sum(skipped.values()),
        "statuses": skipped,
        "kept": kept,
        "output": str(output),
    }
