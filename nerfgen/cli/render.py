"""``nerfgen render``: views of training objects and of new photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime, views
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen render photos/model.h5 --rows 0,5-9 --sheet turned.png",
    "nerfgen render photos/model.h5 --rows 3 --orbit 48 --size 128 --video turn.mp4",
    "nerfgen render photos/model.h5 --image me.jpg --yaw -40,-20,0,20,40 --sheet me.png",
)


def render(
    model: runtime.ModelFile,
    rows: Annotated[
        str,
        typer.Option(metavar="ROWS", help="Rows of the table, such as 0,5-9, or all.", show_default="0-7"),
    ] = "",
    image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            help="A new photograph, or a folder of them; may be repeated.",
            show_default=False,
        ),
    ] = None,
    fit_steps: Annotated[int, typer.Option(min=1, help="Steps of latent fitting for --image.")] = 150,
    seed: runtime.Seed = 0,
    workers: runtime.Workers = 0,
    yaw: views.Yaw = "-40,-20,0,20,40",
    pitch: views.Pitch = "0",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    size: views.Size = 0,
    samples: views.Samples = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Render views of a model's objects; writes views.h5 (fitted.h5 with --image) beside the model.

    Each object is shown as its own photograph shows it, then from every angle. With --image, the photograph
    goes through landmarks, camera, mask and latent fitting first.
    """
    from nerfgen import artifact
    from nerfgen.errors import InputError
    from nerfgen.field import load_model
    from nerfgen.generate import photograph_objects, render_to_file, table_objects, turned_cameras
    from nerfgen.generate.photograph import photograph_files
    from nerfgen.generate.sheet import framed_photograph

    if rows and image:
        raise InputError("--rows and --image exclude each other; render them in two calls")
    path = model / "model.h5" if model.is_dir() else model
    trained = load_model(path)
    output = output or path.with_name("fitted.h5" if image else "views.h5")
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    size, distance = size or trained.size, distance or trained.distance
    angles = views.angles_of(trained, yaw, pitch, orbit)
    photographs = photograph_files(image or [])
    chosen = (
        [] if image else views.parse_rows(rows or f"0-{min(7, len(trained.images) - 1)}", len(trained.images))
    )
    parameters = {
        "rows": chosen,
        "angles": angles.tolist(),
        "distance": distance,
        "size": size,
        "samples": samples,
        "fit_steps": fit_steps if image else 0,
        "seed": seed if image else 0,
    }
    inputs = [artifact.file_record(path), *(artifact.file_record(file) for file in photographs)]
    about: artifact.About = {"object_class": trained.object_class, "parameters": parameters, "inputs": inputs}
    kept = artifact.is_current(output, "views/1", **about, overwrite=overwrite)
    shown: list[Any] = []
    if kept:
        reporter.kept(output)
    else:
        if image:
            with reporter.progress("fitting", "steps") as progress:
                objects, shown = photograph_objects(
                    trained,
                    photographs,
                    steps=fit_steps,
                    seed=seed,
                    workers=workers,
                    progress=progress,
                    warn=reporter.say,
                )
        else:
            objects = table_objects(trained, chosen)
        with reporter.progress("rendering", "objects") as progress:
            render_to_file(
                trained,
                objects,
                output,
                cameras=turned_cameras(angles[:, 0], angles[:, 1], distance),
                size=size,
                samples=samples,
                about=about,
                progress=progress,
            )
    if not image:
        absent = [trained.images[row] for row in chosen if not (path.parent / trained.images[row]).is_file()]
        if absent and sheet:
            reporter.say(f"{len(absent)} photographs are not beside the model ({absent[0]}): grey in {sheet}")
        shown = [framed_photograph(trained, row, path.parent, size) for row in chosen]
    views.write_pictures(output, reporter, png=png, sheet=sheet, video=video, photographs=shown)
    with artifact.reading(output, "views/1") as file:
        status = artifact.strings(file["status"])
        psnr = [float(value) for value in file["fit_psnr"][:]] if "fit_psnr" in file else []
        objects_count, views_count = file["rgb"].shape[:2]
    unusable = sum(value not in artifact.USABLE for value in status)
    counts = {value: status.count(value) for value in dict.fromkeys(status)}
    fit = f", reconstructed at {sum(psnr) / len(psnr):.1f} dB" if psnr and not unusable else ""
    reporter.result(
        {
            "objects": objects_count,
            "views": views_count,
            "statuses": counts,
            "fit_psnr_db": psnr,
            "output": str(output),
        },
        f"{objects_count} objects, {views_count} views each{fit} -> {output}" + other_statuses(counts),
    )
    runtime.check_strict(strict, unusable, objects_count)
