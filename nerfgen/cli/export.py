"""``nerfgen export``: surfaces of a model's objects as meshes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nerfgen.cli import runtime
from nerfgen.cli.objects import Selection
from nerfgen.cli.progress import Messages
from nerfgen.inversion import FitSettings
from nerfgen.mesh import MeshSettings
from nerfgen.settings import setting
from nerfgen.storage import InputRecord, Record

if TYPE_CHECKING:
    from nerfgen.model import Model

EPILOG = runtime.examples(
    "Examples",
    "nerfgen export photos/model.h5 --rows 3 -o head.glb",
    "nerfgen export photos/model.h5 --rows 0-9 --faces 20000 -o heads/head.ply",
    "nerfgen export photos/model.h5 --image me.jpg --watertight -o me.obj",
)

# Files that are recorded one by one.
_FEW = 4


@dataclass(frozen=True)
class MeshFile(runtime.OutputFile, title="Output"):
    """The file, or the files, of meshes."""

    output: Path | None = setting(
        None,
        option=("-o", "--output"),
        metavar="FILE.glb|.ply|.obj",
        default_text="mesh.glb beside the model",
        help="File to write; with several objects, the number of each is added to the name: head_0000.glb.",
    )


def export(
    model: runtime.ModelFile,
    *,
    objects: Selection,
    fitting: FitSettings,
    meshing: MeshSettings,
    output: MeshFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Export the surfaces of a model's objects as meshes with colours and normals; writes GLB, PLY or OBJ.

    The surface is an isosurface of the density, at the level that agrees best with what rendering shows. Vertices
    are in world units, y up.
    """
    from nerfgen import mesh, storage
    from nerfgen.errors import InputError, UnusableImagesError
    from nerfgen.model import load_model, model_file

    objects.check_fitting()
    if objects.is_empty:
        raise InputError("no objects were selected; give `rows` such as 3, `codes`, `image`, `new` or `axes`")
    path = model_file(model)
    file = output.output or path.with_name("mesh.glb")
    mesh.check_mesh_name(file)
    trained = load_model(path)
    reporter = messages.reporter()
    rows = objects.table_rows(trained)
    names, sources = _names_and_sources(trained, objects, rows, fitting)
    model_record = storage.file_record(path)
    parameters = asdict(meshing) | objects.parameters | (fitting.parameters if objects.image else {})
    outputs = [file]
    if len(names) > 1:
        outputs = [file.with_stem(f"{file.stem}_{number:04d}") for number in range(len(names))]
    inputs = [model_record, *_records(sources)]
    stages = [
        storage.Stage(
            output_file,
            mesh.MESH_SCHEMA,
            trained.object_class,
            parameters={"object": name, **parameters},
            inputs=inputs,
        )
        for name, output_file in zip(names, outputs, strict=True)
    ]
    wanted = [
        number
        for number, stage in enumerate(stages)
        if not mesh.is_current(stage, overwrite=output.overwrite)
    ]
    for number in sorted({*range(len(names))} - {*wanted}):
        reporter.kept(outputs[number])
    status = ["ok"] * len(names)
    if wanted:
        loaded = objects.load(trained, model_record, rows, fitting, reporter)
        with reporter.progress("meshing", "objects") as progress:
            status = mesh.write_objects(
                trained, loaded, {number: stages[number] for number in wanted}, meshing, progress=progress
            )
    usable = [value in storage.USABLE for value in status]
    reasons = [
        f"{name}: {value}" for name, value, good in zip(names, status, usable, strict=True) if not good
    ]
    if not any(usable):
        raise InputError(f"no object can be exported ({'; '.join(reasons)})")
    for reason in reasons:
        reporter.say(f"{reason}; it has no mesh")
    results = [
        {"object": name, "status": value} | (_described(output_file) if good else {})
        for name, value, output_file, good in zip(names, status, outputs, usable, strict=True)
    ]
    lines = [_line(result, meshing.largest) for result in results if "output" in result]
    reporter.result({"objects": results}, "\n".join(lines))
    if strict and reasons:
        raise UnusableImagesError(f"{len(reasons)} of {len(names)} objects have no mesh")


_File = tuple[str, tuple[int, str]]


def _names_and_sources(
    model: Model, objects: Selection, rows: list[int], fitting: FitSettings
) -> tuple[list[str], list[_File]]:
    """A name for each object, and names and digests of the files that the objects are from."""
    from nerfgen import storage
    from nerfgen.inversion import name_images
    from nerfgen.model import resolve_references

    if objects.image:
        images, names = name_images(objects.image)
        files = [(image.name, image.digest) for image in images]
        if fitting.landmarker:
            files.append((fitting.landmarker.name, storage.file_digest(fitting.landmarker)))
        return names, files
    if objects.codes:
        names, paths = resolve_references(model, objects.codes)
        return names, [(path.name, storage.file_digest(path)) for path in paths]
    if rows:
        return [f"row {row}" for row in rows], []
    return ["mean" if objects.new is None else f"new {objects.new}"], []


def _records(files: list[_File]) -> list[InputRecord]:
    """Provenance of the objects' files: many as one record, because every mesh has it."""
    from nerfgen import storage

    if len(files) <= _FEW:
        return [{"file": name, "size": size, "sha256": sha256} for name, (size, sha256) in files]
    return [storage.folder_record([name for name, _ in files], [digest for _, digest in files])]


def _described(file: Path) -> Record:
    """The result of a mesh, as its file records it."""
    from nerfgen import mesh

    return {"output": str(file), **json.loads(mesh.read_provenance(file)["surface"])}


def _line(result: Record, largest: bool) -> str:
    others = result["parts"] - 1
    parts = f"; {others} smaller part{'s' * (others > 1)} left out" if others and largest else ""
    return (
        f"{result['object']}: {result['faces']:,} triangles, {'watertight' if result['watertight'] else 'open'}, "
        f"at density {result['level']:.1f} -> {result['output']}{parts}"
    )
