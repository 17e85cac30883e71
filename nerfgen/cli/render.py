"""``nerfgen render``: views of training objects, of objects of other files, and of new images."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from nerfgen.cli import options, runtime
from nerfgen.cli.model_source import ServerChoice
from nerfgen.cli.objects import Selection
from nerfgen.cli.progress import Messages, other_statuses
from nerfgen.inversion import FitSettings
from nerfgen.render import RenderSettings, ViewCameras, ViewFiles
from nerfgen.storage import Record, Shard

EPILOG = runtime.examples(
    "Examples",
    "nerfgen render photos/model.h5 --rows 0,5-9 --sheet turned.png",
    "nerfgen render photos/model.h5 --rows 3 --orbit 48 --size 512 --video turn.mp4",
    "nerfgen render photos/model.h5 --rows 3 --yaw -40:40:9 --pitch -15,0,15 --png views --kinds rgba,depth,normals",
    "nerfgen render photos/model.h5 --image me.jpg --tune --yaw -40,-20,0,20,40 --sheet me.png",
    "nerfgen render photos/model.h5 --image album --yaw 0 -o album.h5 --json",
    "nerfgen render photos/model.h5 --codes photos/fitted.h5:0 --path flight.json --video me.mp4 -o flight.h5",
    "nerfgen render faces --server http://renderer.example:8080 --image me.jpg --orbit 48 --video me.mp4",
)

_DEFAULT_ROWS = 8
# Images reported one by one where a person reads; all are in the file and in the JSON.
_LISTED = 20


def render(
    model: runtime.ModelFile,
    *,
    objects: Selection,
    fitting: FitSettings,
    cameras: ViewCameras,
    rendering: RenderSettings,
    output: runtime.OutputFile,
    files: ViewFiles,
    server: ServerChoice,
    cluster: runtime.Cluster,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Render views of a model's objects; writes views.h5 (fitted.h5 with --image) beside the model.

    Without a choice of objects, the first eight rows of the table are rendered. Each object is shown from the
    camera of its own image, then from every chosen camera. New images first pass through landmarks, cameras, masks and
    latent fitting, all together. The output holds the latent code of each; --codes and other commands use it. With
    --server, a server fits and renders; the output is the same, in the current folder.
    """
    from dataclasses import replace

    import numpy as np

    from nerfgen import storage
    from nerfgen.errors import InputError
    from nerfgen.inversion import images_of_shard
    from nerfgen.model import file_reference, parse_numbers

    objects.check_fitting()
    if server.server is None:
        options.refuse("has an effect with --server only", "token")
    else:
        options.refuse("and --server exclude each other", "shard", "scheduler")
    if not objects.image:
        options.refuse("is for new images only; give some with --image", "shard")
    with contextlib.closing(server.source(model)) as source:
        views_file = output.output or cluster.shard.path(
            source.folder / ("fitted.h5" if objects.image else "views.h5")
        )
        reporter = messages.reporter()
        chosen = cameras.of(source.object_class, source.distance)
        files.check(chosen.path)
        references = [file_reference(reference) for reference in objects.codes]
        if os.path.realpath(views_file) in [os.path.realpath(file) for file, _ in references]:
            raise InputError(f"`codes` reads {views_file}; choose another `output`")
        words = objects.rows or (f"0-{min(_DEFAULT_ROWS, source.rows) - 1}" if objects.is_empty else "")
        rows = parse_numbers(words, source.rows, f"`rows` {words}", "rows") if words else []
        read = dict.fromkeys(file for file, _ in references)
        inputs = [source.record, *chosen.inputs, *rendering.inputs]
        inputs += [storage.file_record(file) for file in read]
        parameters = {
            "rows": rows,
            "codes": [f"{file.name}:{which}" for file, which in references],
            **objects.parameters,
            **chosen.parameters,
            **rendering.parameters(source),
        }
        digests: list[Any] = []
        if objects.image:
            names, digests = _digests(objects.image, cluster.shard)
            parameters |= {**fitting.parameters, **cluster.shard.parameters(names)}
            own = images_of_shard(cluster.shard, len(names))
            inputs.append(storage.folder_record(names[own.start : own.stop], digests))
            inputs += [storage.file_record(file) for file in (fitting.landmarker,) if file]
        stage = storage.Stage(
            views_file, "views/1", source.object_class, parameters=parameters, inputs=inputs
        )
        if stage.is_current(overwrite=output.overwrite):
            reporter.kept(views_file)
        else:
            loaded = source.load(objects, rows, fitting, reporter, cluster)
            if digests:
                content = np.array([sha256 for _, sha256 in digests], dtype=object)
                loaded = replace(loaded, extra={**loaded.extra, "image_sha256": content})
            with reporter.progress("rendering", "objects") as progress:
                source.render(
                    loaded, stage, chosen.path.cameras, rendering, progress, cluster, fitting.workers
                )
        files.write(views_file, source.model, source.folder, chosen.path, reporter.say)
    summary, unusable = _summary(views_file, with_images=bool(objects.image))
    reporter.result(summary, "\n".join(_lines(summary)))
    runtime.check_strict(strict, unusable, summary["objects"])


def _digests(images: tuple[str, ...], shard: Shard) -> tuple[list[str], list[Any]]:
    """Names of all new images, and sizes and digests of those of a shard."""
    from nerfgen.inversion import images_of_shard, name_images

    inputs, names = name_images(images)
    return names, [inputs[place].digest for place in images_of_shard(shard, len(inputs))]


def _summary(views_file: Path, *, with_images: bool) -> tuple[Record, int]:
    """What a views file holds, and the number of unusable objects."""
    from nerfgen import storage

    with storage.reading(views_file, "views/1") as file:
        status = storage.strings(file["status"])
        objects, views = file["rgb"].shape[:2]
        fitted = _fitted_images(file) if with_images else []
    counts = {value: status.count(value) for value in dict.fromkeys(status)}
    summary = {
        "objects": objects,
        "views": views,
        "statuses": counts,
        "photographs": fitted,
        "output": str(views_file),
    }
    return summary, sum(value not in storage.USABLE for value in status)


def _fitted_images(file: Any) -> list[Record]:
    """The result of each new image of a views file."""
    from nerfgen import storage

    return [
        {"name": name, "status": status, "psnr_db": psnr if psnr == psnr else None, "iterations": steps}
        for name, status, psnr, steps in zip(
            storage.strings(file["name"]),
            storage.strings(file["status"]),
            file["fit_psnr"][:].tolist(),
            file["fit_iterations"][:].tolist(),
            strict=True,
        )
    ]


def _lines(summary: Record) -> list[str]:
    """The summary for a person."""
    counts, fitted = summary["statuses"], summary["photographs"]
    lines = [
        f"{summary['objects']} objects, {summary['views']} views each -> {summary['output']}"
        + other_statuses(counts)
    ]
    for each in fitted[:_LISTED]:
        result = "" if each["psnr_db"] is None else f", {each['psnr_db']:.1f} dB, {each['iterations']} steps"
        lines.append(f"  {each['name']}: {each['status']}{result}")
    if len(fitted) > _LISTED:
        lines.append(
            f"  and {len(fitted) - _LISTED} more; datasets name, status, fit_psnr and fit_iterations list all"
        )
    return lines
