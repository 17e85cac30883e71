"""``nerfgen render``: views of training objects, of objects of other files, and of new photographs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import choices, runtime, views
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen render photos/model.h5 --rows 0,5-9 --sheet turned.png",
    "nerfgen render photos/model.h5 --rows 3 --orbit 48 --size 512 --video turn.mp4",
    "nerfgen render photos/model.h5 --rows 3 --yaw -40:40:9 --pitch -15,0,15 --png views --kinds rgba,depth,normals",
    "nerfgen render photos/model.h5 --image me.jpg --tune --yaw -40,-20,0,20,40 --sheet me.png",
    "nerfgen render photos/model.h5 --image album --yaw 0 -o album.h5 --json",
    "nerfgen render photos/model.h5 --codes photos/fitted.h5:0 --path flight.json --video me.mp4 -o flight.h5",
)


_FITTING = "Fitting"
# Photographs told one by one where a person reads; all are in the file and in the JSON.
_TOLD = 20


class StartName(StrEnum):
    """Where latent fitting begins."""

    guess = "guess"
    mean = "mean"


def render(
    model: runtime.ModelFile,
    rows: views.Rows = "",
    codes: views.Codes = None,
    image: views.Photographs = None,
    landmarker: views.LandmarkerFile = None,
    fit_steps: views.FitSteps = 100,
    start: Annotated[
        StartName,
        typer.Option(
            help="Where a code begins: at the model's first [bold]guess[/bold] from the photograph, or at the "
            "[bold]mean[/bold] of all codes.",
            rich_help_panel=_FITTING,
        ),
    ] = StartName.guess,
    fit_cameras: Annotated[
        bool | None,
        typer.Option(
            "--fit-cameras/--no-fit-cameras",
            help="Refine the photographs' cameras together with their codes.",
            show_default="if training did",
            rich_help_panel=_FITTING,
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Then adjust the networks to each photograph; the change is kept in the output.",
            rich_help_panel=_FITTING,
        ),
    ] = False,
    tune_steps: Annotated[int, typer.Option(min=1, help="Steps of --tune.", rich_help_panel=_FITTING)] = 100,
    seed: runtime.Seed = 0,
    workers: runtime.Workers = 0,
    yaw: views.Yaw = "",
    pitch: views.Pitch = "",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    fov: views.FieldOfView = 0.0,
    position: views.Position = "",
    look: views.Look = "",
    path: views.PathFile = None,
    save_path: views.SavePath = None,
    size: views.Size = 0,
    samples: views.Samples = 0,
    antialias: views.Antialias = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
    kinds: views.Kinds = "",
    fps: views.Fps = 0.0,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Render views of a model's objects; writes views.h5 (fitted.h5 with --image) beside the model.

    Without --rows, --codes and --image, the first eight rows of the table are rendered.
    Each object is shown as its own photograph shows it, then from every angle. With --image, photographs go
    through landmarks, cameras, masks and latent fitting first, all of them together; what is found for each, its
    code among it, is in the output, which --codes and other commands take in place of rows of the table.
    """
    sources = {"--rows": rows, "--codes": codes, "--image": image}
    choices.exclude(sources, "--image", "--rows", "--codes")
    choices.exclude(sources, "--codes", "--rows")
    cameras = choices.CameraChoice(yaw, pitch, orbit, distance, fov, position, look, path)
    pictures = choices.PictureChoice(png, sheet, video, save_path, kinds, fps)

    from nerfgen import artifact, field, generate
    from nerfgen.errors import InputError
    from nerfgen.generate.codes import parse_numbers
    from nerfgen.generate.photograph import photograph_files
    from nerfgen.photo import digest_images

    if tune and not image:
        raise InputError("--tune adjusts the networks to photographs; give some with --image")
    model_file = field.model_file(model)
    trained = field.load_model(model_file)
    output = output or model_file.with_name("fitted.h5" if image else "views.h5")
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    size = size or trained.size
    antialias = antialias or generate.fitting_antialias(trained, size)
    chosen = cameras.of(trained.object_class, trained.distance)
    pictures.check(chosen.path)
    files, names = photograph_files(image or [])
    references = [generate.file_reference(reference) for reference in codes or []]
    if output.resolve() in [file.resolve() for file, _ in references]:
        raise InputError(f"{output} is what --codes reads; give -o FILE for another place")
    table = []
    if not image and not codes:
        count = len(trained.images)
        table = parse_numbers(rows or f"0-{min(7, count - 1)}", count, f"--rows {rows}", "rows")
    parameters = {
        "rows": table,
        "codes": [f"{file.name}:{which}" for file, which in references],
        **chosen.parameters,
        "size": size,
        "samples": samples,
        "antialias": antialias,
        "fit_steps": fit_steps if image else 0,
        "start": start.value if image else "",
        "fit_cameras": fit_cameras if image else None,
        "tune_steps": tune_steps if tune else 0,
        "seed": seed if image else 0,
    }
    model_record = artifact.file_record(model_file)
    read = dict.fromkeys(file for file, _ in references)
    inputs = [model_record, *chosen.inputs, *(artifact.file_record(file) for file in read)]
    if image:
        digests = digest_images(Path(), [str(file) for file in files])
        inputs.append(artifact.folder_record(names, digests))
        inputs += [artifact.file_record(landmarker)] if landmarker else []
    about: artifact.About = {"object_class": trained.object_class, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(output, "views/1", **about, overwrite=overwrite):
        reporter.kept(output)
    else:
        if image:
            with reporter.progress("fitting", "steps") as progress:
                objects = generate.photograph_objects(
                    trained,
                    image,
                    steps=fit_steps,
                    start=start.value,
                    fit_cameras=fit_cameras,
                    tune_steps=tune_steps if tune else 0,
                    seed=seed,
                    landmarker=landmarker,
                    workers=workers,
                    progress=progress,
                    warn=reporter.say,
                )
        elif codes:
            stored = [generate.stored_objects(trained, model_record["sha256"], *each) for each in references]
            objects = generate.joined(stored)
        else:
            objects = generate.table_objects(trained, table)
        with reporter.progress("rendering", "objects") as progress:
            generate.render_to_file(
                trained,
                objects,
                output,
                cameras=chosen.path.cameras,
                size=size,
                samples=samples,
                antialias=antialias,
                about=about,
                progress=progress,
            )
    pictures.write(output, trained, model_file.parent, chosen.path, reporter)
    with artifact.reading(output, "views/1") as file:
        status = artifact.strings(file["status"])
        objects_count, views_count = file["rgb"].shape[:2]
        fitted = _told_photographs(file) if image else []
    unusable = sum(value not in artifact.USABLE for value in status)
    counts = {value: status.count(value) for value in dict.fromkeys(status)}
    lines = [f"{objects_count} objects, {views_count} views each -> {output}" + other_statuses(counts)]
    for each in fitted[:_TOLD]:
        found = "" if each["psnr_db"] is None else f", {each['psnr_db']:.1f} dB, {each['iterations']} steps"
        lines.append(f"  {each['name']}: {each['status']}{found}")
    if len(fitted) > _TOLD:
        lines.append(
            f"  and {len(fitted) - _TOLD} more, in name, status, fit_psnr and fit_iterations of the file"
        )
    reporter.result(
        {
            "objects": objects_count,
            "views": views_count,
            "statuses": counts,
            "photographs": fitted,
            "output": str(output),
        },
        "\n".join(lines),
    )
    runtime.check_strict(strict, unusable, objects_count)


def _told_photographs(file: Any) -> list[dict[str, Any]]:
    """What became of each photograph of a views file."""
    from nerfgen import artifact

    return [
        {"name": name, "status": status, "psnr_db": psnr if psnr == psnr else None, "iterations": steps}
        for name, status, psnr, steps in zip(
            artifact.strings(file["name"]),
            artifact.strings(file["status"]),
            file["fit_psnr"][:].tolist(),
            file["fit_iterations"][:].tolist(),
            strict=True,
        )
    ]
