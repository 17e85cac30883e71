"""``nerfgen export``: surfaces of a model's objects as meshes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import choices, runtime, views

EPILOG = runtime.examples(
    "Examples",
    "nerfgen export photos/model.h5 --rows 3 -o head.glb",
    "nerfgen export photos/model.h5 --rows 0-9 --faces 20000 -o heads/head.ply",
    "nerfgen export photos/model.h5 --image me.jpg --watertight -o me.obj",
)

_SURFACE = "Surface"
# Files that are recorded one by one.
_FEW = 4


def export(
    model: runtime.ModelFile,
    rows: views.Rows = "",
    codes: views.Codes = None,
    image: views.Photographs = None,
    landmarker: views.LandmarkerFile = None,
    fit_steps: views.FitSteps = 100,
    seed: runtime.Seed = 0,
    workers: runtime.Workers = 0,
    resolution: Annotated[
        int,
        typer.Option(
            min=8,
            max=1024,
            help="Cells of the grid along the longest edge of the class's box.",
            rich_help_panel=_SURFACE,
        ),
    ] = 128,
    level: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Density of the surface, per world unit; 0: where rendering shows it, for each object.",
            rich_help_panel=_SURFACE,
        ),
    ] = 0.0,
    largest: Annotated[
        bool,
        typer.Option(
            "--largest/--all-parts",
            help="Keep the largest of separate parts alone, or all.",
            rich_help_panel=_SURFACE,
        ),
    ] = True,
    watertight: Annotated[
        bool,
        typer.Option(
            "--watertight/--open",
            help="Close the surface where the box cuts the object, or leave it open.",
            rich_help_panel=_SURFACE,
        ),
    ] = False,
    faces: Annotated[
        int,
        typer.Option(min=0, help="Simplify to so many triangles; 0: keep all.", rich_help_panel=_SURFACE),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.glb|.ply|.obj",
            help="File to write; with several objects, each one's number is put before the suffix: head_0000.glb.",
            show_default="mesh.glb beside the model",
            rich_help_panel="Output",
        ),
    ] = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Export the surface of a model's objects as meshes with colours and normals; writes GLB, PLY or OBJ.

    The surface is an isosurface of the density, at the level that agrees best with what rendering shows. Vertices
    are in world units, y up.
    """
    sources = {"--rows": rows, "--codes": codes, "--image": image}
    choices.exclude(sources, "--image", "--rows", "--codes")
    choices.exclude(sources, "--codes", "--rows")

    from nerfgen import artifact, field, generate, surface
    from nerfgen.errors import InputError, UnusableImagesError
    from nerfgen.generate.codes import parse_numbers
    from nerfgen.generate.photograph import photograph_files

    if not any(sources.values()):
        raise InputError("which objects? give --rows such as 3, --codes FILE or --image PHOTO")
    model_file = field.model_file(model)
    output = output or model_file.with_name("mesh.glb")
    surface.check_mesh_name(output)
    trained = field.load_model(model_file)
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    meshing = surface.Meshing(resolution, level, largest, watertight, faces)
    table = parse_numbers(rows, len(trained.images), f"--rows {rows}", "rows") if rows else []
    photographs, called = photograph_files(image or [])
    stored, files = generate.referenced(trained, codes or [])
    names = [*(f"row {row}" for row in table), *stored, *called]
    model_record = artifact.file_record(model_file)
    made_with = asdict(meshing) | ({"fit_steps": fit_steps, "seed": seed} if image else {})
    abouts: list[artifact.About] = [
        {
            "object_class": trained.object_class,
            "parameters": {"object": name, **made_with},
            "inputs": [
                model_record,
                *_records([*(files or photographs), *([landmarker] if landmarker else [])]),
            ],
        }
        for name in names
    ]
    outputs = [output]
    if len(names) > 1:
        outputs = [output.with_stem(f"{output.stem}_{number:04d}") for number in range(len(names))]
    wanted = [
        number
        for number, (file, about) in enumerate(zip(outputs, abouts, strict=True))
        if not surface.is_current(file, about, overwrite=overwrite)
    ]
    for number in sorted({*range(len(names))} - {*wanted}):
        reporter.kept(outputs[number])
    status = ["ok"] * len(names)
    if wanted:
        if image:
            with reporter.progress("fitting", "steps") as progress:
                objects = generate.photograph_objects(
                    trained,
                    image,
                    steps=fit_steps,
                    seed=seed,
                    landmarker=landmarker,
                    workers=workers,
                    progress=progress,
                    warn=reporter.say,
                )
        elif codes:
            objects = generate.find_objects(trained, model_record["sha256"], codes)
        else:
            objects = generate.table_objects(trained, table)
        with reporter.progress("meshing", "objects") as progress:
            status = surface.write_objects(
                trained,
                objects,
                {number: (outputs[number], abouts[number]) for number in wanted},
                meshing,
                progress=progress,
            )
    usable = [value in artifact.USABLE for value in status]
    reasons = [
        f"{name}: {value}" for name, value, good in zip(names, status, usable, strict=True) if not good
    ]
    if not any(usable):
        raise InputError(f"no object can be exported ({'; '.join(reasons)})")
    for reason in reasons:
        reporter.say(f"{reason}; it has no mesh")
    results = [
        {"object": name, "status": value} | (_told(file) if good else {})
        for name, value, file, good in zip(names, status, outputs, usable, strict=True)
    ]
    lines = [_line(result, largest) for result in results if "output" in result]
    reporter.result({"objects": results}, "\n".join(lines))
    if strict and reasons:
        raise UnusableImagesError(f"{len(reasons)} of {len(names)} objects have no mesh")


def _records(files: list[Path]) -> list[dict[str, Any]]:
    """Provenance of what objects came from: many files as one record, because it stands in every mesh."""
    from nerfgen import artifact

    if len(files) <= _FEW:
        return [artifact.file_record(file) for file in files]
    return [artifact.folder_record([file.name for file in files], map(artifact.file_digest, files))]


def _told(file: Path) -> dict[str, Any]:
    """What a mesh says of itself."""
    from nerfgen import surface

    return {"output": str(file), **json.loads(surface.read_account(file)["surface"])}


def _line(result: dict[str, Any], largest: bool) -> str:
    others = result["parts"] - 1
    parts = f"; {others} smaller part{'s' * (others > 1)} left out" if others and largest else ""
    return (
        f"{result['object']}: {result['faces']:,} triangles, {'watertight' if result['watertight'] else 'open'}, "
        f"at density {result['level']:.1f} -> {result['output']}{parts}"
    )
